//! Holds pools to their project's quota.

use std::sync::Arc;

use kube::ResourceExt;
use steading_infra::{crd::MachinePool, intent::wants_deletion, kubevirt::VirtualMachine, labels};
use steading_model::quantity::Quantity;

use crate::{
    apply::render::PoolPlace,
    context::Context,
    domain::{
        pool::{DesiredPool, desired_replicas},
        rendering::Rendering,
    },
    observe::pool::trouble::Trouble,
    plan::quota::{Amounts, Claim, Quota, allowance},
};

/// Lowers what a pool wants to what the quota of its project allows; says so if that is less.
pub(super) fn hold(
    context: &Context,
    place: &PoolPlace,
    pool: &MachinePool,
    rendering: &Rendering,
    desired: &mut DesiredPool,
) -> Option<Trouble> {
    let project = context.observed.projects.get("", &place.cluster.project)?;
    let quota = Quota::of(&project.spec.quota);
    if quota.is_empty() {
        return None;
    }
    let claims = claims(context, &place.cluster.project, pool, rendering);
    let allowed = allowance(&quota, &claims, &order(pool))?;
    desired.most = Some(allowed.most);
    let short = allowed.short?;
    let text = format!(
        "{} of {} machines: the quota of projects/{} for {short} leaves no room for more",
        allowed.machines, desired.replicas, place.cluster.project
    );
    desired.replicas = allowed.machines;
    Some(Trouble::new("QuotaExceeded", text))
}

fn order(pool: &MachinePool) -> (jiff::Timestamp, String, String) {
    let made = pool.creation_timestamp().map(|time| time.0).unwrap_or_default();
    (made, pool.namespace().unwrap_or_default(), pool.name_any())
}

/// All pools of a project; sizes as they were resolved last, this pool's as they are now.
fn claims(context: &Context, project: &str, this: &MachinePool, rendering: &Rendering) -> Vec<Claim> {
    let observed = &context.observed;
    let mut claims = Vec::new();
    for cluster in observed.clusters.all().iter().filter(|c| c.spec.project == project) {
        let namespace = cluster.name_any();
        let vms = observed.vms.list(&namespace);
        for pool in observed.pools.list(&namespace) {
            let name = pool.name_any();
            let of_pool = |vm: &&Arc<VirtualMachine>| vm.labels().get(labels::POOL) == Some(&name);
            let is_current = |vm: &&Arc<VirtualMachine>| {
                vm.metadata.deletion_timestamp.is_none() && !wants_deletion(vm.annotations())
            };
            let present = vms.iter().filter(of_pool).count();
            let current = vms.iter().filter(of_pool).filter(is_current).count();
            let status = pool.status.clone().unwrap_or_default();
            let is_this = pool.uid() == this.uid();
            let each = if is_this {
                amounts(rendering.vcpus, &rendering.memory, &rendering.storage)
            } else {
                let text = |text: Option<String>| text.unwrap_or_default();
                amounts(
                    status.machine_vcpus.unwrap_or_default(),
                    &text(status.machine_memory),
                    &text(status.machine_storage),
                )
            };
            let terminating = pool.metadata.deletion_timestamp.is_some();
            let wanted = desired_replicas(&pool.spec, status.desired_replicas, current);
            let is_rolling = || {
                let rolling = status.conditions.iter().find(|c| c.type_ == "RollingOut");
                rolling.is_some_and(|c| c.status == "True")
            };
            let surge = || DesiredPool::of(&pool.spec, wanted, None).surge();
            claims.push(Claim {
                order: order(&pool),
                wanted: if terminating { 0 } else { wanted },
                surge: if is_this || is_rolling() { surge() } else { 0 },
                current,
                present,
                each,
            });
        }
    }
    claims
}

fn amounts(vcpus: i32, memory: &str, storage: &str) -> Amounts {
    let bytes = |text: &str| text.parse::<Quantity>().map_or(0, Quantity::bytes);
    [
        1,
        u64::try_from(vcpus).unwrap_or_default(),
        bytes(memory),
        bytes(storage),
    ]
}
