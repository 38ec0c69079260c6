//! One machine: observe it, let [`plan_machine`] take the next step, carry that out.
//!
//! Nothing else in the service drains, moves, restarts or deletes a machine.

mod confirm;
mod node;
mod steps;

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;
use steading_infra::{crd::MachinePool, kubevirt::VirtualMachine};

use super::Outcome;
use crate::{
    context::Context,
    domain::machine::ObservedMachine,
    error::Error,
    observe::machine::observe_machine,
    plan::{
        evacuation::MachineKey,
        machine::{ClusterFate, plan_machine},
    },
    tenant::Tenant,
};

/// How long to wait for KubeVirt or a tenant when no event may tell.
const WAIT: Duration = Duration::from_secs(5);

/// What the steps of one machine have at hand.
struct Pass<'a> {
    context: &'a Context,
    key: MachineKey,
    vm: &'a VirtualMachine,
    machine: &'a ObservedMachine,
    pool: Option<&'a MachinePool>,
    tenant: &'a Tenant,
    fate: ClusterFate,
}

/// Looks at one machine.
///
/// # Errors
/// If the infra cluster, the tenant or storage refuses or cannot be reached.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Outcome, Error> {
    let Some(vm) = context.observed.vms.get(namespace, name) else {
        forget(context, namespace, name);
        return Ok(Outcome::Settled);
    };
    let cluster = context.observed.clusters.get("", namespace);
    let fate = match &cluster {
        Some(cluster) if cluster.metadata.deletion_timestamp.is_none() => ClusterFate::Stays,
        Some(_) | None => ClusterFate::Terminating,
    };
    let is_paused = cluster.as_ref().is_some_and(|cluster| cluster.spec.paused);
    if is_paused && fate == ClusterFate::Stays {
        return Ok(Outcome::Settled);
    }
    let now = context.clock.now();
    let machine = observe_machine(&context.observed, &vm, now);
    let pool = context.observed.pools.get(namespace, &machine.pool);
    let tenant = context
        .observed
        .tenant(namespace)
        .unwrap_or_else(|| Arc::new(Tenant::new(namespace)));
    let pass = Pass {
        context,
        key: MachineKey {
            namespace: namespace.to_owned(),
            machine: vm.name_any(),
        },
        vm: &vm,
        machine: &machine,
        pool: pool.as_deref(),
        tenant: &tenant,
        fate,
    };
    let mut token_due = None;
    if let Some(cluster) = cluster.as_deref().filter(|_| fate == ClusterFate::Stays) {
        token_due = super::token::keep(context, cluster, &tenant, &vm).await?;
    }
    let outcome = pass.carry_out(plan_machine(&machine, fate, now)).await?;
    let outcome = pass.until_expiry(outcome);
    Ok(match (outcome, token_due) {
        (Outcome::Settled, Some(pause)) => Outcome::Again(pause),
        (Outcome::Again(pause), Some(due)) => Outcome::Again(pause.min(due)),
        (outcome, None) => outcome,
    })
}

/// Forgets what is known of a machine's drain.
fn forget(context: &Context, namespace: &str, name: &str) {
    let key = (namespace.to_owned(), name.to_owned());
    let mut memory = context.memory.lock();
    memory.evictions.remove(&key);
    memory.drains.remove(&key);
}
