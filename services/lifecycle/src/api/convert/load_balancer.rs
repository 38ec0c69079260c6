//! Infra Services of load balancers → messages.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;
use prost_types::Timestamp;
use steading_api::{
    lifecycle::v1::{
        LoadBalancer as Message, LoadBalancerEndpoint, LoadBalancerFieldNote, LoadBalancerIngress, LoadBalancerPort,
        load_balancer::State,
    },
    types::v1::{Condition, ConditionStatus},
};
use steading_infra::labels;
use steading_model::name::{LoadBalancerName, MachineName};
use steading_runtime::standard::time;

use crate::plan::load_balancer::{
    FieldNote,
    hold::{Hold, hold_of},
    ingress_of,
};

/// The resource that an infra Service is, with the slices of its endpoints.
pub fn message(object: &Service, slices: &[Arc<EndpointSlice>]) -> Option<Message> {
    let cluster = object.namespace()?;
    let (namespace, service) = object.annotations().get(labels::TENANT_SERVICE)?.split_once('/')?;
    let name = LoadBalancerName::from_object(&cluster, &format!("{namespace}.{service}"))?;
    let spec = object.spec.clone().unwrap_or_default();
    let notes: Vec<FieldNote> = object
        .annotations()
        .get(labels::FIELD_NOTES)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let endpoints = endpoints_of(&cluster, slices);
    let hold = hold_of(object);
    let ingress = ingress_of(Some(object));
    let conditions = conditions_of(
        object,
        !ingress.is_empty(),
        &endpoints,
        &notes,
        hold.as_ref(),
        time(object.metadata.creation_timestamp.as_ref()),
    );
    let state = match (object.metadata.deletion_timestamp.is_some(), ingress.is_empty()) {
        (true, _) => State::Deleting,
        (false, true) => State::Pending,
        (false, false) if endpoints.iter().any(|one| one.ready) => State::Ready,
        (false, false) => State::Degraded,
    };
    let affinity = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(Message {
        name: name.to_string(),
        state: state.into(),
        conditions,
        reconciling: matches!(state, State::Pending | State::Deleting),
        tenant_namespace: namespace.to_owned(),
        tenant_service: service.to_owned(),
        infra_service: object.name_any(),
        ports: ports_of(&spec),
        external_traffic_policy: spec.external_traffic_policy.unwrap_or_default(),
        health_check_node_port: spec.health_check_node_port.unwrap_or_default(),
        source_ranges: spec.load_balancer_source_ranges.unwrap_or_default(),
        load_balancer_class: spec.load_balancer_class.unwrap_or_default(),
        ip_families: spec.ip_families.unwrap_or_default(),
        ip_family_policy: spec.ip_family_policy.unwrap_or_default(),
        session_affinity: spec.session_affinity.unwrap_or_default(),
        session_affinity_timeout: affinity.map(|seconds| prost_types::Duration {
            seconds: seconds.into(),
            nanos: 0,
        }),
        allocate_node_ports: spec.allocate_load_balancer_node_ports,
        external_ips: spec.external_ips.unwrap_or_default(),
        requested_address: spec.load_balancer_ip.unwrap_or_default(),
        ingress: ingress
            .into_iter()
            .map(|one| LoadBalancerIngress {
                ip: one.ip.unwrap_or_default(),
                hostname: one.hostname.unwrap_or_default(),
                ip_mode: one.ip_mode.unwrap_or_default(),
            })
            .collect(),
        endpoints,
        field_notes: notes
            .into_iter()
            .map(|one| LoadBalancerFieldNote {
                field: one.field,
                message: one.message,
            })
            .collect(),
        ..Message::default()
    })
}

/// The machines behind a load balancer, as its slices have them: one slice for each IP family that it uses.
fn endpoints_of(cluster: &str, slices: &[Arc<EndpointSlice>]) -> Vec<LoadBalancerEndpoint> {
    let mut by_machine: BTreeMap<&str, LoadBalancerEndpoint> = BTreeMap::new();
    for endpoint in slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
        let machine = endpoint.hostname.as_deref().unwrap_or_default();
        let shown = by_machine.entry(machine).or_insert_with(|| LoadBalancerEndpoint {
            machine: MachineName::from_object(cluster, machine)
                .map(|name| name.to_string())
                .unwrap_or_default(),
            addresses: Vec::new(),
            ready: endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                .unwrap_or(true),
        });
        shown.addresses.extend(endpoint.addresses.iter().cloned());
    }
    by_machine.into_values().collect()
}

fn ports_of(spec: &k8s_openapi::api::core::v1::ServiceSpec) -> Vec<LoadBalancerPort> {
    let ports = spec.ports.iter().flatten();
    ports
        .map(|port| LoadBalancerPort {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_default(),
            app_protocol: port.app_protocol.clone().unwrap_or_default(),
            port: port.port,
            machine_port: match port.target_port {
                Some(IntOrString::Int(number)) => number,
                Some(IntOrString::String(_)) | None => 0,
            },
        })
        .collect()
}

fn conditions_of(
    object: &Service,
    assigned: bool,
    endpoints: &[LoadBalancerEndpoint],
    notes: &[FieldNote],
    hold: Option<&Hold>,
    since: Option<Timestamp>,
) -> Vec<Condition> {
    let ready = endpoints.iter().filter(|one| one.ready).count();
    let make = |kind: &str, holds: bool, reason: &str, message: String| Condition {
        r#type: kind.to_owned(),
        status: if holds {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        }
        .into(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: object.metadata.generation.unwrap_or_default(),
    };
    let said: Vec<String> = notes
        .iter()
        .map(|one| format!("{}: {}", one.field, one.message))
        .collect();
    let address = match hold {
        Some(hold) if !assigned => (hold.reason.as_str(), hold.message.clone()),
        Some(_) | None if assigned => ("Assigned", String::new()),
        Some(_) | None => ("Pending", "the infra cluster has given no address yet".into()),
    };
    let kept_back = hold.filter(|_| assigned);
    vec![
        make("AddressAssigned", assigned, address.0, address.1),
        make(
            "EndpointsReady",
            ready > 0,
            if ready > 0 { "Ready" } else { "NoReadyMachine" },
            format!("{ready} machines are ready"),
        ),
        match kept_back {
            Some(hold) => make("FieldsApplied", false, hold.reason.as_str(), hold.message.clone()),
            None => make(
                "FieldsApplied",
                said.is_empty(),
                if said.is_empty() { "Applied" } else { "NotCarriedOver" },
                said.join("; "),
            ),
        },
    ]
}
