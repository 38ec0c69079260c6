//! Decides what the maintenances do next: all of them in one pass, because budgets span them.
//!
//! ```text
//! Planned ──start──► Running ⇄ Stalled ──all have left──► InMaintenance ──complete──► Completed
//!    │                  │ cancel, uncordon, delete                │ uncordon ─────────► Completed
//!    └──cancel──┐       ▼
//!               └──► Cancelling ──every intent revoked──► Cancelled
//! ```
//!
//! A maintenance moves nothing itself: it writes intents on machines, which their own reconciler carries out, and revokes them when it is
//! cancelled. What has begun is read off the objects (intents, migrations), never off our own status: a crash between any two actions loses
//! nothing and begins nothing twice. Intents are written only after the infra node was seen cordoned, and each machine is judged again
//! right before its turn.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use steading_infra::crd::maintenance::{
    EvacuationRiskStatus, MaintenanceDesire, MaintenancePlanStatus, MaintenanceScope, MaintenanceStatus,
    MaintenanceStrategy, PlannedEvacuationStatus,
};

use super::{
    digest::short_digest,
    disruption::Ledger,
    evacuation::{ObservedMachine, Target, plan_evacuation, risks_of},
};

pub mod budget;
mod conclude;
mod evictions;
mod pass;
mod progress;
#[cfg(test)]
mod tests;

pub use pass::{
    Action, Eviction, FailedMigrations, ObservedMaintenance, ObservedNode, Outcome, PassInput, PassPlan, State,
};
use pass::{is_under_way, machines_of, withdraw};

/// Decides what every maintenance and every single eviction does next, all from one ledger.
pub fn plan_pass(input: &PassInput, now: Timestamp) -> PassPlan {
    let mut ledger = Ledger::new(&input.away, &input.zones);
    let outcomes = input.maintenances.iter().map(|one| step(one, input, &mut ledger, now));
    let mut outcomes: Vec<Outcome> = outcomes.collect();
    conclude::keep_cordons(input, &mut outcomes);
    let mut actions = evictions::plan_evictions(&input.evictions, &mut ledger);
    actions.extend(plan_orphans(input));
    actions.extend(conclude::orphaned_cordons(input, &outcomes));
    PassPlan { outcomes, actions }
}

/// Intents of maintenances that are over or do not exist any longer are revoked.
fn plan_orphans(input: &PassInput) -> Vec<Action> {
    let orphans = input.asked.iter().filter(|(id, _)| !is_under_way(input, id));
    orphans
        .flat_map(|(id, keys)| keys.iter().map(|key| withdraw(key, id)))
        .collect()
}

fn step(seen: &ObservedMaintenance, input: &PassInput, ledger: &mut Ledger, now: Timestamp) -> Outcome {
    let mut outcome = Outcome {
        name: seen.name.clone(),
        status: seen.status.clone(),
        actions: Vec::new(),
    };
    outcome.status.observed_generation = Some(seen.generation);
    let state = State::of(&seen.status);
    if state.is_final() {
        if seen.deleting && seen.finalizer {
            outcome.actions.push(Action::Release {
                maintenance: seen.name.clone(),
            });
        }
        return outcome;
    }
    if seen.node.is_none() {
        conclude::without_node(seen, &mut outcome, now);
        return outcome;
    }
    let started = seen.status.start_time.is_some();
    match (seen.spec.desired_state, state) {
        _ if seen.deleting => conclude::cancel(seen, input, ledger, &mut outcome, "Deleted", now),
        (_, State::Cancelling) | (MaintenanceDesire::Cancelled, _) => {
            conclude::cancel(seen, input, ledger, &mut outcome, "Cancelled", now);
        }
        (MaintenanceDesire::Completed, _) if !started => {
            conclude::cancel(seen, input, ledger, &mut outcome, "CompletedBeforeStart", now);
        }
        (MaintenanceDesire::Planned, _) if !started => {
            refresh_plan(seen, input, &mut outcome.status, now);
            progress::enter(&mut outcome.status, State::Planned);
        }
        (MaintenanceDesire::Planned | MaintenanceDesire::InMaintenance | MaintenanceDesire::Completed, _) => {
            run(seen, input, ledger, &mut outcome, now);
        }
    }
    outcome
}

