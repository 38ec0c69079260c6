//! Renders a tenant's Service of type LoadBalancer as a Service of the infra cluster.
//!
//! Every field that means something outside the tenant cluster is written on every pass, also when it is empty, so that drift and
//! removals heal the same way. The infra Service has no selector: its endpoints are rendered by [`endpoints`].

pub mod admit;
pub mod allowances;
mod balanced;
pub mod decide;
pub mod endpoints;
pub mod hold;
#[cfg(test)]
mod tests;

use super::digest::short_digest;

pub use balanced::{Balanced, FieldNote, labels_of};

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::ResourceExt;
use serde_json::Value;
use steading_infra::labels;

use self::{
    allowances::{Allowances, Cidr},
    hold::{Hold, HoldReason},
};

/// Finalizer of every cloud provider on Services of type LoadBalancer.
pub const CLEANUP_FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// Load balancer classes of the tenant that mean Steading; what follows the prefix is the infra cluster's class, `default` its
/// default.
pub const CLASS_PREFIX: &str = "steading.dev/";
/// Prefixes of annotations that instruct an implementation of load balancers. They carry over as far as the operator allows; anything
/// else on the tenant's Service is the tenant's own business and stays there without a word.
pub const ANNOTATION_PREFIXES: [&str; 7] = [
    "metallb.io/",
    "metallb.universe.tf/",
    "lbipam.cilium.io/",
    "io.cilium/",
    "kube-vip.io/",
    "loadbalancer.openstack.org/",
    "service.beta.kubernetes.io/",
];
/// The older spelling of `loadBalancerSourceRanges`.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// Annotations in one infra Service; a tenant must not fill the infra cluster's database.
const ANNOTATIONS: usize = 32;

/// Whose a tenant's Service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is a load balancer, and ours; with the infra cluster's class, if it asks for one.
    Ours(Option<String>),
    /// It is none, or another controller's.
    NotOurs,
}

/// Whether a tenant's Service is ours. As for any cloud provider, a class that is not ours is another controller's.
pub fn claim_of(service: &Service) -> Claim {
    let Some(spec) = &service.spec else {
        return Claim::NotOurs;
    };
    if spec.type_.as_deref() != Some("LoadBalancer") || service.metadata.deletion_timestamp.is_some() {
        return Claim::NotOurs;
    }
    match spec.load_balancer_class.as_deref() {
        None | Some("") => Claim::Ours(None),
        Some(class) => match class.strip_prefix(CLASS_PREFIX) {
            Some("default" | "") => Claim::Ours(None),
            Some(infra) => Claim::Ours(Some(infra.to_owned())),
            None => Claim::NotOurs,
        },
    }
}

/// What a tenant's Service becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedBalancer {
    /// The infra Service.
    pub service: Service,
    /// What could not be carried over.
    pub notes: Vec<FieldNote>,
    /// Why it cannot be served as it is wanted.
    pub hold: Option<Hold>,
}

