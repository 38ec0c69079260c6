//! How a maintenance ends: empty, stalled, cancelled, given back, or without its infra node.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use steading_infra::crd::maintenance::{EvacuationProgressStatus, MaintenanceDesire, MaintenanceScope};

use super::{
    super::disruption::Ledger,
    pass::{Action, ObservedMaintenance, ObservedNode, Outcome, PassInput, State, is_under_way, machines_of},
    progress::{self, Begin, condition, enter},
};

/// Time without progress until a maintenance is called stalled, if it does not say. A replacement boots within minutes.
const STALL_AFTER_SECONDS: i64 = 10 * 60;

/// The infra node does not exist.
pub(super) fn without_node(seen: &ObservedMaintenance, outcome: &mut Outcome, now: Timestamp) {
    let status = &mut outcome.status;
    let text = format!("infra node {} does not exist", seen.spec.infra_node);
    let started = status.start_time.is_some();
    if !started && seen.spec.desired_state == MaintenanceDesire::Planned && !seen.deleting {
        condition(status, "Planned", false, "InfraNodeNotFound", &text, now);
        enter(status, State::Planned);
        return;
    }
    condition(status, "Evacuated", false, "InfraNodeNotFound", &text, now);
    finish(seen, outcome, State::Failed, now);
}

/// Evaluates where a running maintenance stands after its moves were looked at.
pub(super) fn settle(seen: &ObservedMaintenance, outcome: &mut Outcome, now: Timestamp) {
    let left: Vec<EvacuationProgressStatus> = outcome
        .status
        .progress
        .iter()
        .filter(|one| one.phase != "Moved")
        .cloned()
        .collect();
    let status = &mut outcome.status;
    if left.is_empty() {
        condition(
            status,
            "Evacuated",
            true,
            "Evacuated",
            "no machine is left on the infra node",
            now,
        );
        condition(status, "Stalled", false, "Evacuated", "", now);
        status.evacuate_time.get_or_insert(Time(now));
        enter(status, State::InMaintenance);
        if seen.spec.desired_state == MaintenanceDesire::Completed {
            if !is_persons(seen) {
                outcome.actions.push(uncordon(seen));
            }
            finish(seen, outcome, State::Completed, now);
        }
        return;
    }
    status.evacuate_time = None;
    let text = format!("{} of {} machines are left", left.len(), status.total);
    condition(status, "Evacuated", false, "Evacuating", &text, now);
    if let Some((reason, message)) = stall_of(seen, outcome, &left, now) {
        condition(&mut outcome.status, "Stalled", true, &reason, &message, now);
        enter(&mut outcome.status, State::Stalled);
    } else {
        condition(&mut outcome.status, "Stalled", false, "Progressing", "", now);
        enter(&mut outcome.status, State::Running);
    }
}

/// Why nothing moves, if nothing does.
fn stall_of(
    seen: &ObservedMaintenance,
    outcome: &Outcome,
    left: &[EvacuationProgressStatus],
    now: Timestamp,
) -> Option<(String, String)> {
    let tell = |one: &EvacuationProgressStatus| {
        (
            one.reason.clone(),
            format!("{}/{}: {}", one.namespace, one.machine, one.message),
        )
    };
    if left.iter().all(|one| one.phase == "Blocked") {
        return left.first().map(tell);
    }
    let after = seen
        .spec
        .stall_policy
        .stall_after_seconds
        .filter(|&s| s > 0)
        .unwrap_or(STALL_AFTER_SECONDS);
    let since = outcome.status.progress_time.as_ref().map_or(now, |time| time.0);
    if now.duration_since(since).as_secs() < after {
        return None;
    }
    let moving = left.iter().find(|one| progress::is_moving(&one.phase));
    let blocked = left.iter().find(|one| one.phase == "Blocked");
    moving.or(blocked).or(left.first()).map(tell)
}

/// Somebody made the infra node schedulable.
pub(super) fn uncordoned(
    seen: &ObservedMaintenance,
    input: &PassInput,
    ledger: &mut Ledger,
    outcome: &mut Outcome,
    now: Timestamp,
) {
    if State::of(&seen.status) == State::InMaintenance {
        condition(
            &mut outcome.status,
            "Cordoned",
            false,
            "Uncordoned",
            "somebody uncordoned the infra node",
            now,
        );
        finish(seen, outcome, State::Completed, now);
        return;
    }
    cancel(seen, input, ledger, outcome, "Uncordoned", now);
}