/// Cordons, then evacuates.
fn run(seen: &ObservedMaintenance, input: &PassInput, ledger: &mut Ledger, outcome: &mut Outcome, now: Timestamp) {
    let status = &mut outcome.status;
    if status.start_time.is_none() {
        if status.plan.is_none() {
            refresh_plan(seen, input, status, now);
        }
        (status.start_time, status.progress_time) = (Some(Time(now)), Some(Time(now)));
        progress::enter(status, State::Running);
    }
    if !seen.finalizer {
        outcome.actions.push(Action::Hold {
            maintenance: seen.name.clone(),
        });
    }
    let cordoned = seen.node.as_ref().is_some_and(|node| node.cordoned);
    let by = seen.node.as_ref().and_then(|node| node.cordoned_by.as_ref());
    match (cordoned, status.cordon_time.is_some()) {
        (true, true) => {}
        // Another's cordon may be taken back by a leader that has not heard of this maintenance: what is relied on is its own, or a
        // person's.
        (true, false) if by.is_some_and(|by| *by != seen.name) => {
            let (node, maintenance) = (seen.spec.infra_node.clone(), seen.name.clone());
            outcome.actions.push(Action::Cordon { node, maintenance });
            progress::track(seen, input, outcome, now);
            return;
        }
        (true, false) => {
            status.cordon_time = Some(Time(now));
            progress::condition(
                status,
                "Cordoned",
                true,
                "Cordoned",
                "no new machine is placed on the infra node",
                now,
            );
        }
        (false, true) => return conclude::uncordoned(seen, input, ledger, outcome, now),
        // Seen drained, but not cordoned: the eviction of a single pod, or an admin who changed his mind.
        (false, false) if seen.spec.scope == MaintenanceScope::Evicted => {
            return conclude::uncordoned(seen, input, ledger, outcome, now);
        }
        (false, false) => {
            let (node, maintenance) = (seen.spec.infra_node.clone(), seen.name.clone());
            outcome.actions.push(Action::Cordon { node, maintenance });
            progress::track(seen, input, outcome, now);
            return;
        }
    }
    progress::track(seen, input, outcome, now);
    progress::advance(seen, input, ledger, outcome, progress::Begin::Allowed, now);
    conclude::settle(seen, outcome, now);
}

/// Makes the plan again, keeping the old one's time if it says the same.
fn refresh_plan(seen: &ObservedMaintenance, input: &PassInput, status: &mut MaintenanceStatus, now: Timestamp) {
    let node = &seen.spec.infra_node;
    let machines = machines_of(seen, input);
    let unmanaged = input.unmanaged.get(node).cloned().unwrap_or_default();
    let known = input.capacity_known.contains(node);
    let mut plan = make_plan(&machines, seen.spec.strategy, unmanaged, known, now);
    if let Some(old) = &status.plan
        && old.id == plan.id
    {
        plan.plan_time.clone_from(&old.plan_time);
    }
    let text = format!("{} machines, plan {}", plan.entries.len(), plan.id);
    status.total = i32::try_from(plan.entries.len()).unwrap_or(i32::MAX);
    status.plan = Some(plan);
    progress::condition(status, "Planned", true, "Planned", &text, now);
}

/// The plan for machines: what happens to each, in the order of their turn.
pub fn make_plan(
    machines: &[&ObservedMachine],
    strategy: MaintenanceStrategy,
    unmanaged: Vec<String>,
    capacity_known: bool,
    now: Timestamp,
) -> MaintenancePlanStatus {
    let mut judged: Vec<_> = machines
        .iter()
        .map(|machine| (plan_evacuation(machine, strategy, 0), *machine))
        .collect();
    judged.sort_by(|(a, x), (b, y)| (a.disposition, &x.key).cmp(&(b.disposition, &y.key)));
    let entries: Vec<_> = judged
        .into_iter()
        .map(|(verdict, machine)| {
            let (target_node, target_zone, target_reason) = match &machine.target {
                Target::Found { node, zone } => (node.clone(), zone.clone(), String::new()),
                Target::Nowhere(why) => (String::new(), String::new(), why.clone()),
                Target::Unknown => (String::new(), String::new(), "capacity is not known".to_owned()),
            };
            let risks = risks_of(machine, verdict.disposition).into_iter();
            PlannedEvacuationStatus {
                namespace: machine.key.namespace.clone(),
                machine: machine.key.machine.clone(),
                disposition: verdict.disposition.as_str().to_owned(),
                reason: verdict.reason.to_owned(),
                message: verdict.message,
                target_node,
                target_zone,
                target_reason,
                risks: risks
                    .map(|risk| EvacuationRiskStatus {
                        kind: risk.kind.into(),
                        subject: risk.subject,
                        message: risk.message,
                    })
                    .collect(),
            }
        })
        .collect();
    MaintenancePlanStatus {
        id: fingerprint(&entries),
        plan_time: Some(Time(now)),
        entries,
        unmanaged,
        capacity_known,
    }
}

/// A short text that is the same exactly as long as machines and dispositions are.
fn fingerprint(entries: &[PlannedEvacuationStatus]) -> String {
    let lines: Vec<String> = entries
        .iter()
        .map(|entry| format!("{}/{}={};", entry.namespace, entry.machine, entry.disposition))
        .collect();
    short_digest(&lines.concat(), 6)
}
