//! Holds pools to their project's quota.

use kube::ResourceExt;
use steading_infra::{crd::MachinePool, labels};
use steading_model::quantity::Quantity;

use crate::{
    apply::render::PoolPlace,
    context::Context,
    domain::{pool::PoolWish, rendering::Rendering},
    plan::quota::{Amounts, Claim, Quota, allowance},
};

/// Lowers what a pool wants to what the quota of its project allows; says so if that is less.
pub fn hold(
    context: &Context,
    place: &PoolPlace,
    pool: &MachinePool,
    rendering: &Rendering,
    wish: &mut PoolWish,
) -> Option<(&'static str, String)> {
    let project = context.observed.projects.get("", &place.cluster.project)?;
    let quota = Quota::of(&project.spec.quota);
    if quota.is_empty() {
        return None;
    }
    let claims = claims(context, &place.cluster.project, pool, rendering);
    let allowed = allowance(&quota, &claims, &order(pool))?;
    let short = allowed.short?;
    let text = format!(
        "{} of {} machines: the quota of projects/{} for {short} leaves no room for more",
        allowed.machines, wish.replicas, place.cluster.project
    );
    wish.replicas = allowed.machines;
    Some(("QuotaExceeded", text))
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
            let is_present = |vm: &&std::sync::Arc<steading_infra::kubevirt::VirtualMachine>| {
                vm.labels().get(labels::POOL) == Some(&name)
                    && vm.metadata.deletion_timestamp.is_none()
                    && !vm.annotations().contains_key(labels::DELETE_REQUESTED)
            };
            let status = pool.status.clone().unwrap_or_default();
            let each = if pool.uid() == this.uid() {
                amounts(rendering.vcpus, &rendering.memory, &rendering.storage)
            } else {
                let text = |text: Option<String>| text.unwrap_or_default();
                amounts(
                    status.machine_vcpus.unwrap_or_default(),
                    &text(status.machine_memory),
                    &text(status.machine_storage),
                )
            };
            let going = pool.metadata.deletion_timestamp.is_some();
            claims.push(Claim {
                order: order(&pool),
                wanted: if going {
                    0
                } else {
                    usize::try_from(pool.spec.replicas).unwrap_or_default()
                },
                present: vms.iter().filter(is_present).count(),
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