/// The infra Service that a tenant's Service wants. `current` is the one that exists, if it is not a placeholder.
pub fn render_service(
    balanced: &Balanced,
    tenant: &Service,
    class: Option<String>,
    current: Option<&Service>,
    allowances: &Allowances,
) -> RenderedBalancer {
    let wanted = tenant.spec.clone().unwrap_or_default();
    let present = current.and_then(|service| service.spec.as_ref());
    let (mut notes, mut hold) = (Vec::new(), None);
    let affinity = wanted.session_affinity.clone().unwrap_or_else(|| "None".to_owned());
    let local = wanted.external_traffic_policy.as_deref() == Some("Local");
    let (ip_families, ip_family_policy) = families_of(&wanted, present, &mut notes);
    let ports = ports_of(&wanted, &mut notes);
    if ports.is_empty() {
        let message = "no port of the Service has a node port, so traffic cannot reach the machines; set \
                       allocateLoadBalancerNodePorts";
        hold = Some(Hold::new(HoldReason::NoNodePorts, message));
    }
    let source_ranges = source_ranges_of(tenant, &wanted).unwrap_or_else(|bad| {
        hold = Some(Hold::new(HoldReason::InvalidSourceRanges, bad));
        Vec::new()
    });
    let spec = ServiceSpec {
        type_: Some("LoadBalancer".to_owned()),
        ports: Some(ports),
        external_traffic_policy: Some(if local { "Local" } else { "Cluster" }.to_owned()),
        // Chosen by the infra cluster: a tenant's number would take a node port there.
        health_check_node_port: present
            .filter(|_| local)
            .and_then(|present| present.health_check_node_port),
        load_balancer_source_ranges: Some(source_ranges),
        load_balancer_class: class_of(class, present, &mut notes),
        load_balancer_ip: Some(requested_address_of(&wanted, allowances, &mut notes)),
        ip_families,
        ip_family_policy,
        session_affinity_config: wanted
            .session_affinity_config
            .clone()
            .filter(|_| affinity == "ClientIP"),
        session_affinity: Some(affinity),
        allocate_load_balancer_node_ports: wanted.allocate_load_balancer_node_ports.or(Some(true)),
        external_ips: Some(external_ips_of(&wanted, allowances, &mut notes)),
        ..ServiceSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(balanced.infra_name()),
        namespace: Some(balanced.cluster.clone()),
        labels: Some(labels_of(balanced)),
        annotations: Some(annotations_of(balanced, tenant, allowances, &mut notes)),
        ..ObjectMeta::default()
    };
    let mut service = Service {
        metadata,
        spec: Some(spec),
        status: None,
    };
    // A field that is no longer wanted leaves no trace in what is wanted; the digest of all of it does.
    let digest = short_digest(&serde_json::to_string(&service).unwrap_or_default(), 16);
    service.annotations_mut().insert(labels::RENDERED.to_owned(), digest);
    RenderedBalancer { service, notes, hold }
}

fn note(field: impl Into<String>, message: impl Into<String>) -> FieldNote {
    FieldNote {
        field: field.into(),
        message: message.into(),
    }
}

fn external_ips_of(wanted: &ServiceSpec, allowances: &Allowances, notes: &mut Vec<FieldNote>) -> Vec<String> {
    let mut allowed = Vec::new();
    for (at, address) in wanted.external_ips.iter().flatten().enumerate() {
        if allowances.allows_external_ip(address) {
            allowed.push(address.clone());
        } else {
            notes.push(note(
                format!("spec.externalIPs[{at}]"),
                "not carried over: the operator does not allow this address",
            ));
        }
    }
    allowed
}

fn requested_address_of(wanted: &ServiceSpec, allowances: &Allowances, notes: &mut Vec<FieldNote>) -> String {
    let address = wanted.load_balancer_ip.clone().unwrap_or_default();
    if address.is_empty() || allowances.allows_requested(&address) {
        return address;
    }
    notes.push(note(
        "spec.loadBalancerIP",
        "not carried over: the operator does not allow this address; one is assigned",
    ));
    String::new()
}

/// Ranges that may reach the load balancer. They only ever narrow it, so that they carry over without being allowed; leaving one out
/// would open what the tenant wants closed.
fn source_ranges_of(tenant: &Service, wanted: &ServiceSpec) -> Result<Vec<String>, String> {
    let mut ranges = wanted.load_balancer_source_ranges.clone().unwrap_or_default();
    if ranges.is_empty()
        && let Some(text) = tenant.annotations().get(SOURCE_RANGES)
    {
        ranges = text
            .split(',')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect();
    }
    match ranges.iter().position(|range| range.trim().parse::<Cidr>().is_err()) {
        None => Ok(ranges.iter().map(|range| range.trim().to_owned()).collect()),
        Some(at) => Err(format!(
            "spec.loadBalancerSourceRanges[{at}] is not a range such as 192.0.2.0/24"
        )),
    }
}

