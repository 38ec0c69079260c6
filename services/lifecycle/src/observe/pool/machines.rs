//! A pool's machines as its planner sees them.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use steading_infra::{
    crd::MachinePool,
    intent::{self, Action},
    kubevirt::VirtualMachine,
    labels,
};

use crate::{
    context::Context,
    domain::{machine::ObservedMachine, pool::DesiredPool},
    observe::{
        evacuation::observe_away,
        machine::{observe_machine, patience_of},
    },
    plan::{
        disruption::Ledger,
        pool::{Failures, PoolMachine, Termination, moving_per_pool},
    },
};

use super::desired::desired_of;

/// The machines of a pool in the index.
pub fn cached(context: &Context, namespace: &str, pool: &str) -> Vec<ObservedMachine> {
    let of_pool = |vm: &Arc<VirtualMachine>| vm.labels().get(labels::POOL).is_some_and(|label| label == pool);
    let now = context.clock.now();
    context
        .observed
        .vms
        .list(namespace)
        .iter()
        .filter(|vm| of_pool(vm))
        .map(|vm| observe_machine(&context.observed, vm, now))
        .collect()
}

/// Machines for the planner.
pub fn pool_machines(pool: &MachinePool, machines: &[ObservedMachine], now: Timestamp) -> Vec<PoolMachine> {
    let patience = patience_of(Some(pool));
    let termination = |machine: &ObservedMachine| {
        let deletes = || machine.intents.iter().filter(|intent| intent.action.deletes());
        if machine.vm_terminating {
            Termination::Final
        } else if deletes().next().is_none() {
            Termination::None
        } else if deletes().all(|one| one.action == Action::Delete && one.owner == intent::POOL) {
            Termination::Revocable
        } else {
            Termination::Final
        }
    };
    machines
        .iter()
        .map(|machine| PoolMachine {
            name: machine.name.clone(),
            revision: machine.revision.clone(),
            availability: machine.availability(&patience, now),
            termination: termination(machine),
            replace: machine.wants(Action::Replace),
            infra_node: machine.infra_node().map(str::to_owned),
            created: machine.created,
            joined: machine
                .joined
                .or_else(|| machine.has_joined().then_some(machine.created)),
            deletion_cost: machine.deletion_cost,
            trouble: machine
                .trouble_report(&patience, now)
                .map(|report| format!("{}: {}", report.reason, report.message))
                .unwrap_or_default(),
        })
        .collect()
}

/// Failures of new machines so far; those before the rollout was resumed no longer count.
pub fn failures_of(pool: &MachinePool) -> Failures {
    let known = pool.status.as_ref().and_then(|status| status.failures.clone());
    let resumed: Option<Timestamp> = pool
        .annotations()
        .get(labels::ROLLOUT_RESUMED)
        .and_then(|text| text.parse().ok());
    let Some(known) = known else { return Failures::default() };
    let last = known.last_time.map(|time| time.0);
    if resumed.is_some_and(|resumed| last.is_none_or(|last| last <= resumed)) {
        return Failures::default();
    }
    Failures {
        revision: known.revision,
        count: usize::try_from(known.count).unwrap_or_default(),
        last,
        message: known.message,
    }
}

/// The disruption ledger of a cluster, and most machines that may move in it at once: the most that any of its pools may.
pub fn ledger_of(context: &Context, namespace: &str, desired: &DesiredPool) -> (Ledger, usize) {
    let away = observe_away(context, Some(namespace));
    let pools = context.observed.pools.list(namespace);
    let others = pools.iter().map(|pool| moving_per_pool(&desired_of(pool, &[], None)));
    let most = others.fold(moving_per_pool(desired), usize::max);
    (Ledger::new(&away, &std::collections::BTreeMap::new()), most)
}
