//! Cluster, namespace, machines and tenant → [`ObservedCluster`].

use jiff::Timestamp;
use kube::ResourceExt;
use steading_infra::crd::Cluster;

use super::{Observed, machine::observe_machine};
use crate::plan::{
    ownership::whose,
    report::{Acceptance, NamespaceState, ObservedCluster, PoolTrouble},
};
use crate::tenant::Reach;

/// A cluster with all that is seen of it.
pub fn observe_cluster(
    observed: &Observed,
    cluster: &Cluster,
    acceptance: Acceptance,
    now: Timestamp,
) -> ObservedCluster {
    let name = cluster.name_any();
    let tenant = observed.tenant(&name);
    let machines: Vec<_> = observed
        .vms
        .list(&name)
        .iter()
        .map(|vm| observe_machine(observed, vm, now))
        .collect();
    let namespace = observed.namespaces.get("", &name);
    ObservedCluster {
        acceptance,
        namespace: NamespaceState::of(namespace.as_deref(), whose(namespace.as_deref(), cluster)),
        reach: tenant.as_ref().map_or_else(
            || Reach::Connecting("no connection yet".into()),
            |tenant| tenant.reach(),
        ),
        kinds: tenant.as_ref().map(|tenant| tenant.kinds()).unwrap_or_default(),
        endpoint: tenant.as_ref().map(|tenant| tenant.endpoint()).unwrap_or_default(),
        tenant_uid: tenant.as_ref().and_then(|tenant| tenant.uid()),
        machines: machines.len(),
        ready_machines: machines.iter().filter(|machine| machine.is_ready()).count(),
        volumes: observed.volumes.count(&name),
        pool_trouble: observed
            .pools
            .list(&name)
            .iter()
            .filter_map(|pool| PoolTrouble::of(pool))
            .min_by(|one, other| one.pool.cmp(&other.pool)),
    }
}
