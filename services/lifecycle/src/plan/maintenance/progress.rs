//! Follows each machine of a maintenance and begins the next moves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use steading_infra::{
    crd::maintenance::{EvacuationProgressStatus, MaintenanceStatus, StallAction},
    intent::maintenance_owner,
};

use super::{
    super::{
        disruption::Ledger,
        evacuation::{
            Disposition, Guest, Hotplug, MachineKey, ObservedMachine, ObservedTenant, Verdict, Way, plan_evacuation,
        },
    },
    budget::limits_of,
    pass::{Action, ObservedMaintenance, Outcome, PassInput, State, machines_of, withdraw},
};

/// A drain is forced after this long if the stall policy escalates and does not say when.
const ESCALATE_AFTER_SECONDS: i64 = 2 * 60 * 60;
/// Pause before a failed migration is tried again, times the failures so far. Mostly the target had filled up; the next
/// scheduling decision needs fresh node state.
const MIGRATION_PAUSE: Duration = Duration::from_secs(10);

/// Whether moves may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// They may.
    Allowed,
    /// What has begun is called off.
    Forbidden,
}

/// Sets the state.
pub(super) fn enter(status: &mut MaintenanceStatus, state: State) {
    status.phase = Some(state.as_str().to_owned());
}

/// Sets a condition; its transition time moves only with its status.
pub(super) fn condition(
    status: &mut MaintenanceStatus,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let text = if holds { "True" } else { "False" };
    let since = status
        .conditions
        .iter()
        .find(|c| c.type_ == kind && c.status == text)
        .map(|c| c.last_transition_time.clone());
    let made = Condition {
        type_: kind.to_owned(),
        status: text.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: status.observed_generation,
    };
    match status.conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(present) => *present = made,
        None => status.conditions.push(made),
    }
}

/// Brings the list of machines up to date: who is here, who has left, who came.
pub(super) fn track(seen: &ObservedMaintenance, input: &PassInput, outcome: &mut Outcome, now: Timestamp) {
    let here = machines_of(seen, input);
    let status = &mut outcome.status;
    if status.progress.is_empty()
        && let Some(plan) = &status.plan
    {
        status.progress = plan
            .entries
            .iter()
            .map(|entry| mk_progress(&entry.namespace, &entry.machine, &entry.disposition))
            .collect();
    }
    for machine in &here {
        let at = status.progress.iter().position(|one| is_of(one, &machine.key));
        let at = at.unwrap_or_else(|| {
            let verdict = plan_evacuation(machine, seen.spec.strategy, 0);
            let key = &machine.key;
            let made = mk_progress(&key.namespace, &key.machine, verdict.disposition.as_str());
            status.progress.push(EvacuationProgressStatus {
                differs_from_plan: true,
                ..made
            });
            status.progress.len() - 1
        });
        let Some(one) = status.progress.get_mut(at) else {
            continue;
        };
        one.instance_uid.clone_from(&machine.instance_uid);
        if one.phase == "Moved" {
            // It came back, for instance because the infra node had been uncordoned for a moment.
            (one.phase, one.end_time) = ("Waiting".to_owned(), None);
        }
    }
    let mut moved = false;
    for one in &mut status.progress {
        if one.phase == "Moved" || here.iter().any(|machine| is_of(one, &machine.key)) {
            continue;
        }
        let key = MachineKey {
            namespace: one.namespace.clone(),
            machine: one.machine.clone(),
        };
        one.target_node = input.locations.get(&key).cloned().unwrap_or_default();
        "Moved".clone_into(&mut one.phase);
        "Left".clone_into(&mut one.reason);
        "it is no longer on the infra node".clone_into(&mut one.message);
        one.end_time = Some(Time(now));
        moved = true;
    }
    if moved {
        status.progress_time = Some(Time(now));
    }
    count(status);
}

fn mk_progress(namespace: &str, machine: &str, disposition: &str) -> EvacuationProgressStatus {
    EvacuationProgressStatus {
        namespace: namespace.to_owned(),
        machine: machine.to_owned(),
        phase: "Waiting".to_owned(),
        disposition: disposition.to_owned(),
        ..EvacuationProgressStatus::default()
    }
}

/// Writes the counts that columns show.
pub(super) fn count(status: &mut MaintenanceStatus) {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    status.total = count(status.progress.len());
    status.moved = count(status.progress.iter().filter(|one| one.phase == "Moved").count());
}

fn is_of(one: &EvacuationProgressStatus, key: &MachineKey) -> bool {
    one.namespace == key.namespace && one.machine == key.machine
}

/// How the maintenance itself has asked a machine to leave.
fn own_way(seen: &ObservedMaintenance, machine: &ObservedMachine) -> Option<Way> {
    let owner = maintenance_owner(&seen.name);
    let own = machine.asked.iter().find(|asked| asked.owner == owner);
    own.map(|asked| asked.way)
}

