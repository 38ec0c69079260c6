//! What stands behind the load balancers of a cluster, and which of them the project's quota admits.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::ResourceExt;
use steading_infra::{
    intent::{Action, intents},
    kubevirt::{VirtualMachineInstance, virtual_machine_instance::VmiPhase},
    labels,
};

use super::{Observed, machine::addresses_of};
use crate::{
    plan::load_balancer::{
        Balanced, Claim,
        admit::{BalancerClaim, admit},
        claim_of,
        endpoints::{Backend, Leaving, NodeView, judge},
        hold::is_placeholder,
    },
    tenant::Tenant,
};

/// The machines of a cluster. What the infra cluster knows of them is current also while the tenant is away.
pub fn backends(observed: &Observed, namespace: &str, tenant: Option<&Tenant>) -> Vec<Backend> {
    observed
        .vms
        .list(namespace)
        .iter()
        .filter_map(|vm| {
            let vmi = observed.vmis.get(namespace, &vm.name_any())?;
            let node = tenant.and_then(|tenant| tenant.nodes.get("", &vm.name_any()));
            let cordoned = node
                .as_ref()
                .and_then(|node| node.spec.as_ref()?.unschedulable)
                .unwrap_or(false);
            // A machine that waits for its replacement or its relocation serves on until its own drain has begun.
            let asked = intents(vm.annotations()).into_iter().any(|intent| match intent.action {
                Action::ForceDelete | Action::Delete | Action::Drain | Action::Restart => true,
                Action::Relocate | Action::Replace => cordoned,
                Action::Migrate => false,
            });
            let leaving = vm.metadata.deletion_timestamp.is_some() || asked;
            let status = vmi.status.as_ref()?;
            let running = status.phase == Some(VmiPhase::Running) && vmi.metadata.deletion_timestamp.is_none();
            let zone = status.node_name.as_deref().and_then(|node| observed.zone_of(node).0);
            let view = match &node {
                Some(node) => NodeView::Present(node),
                None if tenant.is_some_and(Tenant::is_reachable) => NodeView::Absent,
                None => NodeView::Unknown,
            };
            Some(Backend {
                machine: vm.name_any(),
                infra_node: status.node_name.clone(),
                zone,
                addresses: parsed_addresses(&vmi),
                state: judge(running, view, if leaving { Leaving::Yes } else { Leaving::No }),
            })
        })
        .collect()
}

fn parsed_addresses(vmi: &VirtualMachineInstance) -> Vec<IpAddr> {
    addresses_of(vmi).iter().filter_map(|text| text.parse().ok()).collect()
}

/// The load balancers of a project that its quota admits, as (cluster, name).
pub fn admitted(observed: &Observed, project: &str) -> BTreeSet<(String, String)> {
    let limit = observed
        .projects
        .get("", project)
        .and_then(|project| project.spec.quota.get("loadBalancers")?.parse().ok());
    let mut claims: BTreeMap<(String, String), BalancerClaim> = BTreeMap::new();
    for cluster in observed.clusters.all().iter().filter(|one| one.spec.project == project) {
        let cluster = cluster.name_any();
        for service in observed.services.list(&cluster) {
            let claim = BalancerClaim {
                cluster: cluster.clone(),
                name: service.name_any(),
                served: !is_placeholder(&service),
                created: service.creation_timestamp().map(|time| time.0).unwrap_or_default(),
            };
            claims.insert((cluster.clone(), service.name_any()), claim);
        }
        let tenant = observed.tenant(&cluster);
        for service in tenant.iter().flat_map(|tenant| tenant.services.all()) {
            let Claim::Ours(_) = claim_of(&service) else { continue };
            let name = Balanced {
                cluster: cluster.clone(),
                namespace: service.namespace().unwrap_or_default(),
                service: service.name_any(),
            }
            .infra_name();
            let created = service.creation_timestamp().map(|time| time.0).unwrap_or_default();
            claims
                .entry((cluster.clone(), name.clone()))
                .and_modify(|claim| claim.created = created)
                .or_insert_with(|| BalancerClaim {
                    cluster: cluster.clone(),
                    name,
                    served: false,
                    created,
                });
        }
    }
    admit(limit, &claims.into_values().collect::<Vec<_>>())
}

/// The slices of each infra Service of a cluster, by the Service's name.
pub fn slices_by_service(observed: &Observed, namespace: &str) -> BTreeMap<String, Vec<Arc<EndpointSlice>>> {
    let mut by_service: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in observed.slices.list(namespace) {
        let service = slice.labels().get(labels::LOAD_BALANCER).cloned().unwrap_or_default();
        by_service.entry(service).or_default().push(slice);
    }
    by_service
}

/// Machines that slices have as endpoints.
pub fn machines_in(slices: &[Arc<EndpointSlice>]) -> BTreeSet<String> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    endpoints.filter_map(|one| one.hostname.clone()).collect()
}

/// Tenant nodes that have a ready pod behind the slices of a tenant's Service.
pub fn nodes_with_pods(slices: &[EndpointSlice]) -> BTreeSet<String> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let is_ready = |one: &&k8s_openapi::api::discovery::v1::Endpoint| {
        let conditions = one.conditions.as_ref();
        conditions.is_none_or(|conditions| conditions.ready.unwrap_or(true))
    };
    // An endpoint without a node name is not on a machine.
    endpoints
        .filter(is_ready)
        .filter_map(|one| one.node_name.clone())
        .collect()
}

/// Whether a load balancer hands traffic only to machines with a pod of its Service.
pub fn is_local(infra: &Service) -> bool {
    let policy = infra
        .spec
        .as_ref()
        .and_then(|spec| spec.external_traffic_policy.as_deref());
    policy == Some("Local")
}