fn annotations_of(
    balanced: &Balanced,
    tenant: &Service,
    allowances: &Allowances,
    notes: &mut Vec<FieldNote>,
) -> BTreeMap<String, String> {
    let is_instruction = |key: &str| ANNOTATION_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    let known = tenant
        .annotations()
        .iter()
        .filter(|(key, _)| is_instruction(key) && *key != SOURCE_RANGES);
    let (carried, denied): (Vec<_>, Vec<_>) = known.partition(|(key, _)| allowances.allows_annotation(key));
    for (key, _) in denied.into_iter().take(ANNOTATIONS) {
        let message = "not carried over: the operator does not allow this annotation";
        notes.push(note(format!("metadata.annotations[{key}]"), message));
    }
    if carried.len() > ANNOTATIONS {
        let message = format!("only the first {ANNOTATIONS} annotations of load balancer implementations carry over");
        notes.push(note("metadata.annotations", message));
    }
    let mut map: BTreeMap<String, String> = carried
        .into_iter()
        .take(ANNOTATIONS)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    map.insert(labels::TENANT_SERVICE.to_owned(), balanced.tenant_service());
    // Empty is written too, so that a reason that no longer holds leaves the object.
    map.insert(
        labels::FIELD_NOTES.to_owned(),
        serde_json::to_string(notes).unwrap_or_default(),
    );
    map.insert(labels::LOAD_BALANCER_HOLD.to_owned(), String::new());
    map
}

fn ports_of(wanted: &ServiceSpec, notes: &mut Vec<FieldNote>) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for (at, port) in wanted.ports.iter().flatten().enumerate() {
        let Some(node_port) = port.node_port.filter(|&number| number > 0) else {
            notes.push(note(
                format!("spec.ports[{at}].nodePort"),
                "the port has no node port in the tenant cluster, so traffic cannot reach its machines; set \
                 allocateLoadBalancerNodePorts",
            ));
            continue;
        };
        ports.push(ServicePort {
            name: port.name.clone(),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
            port: port.port,
            target_port: Some(IntOrString::Int(node_port)),
            node_port: None,
        });
    }
    ports
}

/// The first family can never change on a Service that exists.
fn families_of(
    wanted: &ServiceSpec,
    present: Option<&ServiceSpec>,
    notes: &mut Vec<FieldNote>,
) -> (Option<Vec<String>>, Option<String>) {
    let first = |spec: &ServiceSpec| spec.ip_families.as_ref().and_then(|families| families.first().cloned());
    if let Some(present) = present
        && let (Some(old), Some(new)) = (first(present), first(wanted))
        && old != new
    {
        let message = format!("the first IP family stays {old}: it cannot change; delete and recreate the Service");
        notes.push(note("spec.ipFamilies", message));
        return (present.ip_families.clone(), present.ip_family_policy.clone());
    }
    (wanted.ip_families.clone(), wanted.ip_family_policy.clone())
}

/// The class can never change on a Service that exists.
fn class_of(class: Option<String>, present: Option<&ServiceSpec>, notes: &mut Vec<FieldNote>) -> Option<String> {
    let Some(present) = present else { return class };
    if present.load_balancer_class != class {
        let message = "the class cannot change; delete and recreate the Service".to_owned();
        notes.push(note("spec.loadBalancerClass", message));
    }
    present.load_balancer_class.clone()
}

/// Whether everything that is wanted is there. Fields that are not wanted at all are not looked at; an empty value is wanted to be
/// absent or empty.
pub fn is_applied(wanted: &Value, present: Option<&Value>) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match (wanted, present) {
        (wanted, None) => is_empty(wanted),
        (Value::Object(wanted), Some(Value::Object(present))) => {
            wanted.iter().all(|(key, value)| is_applied(value, present.get(key)))
        }
        (Value::Array(wanted), Some(Value::Array(present))) => {
            wanted.len() == present.len() && wanted.iter().zip(present).all(|(a, b)| is_applied(a, Some(b)))
        }
        (wanted, Some(present)) => wanted == present || (is_empty(wanted) && is_empty(present)),
    }
}

/// The addresses of the infra Service, as the tenant's status should have them.
pub fn ingress_of(infra: Option<&Service>) -> Vec<LoadBalancerIngress> {
    let status = infra.and_then(|service| service.status.as_ref());
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.clone());
    ingress.unwrap_or_default()
}