/// Whether a machine leaves for somebody else's sake: it is only waited for.
fn leaves_anyway(seen: &ObservedMaintenance, machine: &ObservedMachine) -> bool {
    let owner = maintenance_owner(&seen.name);
    let for_others = machine.asked.iter().any(|asked| asked.owner != owner);
    machine.terminating || for_others || (machine.migrating && own_way(seen, machine) != Some(Way::Migrate))
}

/// Judges every machine that is still here and asks those to leave that the budget allows.
pub(super) fn advance(
    seen: &ObservedMaintenance,
    input: &PassInput,
    ledger: &mut Ledger,
    outcome: &mut Outcome,
    begin: Begin,
    now: Timestamp,
) {
    let here = machines_of(seen, input);
    let Outcome { status, actions, .. } = outcome;
    let mut changed = false;
    for one in &mut status.progress {
        let Some(machine) = here.iter().find(|machine| is_of(one, &machine.key)) else {
            continue;
        };
        let before = one.phase.clone();
        match (begin, own_way(seen, machine)) {
            (Begin::Forbidden, own) => {
                (one.phase, one.reason) = ("Cancelled".to_owned(), "MaintenanceCancelled".to_owned());
                "the maintenance ended before it had left".clone_into(&mut one.message);
                if own.is_some() && !machine.terminating {
                    actions.push(withdraw(&machine.key, &seen.name));
                }
            }
            (Begin::Allowed, _) if leaves_anyway(seen, machine) => follow(machine, one),
            (Begin::Allowed, Some(way)) => rejudge(seen, input, machine, way, one, actions),
            (Begin::Allowed, None) => consider(seen, input, ledger, machine, one, actions, now),
        }
        if is_moving(&one.phase) && one.start_time.is_none() {
            one.start_time = Some(Time(now));
        }
        changed |= before != one.phase
            && !matches!(
                (before.as_str(), one.phase.as_str()),
                ("Waiting" | "Blocked", "Waiting" | "Blocked")
            );
    }
    // What left the infra node some other way needs nothing from the maintenance.
    let left = input.asked.get(&seen.name).into_iter().flatten();
    let left = left.filter(|key| !here.iter().any(|machine| machine.key == **key));
    actions.extend(left.map(|key| withdraw(key, &seen.name)));
    if changed {
        status.progress_time = Some(Time(now));
    }
    count(status);
}

/// Whether a phase means that the machine is on the move.
pub(super) fn is_moving(phase: &str) -> bool {
    matches!(phase, "Migrating" | "Replacing" | "Draining" | "Restarting")
}

/// A move that has begun.
fn follow(machine: &ObservedMachine, one: &mut EvacuationProgressStatus) {
    let asked = |way| machine.asked.iter().any(|asked| asked.way == way);
    let (phase, reason, message) = if machine.terminating {
        ("Replacing", "MachineDeleting", "it is being drained and deleted")
    } else if machine.migrating {
        ("Migrating", "MigrationInProgress", "a live migration is under way")
    } else if asked(Way::Replace) {
        (
            "Replacing",
            "ReplaceRequested",
            "its pool makes a replacement, then drains and deletes it",
        )
    } else if asked(Way::Migrate) {
        ("Migrating", "MigrationRequested", "a live migration is about to begin")
    } else if machine.guest == Guest::Running {
        (
            "Draining",
            "Restarting",
            "its tenant node is drained, then it boots elsewhere",
        )
    } else {
        ("Restarting", "Restarting", "it boots elsewhere")
    };
    (one.phase, one.reason, one.message) = (phase.to_owned(), reason.to_owned(), message.to_owned());
    if !matches!(phase, "Replacing" | "Draining") {
        return;
    }
    match &machine.tenant {
        ObservedTenant::Reachable { exhausted_budgets } if !exhausted_budgets.is_empty() => {
            "PodDisruptionBudget".clone_into(&mut one.reason);
            one.message = format!(
                "{message}; budgets that allow no disruption now: {}",
                exhausted_budgets.join(", ")
            );
        }
        ObservedTenant::Unreachable => {
            "TenantUnreachable".clone_into(&mut one.reason);
            one.message = format!("{message}; its tenant cluster does not answer");
        }
        ObservedTenant::Reachable { .. } => {}
    }
}

fn failures_of(seen: &ObservedMaintenance, input: &PassInput, machine: &ObservedMachine) -> i32 {
    let failed = input.failed.get(&(seen.name.clone(), machine.key.clone()));
    failed.map_or(0, |failed| failed.count)
}

