//! What stands behind the load balancers of a cluster.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_infra::{
    error::InfraError,
    kubevirt::{VirtualMachineInstance, virtual_machine_instance::VmiPhase},
    labels,
};

use crate::{
    context::Context,
    error::Error,
    plan::load_balancer::{
        Balanced,
        endpoints::{Backend, Leaving, judge},
    },
    tenant::Tenant,
};

/// Intents under which a machine leaves its load balancers at once.
const LEAVING: [&str; 3] = [
    labels::DELETE_REQUESTED,
    labels::DRAIN_REQUESTED,
    labels::RESTART_REQUESTED,
];

/// The machines of a cluster.
pub(super) fn observe(context: &Context, namespace: &str, tenant: &Tenant) -> Vec<Backend> {
    let observed = &context.observed;
    observed
        .vms
        .list(namespace)
        .iter()
        .filter_map(|vm| {
            let vmi = observed.vmis.get(namespace, &vm.name_any())?;
            let node = tenant.nodes.get("", &vm.name_any());
            let cordoned = node
                .as_ref()
                .and_then(|node| node.spec.as_ref()?.unschedulable)
                .unwrap_or(false);
            let has = |key: &str| vm.annotations().contains_key(key);
            // A machine that waits for its replacement serves on until its own drain has begun.
            let draining = cordoned && (has(labels::REPLACE_REQUESTED) || has(labels::EVACUATION));
            let going = vm.metadata.deletion_timestamp.is_some() || LEAVING.iter().any(|key| has(key)) || draining;
            let status = vmi.status.as_ref()?;
            let running = status.phase == Some(VmiPhase::Running) && vmi.metadata.deletion_timestamp.is_none();
            let zone = status.node_name.as_deref().and_then(|node| observed.zone_of(node).0);
            Some(Backend {
                machine: vm.name_any(),
                infra_node: status.node_name.clone(),
                zone,
                addresses: addresses_of(&vmi),
                state: judge(running, node.as_deref(), if going { Leaving::Yes } else { Leaving::No }),
            })
        })
        .collect()
}

/// The addresses of the first interface that has any: the one that the infra cluster's network reaches.
fn addresses_of(vmi: &VirtualMachineInstance) -> Vec<IpAddr> {
    let interfaces = vmi
        .status
        .as_ref()
        .map(|status| status.interfaces.as_slice())
        .unwrap_or_default();
    interfaces
        .iter()
        .map(|one| {
            one.ip_addresses
                .iter()
                .chain(&one.ip_address)
                .filter_map(|text| text.parse().ok())
                .collect::<Vec<IpAddr>>()
        })
        .find(|addresses| !addresses.is_empty())
        .unwrap_or_default()
}

/// Tenant nodes that have a ready pod of the Service.
pub(super) async fn nodes_with_pods(client: &Client, balanced: &Balanced) -> Result<BTreeSet<String>, Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &balanced.namespace);
    let ours = ListParams::default().labels(&format!("kubernetes.io/service-name={}", balanced.service));
    let slices = api.list(&ours).await.map_err(|error| Error::Tenant {
        cluster: balanced.cluster.clone(),
        source: InfraError::from(error),
    })?;
    let endpoints = slices
        .items
        .into_iter()
        .flat_map(|slice| slice.endpoints.unwrap_or_default());
    // An endpoint without a node name is not on a machine.
    Ok(endpoints
        .filter(|one| {
            one.conditions
                .as_ref()
                .is_none_or(|conditions| conditions.ready.unwrap_or(true))
        })
        .filter_map(|one| one.node_name)
        .collect())
}
