//! What a project uses of its quota.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use steading_infra::{cdi::DataVolume, kubevirt::VirtualMachine, labels};
use steading_model::quantity::Quantity;

use super::Observed;
use crate::plan::load_balancer::hold::is_placeholder;

/// Which machines are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Those that exist.
    Existing,
    /// Those that exist or are wanted: what a call that wants more has to leave room for.
    Wanted,
}

/// What a project uses, in the keys of its quota; sizes of machines as their pools resolve them, of volumes as they are wanted.
pub fn usage(observed: &Observed, project: &str, counted: Counted) -> BTreeMap<String, String> {
    let clusters: Vec<_> = observed
        .clusters
        .all()
        .into_iter()
        .filter(|c| c.spec.project == project)
        .collect();
    let (mut machines, mut vcpus, mut balancers) = (0_i64, 0_i64, 0_usize);
    let (mut memory, mut storage) = (Quantity::from_bytes(0), Quantity::from_bytes(0));
    for cluster in &clusters {
        let namespace = cluster.name_any();
        let served = |service: &&Arc<Service>| !is_placeholder(service);
        balancers += observed.services.list(&namespace).iter().filter(served).count();
        for volume in observed.volumes.list(&namespace) {
            storage = storage.saturating_add(size_of(&volume));
        }
        let vms = observed.vms.list(&namespace);
        for pool in observed.pools.list(&namespace) {
            let status = pool.status.clone().unwrap_or_default();
            let name = pool.name_any();
            let of_pool = |vm: &&Arc<VirtualMachine>| vm.labels().get(labels::POOL) == Some(&name);
            let exist = i64::try_from(vms.iter().filter(of_pool).count()).unwrap_or(i64::MAX);
            let wanted = i64::from(pool.spec.replicas.or(status.desired_replicas).unwrap_or_default());
            let count = match counted {
                Counted::Existing => exist,
                Counted::Wanted => exist.max(wanted),
            };
            machines += count;
            vcpus += count * i64::from(status.machine_vcpus.unwrap_or_default());
            let times = |text: Option<String>| {
                let bytes = text.and_then(|t| t.parse::<Quantity>().ok()).map_or(0, Quantity::bytes);
                Quantity::from_bytes(bytes.saturating_mul(u64::try_from(count).unwrap_or_default()))
            };
            memory = memory.saturating_add(times(status.machine_memory));
            storage = storage.saturating_add(times(status.machine_storage));
        }
    }
    BTreeMap::from([
        ("clusters".to_owned(), clusters.len().to_string()),
        ("machines".to_owned(), machines.to_string()),
        ("vcpus".to_owned(), vcpus.to_string()),
        ("memory".to_owned(), memory.to_string()),
        ("storage".to_owned(), storage.to_string()),
        ("loadBalancers".to_owned(), balancers.to_string()),
    ])
}

/// The size that a volume is wanted in: the one it was grown to, or the one it was made with.
fn size_of(volume: &DataVolume) -> Quantity {
    let grown = volume.annotations().get(labels::VOLUME_SIZE).cloned();
    let spec = serde_json::to_value(&volume.spec).unwrap_or_default();
    let made = ["/storage/resources/requests/storage", "/pvc/resources/requests/storage"]
        .iter()
        .find_map(|path| spec.pointer(path)?.as_str().map(str::to_owned));
    let text = grown.or(made).unwrap_or_default();
    text.parse().unwrap_or_else(|_| Quantity::from_bytes(0))
}
