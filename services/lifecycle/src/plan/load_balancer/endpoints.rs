//! Renders the endpoints of a load balancer: the addresses of the machines behind it, by IP family, at most 100 a slice.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{Node, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;

use super::{Balanced, decide::covers, labels_of};

/// Endpoints in one slice, as Kubernetes' own controller writes them.
pub const ENDPOINTS_PER_SLICE: usize = 100;
/// Label by which kube-proxy finds the slices of a Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that keeps Kubernetes' own controllers away from our slices.
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Node label by which a tenant takes a node out of its load balancers.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Taint by which cluster-autoscaler announces that a node is about to go.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A machine that may stand behind load balancers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Name of machine and tenant node.
    pub machine: String,
    /// Infra node, which makes `externalTrafficPolicy: Local` true in the infra cluster too.
    pub infra_node: Option<String>,
    /// Zone of the infra node.
    pub zone: Option<String>,
    /// Addresses of the VMI.
    pub addresses: Vec<IpAddr>,
    /// Whether it takes traffic.
    pub state: BackendState,
}

/// Whether a machine takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// It does.
    Ready,
    /// Not now: its guest or its node is not ready.
    NotReady,
    /// Taken out, or leaving.
    Excluded,
}

/// Whether a machine is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It stays.
    No,
    /// It is being drained or deleted.
    Yes,
}

/// What is seen of a machine's node in the tenant cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NodeView<'a> {
    /// As it was seen last.
    Present(&'a Node),
    /// There is none.
    Absent,
    /// The tenant was not reached since this process began.
    Unknown,
}

/// Whether a machine takes traffic: its guest runs, its node is ready, and nobody took it out. A node that is not known is no reason
/// to take traffic from a guest that runs.
pub fn judge(running: bool, node: NodeView<'_>, leaving: Leaving) -> BackendState {
    let node = match node {
        NodeView::Present(node) => node,
        NodeView::Unknown if leaving == Leaving::Yes => return BackendState::Excluded,
        NodeView::Unknown if running => return BackendState::Ready,
        NodeView::Unknown | NodeView::Absent => return BackendState::NotReady,
    };
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    if leaving == Leaving::Yes
        || node.labels().contains_key(EXCLUDED)
        || taints.iter().any(|taint| taint.key == TO_BE_DELETED)
    {
        return BackendState::Excluded;
    }
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|one| one.type_ == "Ready" && one.status == "True");
    if running && ready {
        BackendState::Ready
    } else {
        BackendState::NotReady
    }
}

/// IP families of slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    fn has(self, address: &IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// What to do about one endpoint slice.
#[derive(Debug, Clone, PartialEq)]
pub enum SliceStep {
    /// Write it.
    Apply(Box<EndpointSlice>),
    /// Delete it, if it still has this uid.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// Brings the slices that are present to those that are wanted.
pub fn plan_slices(wanted: &[EndpointSlice], present: &[Arc<EndpointSlice>]) -> Vec<SliceStep> {
    let mut steps = Vec::new();
    for slice in wanted {
        let same = present.iter().find(|one| one.name_any() == slice.name_any());
        if !same.is_some_and(|one| covers(slice, one)) {
            steps.push(SliceStep::Apply(Box::new(slice.clone())));
        }
    }
    let unwanted = present
        .iter()
        .filter(|one| !wanted.iter().any(|slice| slice.name_any() == one.name_any()));
    steps.extend(unwanted.filter_map(|one| {
        Some(SliceStep::Delete {
            name: one.name_any(),
            uid: one.uid()?,
        })
    }));
    steps
}

/// The slices of an infra Service. `local` names the tenant nodes that have a ready pod of the Service, if only those may get
/// traffic (`externalTrafficPolicy: Local`).
pub fn render_slices(
    balanced: &Balanced,
    infra: &Service,
    backends: &[Backend],
    local: Option<&BTreeSet<String>>,
) -> Vec<EndpointSlice> {
    let families = infra
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.clone())
        .unwrap_or_default();
    let wanted = |family: Family| families.is_empty() || families.iter().any(|name| name == family.address_type());
    let mut chosen: Vec<&Backend> = backends
        .iter()
        .filter(|backend| backend.state != BackendState::Excluded)
        .filter(|backend| local.is_none_or(|nodes| nodes.contains(&backend.machine)))
        .collect();
    chosen.sort_by(|a, b| a.machine.cmp(&b.machine));
    let mut slices = Vec::new();
    for family in [Family::V4, Family::V6].into_iter().filter(|&family| wanted(family)) {
        let endpoints: Vec<Endpoint> = chosen
            .iter()
            .filter_map(|backend| endpoint_of(backend, family))
            .collect();
        for (at, part) in endpoints.chunks(ENDPOINTS_PER_SLICE).enumerate() {
            slices.push(EndpointSlice {
                metadata: metadata_of(balanced, infra, family, at),
                address_type: family.address_type().to_owned(),
                endpoints: Some(part.to_vec()),
                ports: Some(ports_of(infra)),
            });
        }
    }
    slices
}

fn endpoint_of(backend: &Backend, family: Family) -> Option<Endpoint> {
    // Only the first address of a list is ever used by kube-proxy.
    let address = backend.addresses.iter().find(|address| family.has(address))?;
    let ready = backend.state == BackendState::Ready;
    Some(Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(ready),
            terminating: Some(false),
        }),
        node_name: backend.infra_node.clone(),
        zone: backend.zone.clone(),
        hostname: Some(backend.machine.clone()),
        ..Endpoint::default()
    })
}

fn metadata_of(balanced: &Balanced, infra: &Service, family: Family, at: usize) -> ObjectMeta {
    let service = balanced.infra_name();
    let mut labels = labels_of(balanced);
    labels.insert(SERVICE_NAME.to_owned(), service.clone());
    labels.insert(
        SLICE_MANAGED_BY.to_owned(),
        steading_infra::labels::LIFECYCLE_MANAGER.to_owned(),
    );
    let owner = infra.uid().map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: service.clone(),
        uid,
        controller: Some(true),
        block_owner_deletion: None,
    });
    ObjectMeta {
        name: Some(format!("{service}-{}-{at}", family.short())),
        namespace: Some(balanced.cluster.clone()),
        labels: Some(labels),
        owner_references: owner.map(|owner| vec![owner]),
        annotations: Some(BTreeMap::new()),
        ..ObjectMeta::default()
    }
}

fn ports_of(infra: &Service) -> Vec<EndpointPort> {
    let ports = infra
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    ports
        .iter()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
            port: match port.target_port {
                Some(IntOrString::Int(number)) => Some(number),
                Some(IntOrString::String(_)) | None => None,
            },
        })
        .collect()
}
