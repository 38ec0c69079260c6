//! How many machines a pool makes and which it removes.
//!
//! ```text
//! desired: replicas, revision, max_surge, max_unavailable, quota, failure limit      observed: machines, failures so far
//!   1. outdated and never joined                          → remove: it never did any work, and must not hold the surge
//!   2. broken, and outdated or to be repaired             → remove, a few at a time; a new one that failed counts as a failure
//!   3. outdated and neither available nor broken          → remove while enough others are left
//!   4. outdated and available, enough stay available      → remove, if the disruption ledger allows it
//!   5. more than needed                                   → remove, worst first
//!   6. fewer than replicas (not counting terminating)     → revoke scale-downs of this pool, then create
//!   7. outdated ones left and room under replicas + surge → create one more (terminating ones count here)
//! ```
//! Availability that is not known counts against removing others and never as a reason to remove. Once too many new machines have failed
//! (2 counts them), the pool is halted: nothing is made, and what is available is kept. The failures of a revision are forgotten when one of
//! its machines comes up, when the revision changes, or when the rollout is resumed.

use super::{
    disruption::{Ledger, Limits},
    evacuation::MachineKey,
};
use crate::domain::pool::{Availability, DesiredPool};

mod pass;
mod removal;
#[cfg(test)]
mod tests;

pub use pass::{Failures, PoolInput, PoolMachine, PoolPlan, RemoveReason, Termination, WaitReason};
pub use removal::will_go;

use pass::{Draft, has_failed, is_kept, is_replaced};

/// Most machines that a pool may have on the move at once.
pub fn moving_per_pool(desired: &DesiredPool) -> usize {
    desired.surge().max(desired.unavailable()).max(1)
}

/// Decides the next steps of a pool.
pub fn plan_pool(input: &PoolInput<'_>, ledger: &mut Ledger) -> PoolPlan {
    let desired = input.desired;
    let current: Vec<&PoolMachine> = input.machines.iter().filter(|m| !m.is_terminating()).collect();
    let failures = failures_now(desired, input.failures, &current);
    let failed: Vec<&PoolMachine> = current.iter().copied().filter(|m| has_failed(desired, m)).collect();
    let count = failures.count + failed.len();
    let halted = desired.max_failures > 0 && count >= desired.max_failures;
    let halt_message = halted.then(|| {
        let why = failed.last().map_or(failures.message.as_str(), |m| m.trouble.as_str());
        format!("{count} new machines failed, so no more are made and the others are kept: {why}")
    });
    let mut draft = Draft {
        desired,
        terminating: input.machines.len() - current.len(),
        current,
        halted,
        held: false,
        plan: PoolPlan {
            failures,
            halted: halt_message,
            ..PoolPlan::default()
        },
    };
    removal::plan_removals(&mut draft, |machine| {
        let key = MachineKey {
            namespace: input.namespace.to_owned(),
            machine: machine.name.clone(),
        };
        let limits = Limits {
            moving_per_cluster: Some(input.moving_per_cluster),
            moving_per_pool: Some(moving_per_pool(desired)),
            ..Limits::default()
        };
        let node = machine.infra_node.clone().unwrap_or_default();
        ledger.take(&key, input.pool, &node, &limits).is_ok()
    });
    plan_creations(&mut draft, input.machines, failed.is_empty());
    let mut plan = draft.plan;
    plan.waiting = plan.waiting.take().or_else(|| {
        let stands = plan.outdated > 0 && plan.is_empty();
        let current: Vec<&PoolMachine> = input.machines.iter().filter(|m| !m.is_terminating()).collect();
        stands.then(|| waiting(desired, &current, draft.terminating, plan.outdated, &plan, draft.held))
    });
    plan
}

/// The failures of the present revision; none once a machine of it has come up since.
fn failures_now(desired: &DesiredPool, known: &Failures, current: &[&PoolMachine]) -> Failures {
    let Some(revision) = &desired.revision else {
        return known.clone();
    };
    let fresh = Failures {
        revision: revision.clone(),
        ..Failures::default()
    };
    let came_up = |m: &&PoolMachine| {
        let since = known
            .last
            .is_some_and(|last| m.joined.is_some_and(|joined| joined > last));
        m.revision == *revision && since
    };
    if known.revision != *revision || (known.count > 0 && current.iter().any(came_up)) {
        return fresh;
    }
    known.clone()
}

fn plan_creations(draft: &mut Draft<'_>, machines: &[PoolMachine], none_failed: bool) {
    let desired = draft.desired;
    let total = draft.current.len();
    let mut shortfall = desired.replicas.saturating_sub(total);
    draft.plan.revoke = machines
        .iter()
        .filter(|m| m.termination == Termination::Revocable && !is_replaced(desired, m))
        .filter(|m| matches!(m.availability, Availability::Available | Availability::Away))
        .map(|m| m.name.clone())
        .take(shortfall)
        .collect();
    shortfall -= draft.plan.revoke.len();
    let outdated = draft.current.iter().filter(|m| is_replaced(desired, m)).count();
    let kept = draft.current.iter().filter(|m| is_kept(desired, m)).count();
    let updated = (total - outdated).saturating_sub(kept) + shortfall + draft.plan.revoke.len();
    let room = (desired.replicas + desired.surge()).saturating_sub(total + shortfall + draft.terminating);
    let surge = match outdated {
        0 => 0,
        _ => desired.replicas.saturating_sub(updated).min(room),
    };
    let wanted = match (draft.halted, none_failed) {
        (false, _) => shortfall + surge,
        // Somebody removed what had failed: one more shows whether the cause is gone.
        (true, true) => shortfall.min(1),
        (true, false) => 0,
    };
    let room = desired
        .most
        .map_or(usize::MAX, |most| most.saturating_sub(machines.len()));
    draft.plan.create = wanted.min(room);
    if wanted > room && draft.plan.is_empty() {
        let text = "the quota of the project leaves no room for another machine; raise it or allow max_unavailable";
        draft.plan.waiting = Some((WaitReason::QuotaExceeded, text.to_owned()));
    }
}

fn waiting(
    desired: &DesiredPool,
    current: &[&PoolMachine],
    terminating: usize,
    outdated: usize,
    plan: &PoolPlan,
    held: bool,
) -> (WaitReason, String) {
    let count = |wanted| current.iter().filter(|m| m.availability == wanted).count();
    let (starting, unknown) = (count(Availability::Starting), count(Availability::Unknown));
    if let Some(why) = &plan.halted {
        return (WaitReason::TooManyFailures, why.clone());
    }
    if unknown > 0 {
        let text = format!("{unknown} machines cannot be judged while the tenant api server does not answer");
        return (WaitReason::TenantUnreachable, text);
    }
    let left = format!("{outdated} machines are still to be replaced");
    if starting > 0 {
        let why = current
            .iter()
            .find(|m| m.availability == Availability::Starting && !m.trouble.is_empty())
            .map(|m| format!(": {}: {}", m.name, m.trouble))
            .unwrap_or_default();
        return (
            WaitReason::WaitingForReady,
            format!("{left}; {starting} are not ready yet{why}"),
        );
    }
    if held {
        let text = format!("{left}; as many machines of the cluster are on the move as its pools allow");
        return (WaitReason::DisruptionBudget, text);
    }
    if terminating > 0 {
        return (
            WaitReason::WaitingForDrain,
            format!("{left}; {terminating} are being drained and deleted"),
        );
    }
    let floor = desired.replicas - desired.unavailable();
    (
        WaitReason::NotEnoughAvailable,
        format!("{left}; {floor} must stay available"),
    )
}