/// A move that we asked for: if live migration turns out to be impossible, the machine leaves another way. Its place in the budget is its own
/// already.
fn rejudge(
    seen: &ObservedMaintenance,
    input: &PassInput,
    machine: &ObservedMachine,
    way: Way,
    one: &mut EvacuationProgressStatus,
    actions: &mut Vec<Action>,
) {
    let failures = failures_of(seen, input, machine);
    follow(machine, one);
    one.migration_attempts = one.migration_attempts.max(failures);
    if way != Way::Migrate || machine.migrating {
        return;
    }
    let verdict = plan_evacuation(machine, seen.spec.strategy, failures);
    match verdict.disposition.way() {
        Some(Way::Migrate) => {}
        Some(other) => {
            differs(seen, one, verdict.disposition);
            (one.reason, one.message) = (verdict.reason.to_owned(), verdict.message);
            phase_of(other, machine.guest).clone_into(&mut one.phase);
            actions.push(ask(seen, machine, other));
        }
        // It keeps its intent, and says what is in the way.
        None => (one.reason, one.message) = (verdict.reason.to_owned(), verdict.message),
    }
}

fn differs(seen: &ObservedMaintenance, one: &mut EvacuationProgressStatus, disposition: Disposition) {
    let planned = seen.status.plan.as_ref().and_then(|plan| {
        plan.entries
            .iter()
            .find(|entry| entry.namespace == one.namespace && entry.machine == one.machine)
    });
    one.differs_from_plan = planned.is_none_or(|entry| entry.disposition != disposition.as_str());
    disposition.as_str().clone_into(&mut one.disposition);
}

/// A move that has not begun.
fn consider(
    seen: &ObservedMaintenance,
    input: &PassInput,
    ledger: &mut Ledger,
    machine: &ObservedMachine,
    one: &mut EvacuationProgressStatus,
    actions: &mut Vec<Action>,
    now: Timestamp,
) {
    let failed = input.failed.get(&(seen.name.clone(), machine.key.clone()));
    let failures = failures_of(seen, input, machine);
    let Verdict {
        disposition,
        reason,
        message,
    } = plan_evacuation(machine, seen.spec.strategy, failures);
    differs(seen, one, disposition);
    (one.reason, one.message) = (reason.to_owned(), message);
    one.migration_attempts = failures;
    let waits = |one: &mut EvacuationProgressStatus| "Waiting".clone_into(&mut one.phase);
    let Some(way) = disposition.way() else {
        match disposition {
            Disposition::Blocked => "Blocked".clone_into(&mut one.phase),
            Disposition::Leaving
            | Disposition::LiveMigrate
            | Disposition::SurgeThenDrain
            | Disposition::DrainThenReplace
            | Disposition::RestartInPlace => waits(one),
        }
        return;
    };
    let pauses = failed.is_some_and(|failed| !is_over(failed.last, failures, now));
    if way == Way::Migrate && (machine.hotplug != Hotplug::Settled || pauses) {
        return waits(one);
    }
    if ledger.is_moving(&machine.key) {
        // Another maintenance has asked it in this very pass.
        waits(one);
        "it leaves for another maintenance".clone_into(&mut one.message);
        return;
    }
    let limits = limits_of(&seen.spec.budget);
    if let Err(limit) = ledger.take(&machine.key, &machine.pool_name, &seen.spec.infra_node, &limits) {
        waits(one);
        (one.reason, one.message) = ("Budget".to_owned(), limit.message().to_owned());
        return;
    }
    phase_of(way, machine.guest).clone_into(&mut one.phase);
    one.migration_attempts += i32::from(way == Way::Migrate);
    actions.push(ask(seen, machine, way));
}

fn is_over(last: Timestamp, failures: i32, now: Timestamp) -> bool {
    let pause = MIGRATION_PAUSE.saturating_mul(failures.unsigned_abs());
    now.duration_since(last) >= SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)
}

fn phase_of(way: Way, guest: Guest) -> &'static str {
    match (way, guest) {
        (Way::Migrate, _) => "Migrating",
        (Way::Replace, _) => "Replacing",
        (Way::Relocate, Guest::NotRunning) => "Restarting",
        (Way::Relocate, Guest::Running) => "Draining",
    }
}

fn ask(seen: &ObservedMaintenance, machine: &ObservedMachine, way: Way) -> Action {
    Action::Ask {
        key: machine.key.clone(),
        owner: maintenance_owner(&seen.name),
        way,
        node: seen.spec.infra_node.clone(),
        force_after_seconds: force_after(seen),
    }
}

/// After how many seconds the stall policy forces a drain.
fn force_after(seen: &ObservedMaintenance) -> Option<i64> {
    let policy = &seen.spec.stall_policy;
    match policy.action {
        StallAction::Report => None,
        StallAction::Escalate => Some(
            policy
                .escalate_after_seconds
                .filter(|&s| s > 0)
                .unwrap_or(ESCALATE_AFTER_SECONDS),
        ),
    }
}