/// Revokes every intent; ends when none is left. What a machine does then is its own: it returns, or its pool ends it.
pub(super) fn cancel(
    seen: &ObservedMaintenance,
    input: &PassInput,
    ledger: &mut Ledger,
    outcome: &mut Outcome,
    reason: &str,
    now: Timestamp,
) {
    progress::track(seen, input, outcome, now);
    progress::advance(seen, input, ledger, outcome, Begin::Forbidden, now);
    for machine in machines_of(seen, input) {
        if machine.marked {
            let (key, node) = (machine.key.clone(), seen.spec.infra_node.clone());
            outcome.actions.push(Action::CancelMark { key, node });
        }
    }
    let left = input.asked.get(&seen.name).map_or(0, Vec::len);
    if seen.status.start_time.is_some() && left > 0 {
        let text = format!("{left} moves that had begun are being called off");
        condition(&mut outcome.status, "Cancelled", false, reason, &text, now);
        enter(&mut outcome.status, State::Cancelling);
        return;
    }
    let ours = seen
        .node
        .as_ref()
        .is_some_and(|node| node.cordoned_by.as_deref() == Some(seen.name.as_str()));
    if ours && seen.spec.scope == MaintenanceScope::All {
        outcome.actions.push(uncordon(seen));
    }
    condition(
        &mut outcome.status,
        "Cancelled",
        true,
        reason,
        "nothing more is moved",
        now,
    );
    finish(seen, outcome, State::Cancelled, now);
}

fn uncordon(seen: &ObservedMaintenance) -> Action {
    Action::Uncordon {
        node: seen.spec.infra_node.clone(),
        by: seen.node.as_ref().and_then(|node| node.cordoned_by.clone()),
    }
}

/// Leaves an infra node cordoned that another maintenance still needs, and makes the cordon that one's. Decided after all of a pass, as others may
/// end in the same one.
pub(super) fn keep_cordons(input: &PassInput, outcomes: &mut [Outcome]) {
    let needed = needed_cordons(input, outcomes);
    for outcome in outcomes.iter_mut() {
        for action in &mut outcome.actions {
            let Action::Uncordon { node, .. } = action else {
                continue;
            };
            let other = needed.iter().find(|(on, name)| on == node && *name != outcome.name);
            if let Some((_, other)) = other {
                *action = Action::Cordon {
                    node: node.clone(),
                    maintenance: other.clone(),
                };
            }
        }
    }
}

/// Cordons of maintenances that are over or do not exist: an earlier leader may have written one after its maintenance had ended. They
/// become those of a maintenance that needs one, or are taken back.
pub(super) fn orphaned_cordons(input: &PassInput, outcomes: &[Outcome]) -> Vec<Action> {
    let needed = needed_cordons(input, outcomes);
    let orphans = input.cordons.iter().filter(|(_, id)| !is_under_way(input, id));
    let step = |(node, id): (&String, &String)| match needed.iter().find(|(on, _)| on == node) {
        Some((_, other)) => Action::Cordon {
            node: node.clone(),
            maintenance: other.clone(),
        },
        None => Action::GiveBack {
            node: node.clone(),
            maintenance: id.clone(),
        },
    };
    orphans.map(step).collect()
}

/// Infra nodes that must stay cordoned after this pass, with the maintenance that needs it.
fn needed_cordons(input: &PassInput, outcomes: &[Outcome]) -> Vec<(String, String)> {
    let both = input.maintenances.iter().zip(outcomes);
    both.filter(|(seen, outcome)| needs_cordon(seen, outcome))
        .map(|(seen, _)| (seen.spec.infra_node.clone(), seen.name.clone()))
        .collect()
}

/// Whether a person cordoned the infra node before the maintenance did: then it is theirs to take back. A maintenance of evicted machines
/// is of an infra node that its admin cordoned, and gives it back for them.
fn is_persons(seen: &ObservedMaintenance) -> bool {
    let cordoned_by_nobody = |node: &ObservedNode| node.cordoned && node.cordoned_by.is_none();
    seen.spec.scope == MaintenanceScope::All && seen.node.as_ref().is_some_and(cordoned_by_nobody)
}

/// Whether a maintenance is under way after this pass and not about to give the infra node back.
fn needs_cordon(seen: &ObservedMaintenance, outcome: &Outcome) -> bool {
    let state = State::of(&outcome.status);
    let started = outcome.status.start_time.is_some();
    if seen.deleting || state.is_final() || state == State::Cancelling {
        return false;
    }
    match seen.spec.desired_state {
        MaintenanceDesire::InMaintenance => true,
        MaintenanceDesire::Planned => started,
        MaintenanceDesire::Completed => started && state != State::InMaintenance,
        MaintenanceDesire::Cancelled => false,
    }
}

fn finish(seen: &ObservedMaintenance, outcome: &mut Outcome, state: State, now: Timestamp) {
    enter(&mut outcome.status, state);
    outcome.status.end_time.get_or_insert(Time(now));
    if seen.finalizer {
        outcome.actions.push(Action::Release {
            maintenance: seen.name.clone(),
        });
    }
}
