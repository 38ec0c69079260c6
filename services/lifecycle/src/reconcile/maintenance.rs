//! Carries out maintenances: one look at all of them, as budgets span them.
//!
//! Also turns plain drains into maintenances: KubeVirt marks a machine whose pod is evicted (`status.evacuationNodeName`), and a
//! marked machine on a cordoned infra node makes a Maintenance `eviction-<node>` with the scope `Evicted` and default budgets, so
//! that the drain is planned, budgeted, watched and cancelled like any other. A cordon alone marks nothing and so moves nothing.

mod act;
mod detect;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use steading_infra::{
    apply::{self, FieldManager},
    crd::Maintenance,
    kubevirt::migration::MigrationPhase,
    labels,
};

use super::Outcome as Reconciled;
use crate::{
    apply::event::Tone,
    context::Context,
    error::Error,
    observe::{
        cordon::observe_cordon,
        evacuation::{locations, observe_asked, observe_away, observe_node},
    },
    plan::{
        evacuation::MachineKey,
        maintenance::{Action, FailedMigrations, ObservedMaintenance, Outcome, PassInput, State, plan_pass},
    },
};

/// How often a maintenance that is under way is looked at without a signal: stalls and back-offs are told by time alone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often a plan that nobody has started is refreshed.
const REFRESH_PLAN: Duration = Duration::from_secs(30);

/// Looks at all maintenances and at drains of infra nodes.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn reconcile(context: &Context) -> Result<Reconciled, Error> {
    let detected = detect::drains(context).await?;
    let mut again = (detected.found || !detected.evictions.is_empty()).then_some(LOOK_AGAIN);
    let mut input = observe_pass(context).await;
    input.evictions = detected.evictions;
    let plan = plan_pass(&input, context.clock.now());
    for action in &plan.actions {
        if let Err(error) = act::act(context, action).await {
            tracing::warn!(?action, error = %steading_runtime::tasks::Chain(&error), "a step failed");
            again = Some(LOOK_AGAIN);
        }
    }
    for outcome in plan.outcomes {
        let Some(seen) = input.maintenances.iter().find(|one| one.name == outcome.name) else {
            continue;
        };
        let pause = carry_out(context, seen, outcome).await;
        again = match (again, pause) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Ok(again.map_or(Reconciled::Settled, Reconciled::Again))
}

/// Acts and stores the status; when to look again.
async fn carry_out(context: &Context, seen: &ObservedMaintenance, outcome: Outcome) -> Option<Duration> {
    let state = State::of(&outcome.status);
    // An end is stored when it is reached: nobody looks again at a maintenance that is over, so a crash in between would leave the infra
    // node cordoned for ever. Only the finalizer goes last, since the status goes with it.
    let (before, after): (Vec<_>, Vec<_>) = outcome
        .actions
        .iter()
        .partition(|action| state.is_final() && !matches!(action, Action::Release { .. }));
    if !act_all(context, seen, &before).await {
        return Some(LOOK_AGAIN);
    }
    // What was planned is stored before anything of it is done: the plan that people see is the one that is carried out.
    if outcome.status != seen.status && !store(context, &outcome).await {
        return Some(LOOK_AGAIN);
    }
    if state != State::of(&seen.status) {
        report(context, seen, &outcome, state).await;
    }
    if !act_all(context, seen, &after).await {
        return Some(LOOK_AGAIN);
    }
    match state {
        State::Running | State::Stalled | State::Cancelling => Some(LOOK_AGAIN),
        State::Planned | State::InMaintenance => Some(REFRESH_PLAN),
        State::Completed | State::Cancelled | State::Failed => None,
    }
}

/// Says that a maintenance changed its state, in the log and on the object.
async fn report(context: &Context, seen: &ObservedMaintenance, outcome: &Outcome, state: State) {
    tracing::info!(maintenance = %seen.name, node = %seen.spec.infra_node, state = state.as_str(), "maintenance changed its state");
    let Some(object) = context.observed.maintenances.get("", &seen.name) else {
        return;
    };
    let tone = match state {
        State::Stalled | State::Failed => Tone::Warning,
        State::Planned
        | State::Running
        | State::InMaintenance
        | State::Completed
        | State::Cancelling
        | State::Cancelled => Tone::Normal,
    };
    let of_kind = |kind: &str| {
        outcome
            .status
            .conditions
            .iter()
            .find(|c| c.type_ == kind && c.status == "True")
    };
    let why = of_kind("Stalled").or_else(|| of_kind("Cancelled"));
    let note = why.map_or_else(
        || {
            format!(
                "{} of {} machines have left",
                outcome.status.moved, outcome.status.total
            )
        },
        |condition| condition.message.clone(),
    );
    context
        .events
        .publish(object.as_ref(), tone, "Evacuate", state.as_str(), &note)
        .await;
}

/// Acts until something fails: taking the finalizer off after a failed step could leave the infra node cordoned for ever.
async fn act_all(context: &Context, seen: &ObservedMaintenance, actions: &[&Action]) -> bool {
    for action in actions {
        if let Err(error) = act::act(context, action).await {
            tracing::warn!(maintenance = %seen.name, ?action, error = %steading_runtime::tasks::Chain(&error), "a step of a maintenance failed");
            return false;
        }
    }
    true
}

async fn store(context: &Context, outcome: &Outcome) -> bool {
    let api = context.all::<Maintenance>();
    match apply::apply_status(&api, FieldManager::Lifecycle, &outcome.name, &outcome.status).await {
        Ok(stored) => {
            // The next pass may come before the watch's event.
            context.observed.maintenances.upsert(stored);
            true
        }
        Err(error) => {
            tracing::warn!(maintenance = %outcome.name, error = %steading_runtime::tasks::Chain(&error), "status not stored");
            false
        }
    }
}

async fn observe_pass(context: &Context) -> PassInput {
    let observed = &context.observed;
    let mut input = PassInput::default();
    for maintenance in observed.maintenances.all() {
        let seen = observe_maintenance(context, &maintenance);
        let node = seen.spec.infra_node.clone();
        if !State::of(&seen.status).is_final() && seen.node.is_some() && !input.machines.contains_key(&node) {
            let sight = observe_node(context, &node).await;
            if sight.capacity_known {
                input.capacity_known.push(node.clone());
            }
            input.unmanaged.insert(node.clone(), sight.unmanaged);
            input.machines.insert(node, sight.machines);
        }
        input.maintenances.push(seen);
    }
    input.maintenances.sort_by(|a, b| a.name.cmp(&b.name));
    input.asked = observe_asked(context);
    for node in observed.nodes.all() {
        if let Some(zone) = node.labels().get(labels::ZONE) {
            input.zones.insert(node.name_any(), zone.clone());
        }
        let seen = observe_cordon(&node);
        if let Some(by) = seen.cordoned_by.filter(|_| seen.cordoned) {
            input.cordons.insert(node.name_any(), by);
        }
    }
    input.away = observe_away(context, None);
    if input.machines.is_empty() {
        return input;
    }
    input.locations = locations(context);
    input.failed = failed_migrations(context);
    input
}

fn observe_maintenance(context: &Context, maintenance: &Maintenance) -> ObservedMaintenance {
    let node = context.observed.nodes.get("", &maintenance.spec.infra_node);
    ObservedMaintenance {
        name: maintenance.name_any(),
        spec: maintenance.spec.clone(),
        status: maintenance.status.clone().unwrap_or_default(),
        generation: maintenance.metadata.generation.unwrap_or_default(),
        deleting: maintenance.metadata.deletion_timestamp.is_some(),
        finalizer: maintenance
            .finalizers()
            .iter()
            .any(|one| one == labels::MAINTENANCE_FINALIZER),
        node: node.map(|node| observe_cordon(&node)),
    }
}

fn failed_migrations(context: &Context) -> BTreeMap<(String, MachineKey), FailedMigrations> {
    let mut failed: BTreeMap<(String, MachineKey), FailedMigrations> = BTreeMap::new();
    for migration in context.observed.migrations.all() {
        let phase = migration.status.as_ref().and_then(|status| status.phase.as_ref());
        let (Some(MigrationPhase::Failed), Some(maintenance)) = (phase, migration.labels().get(labels::MAINTENANCE))
        else {
            continue;
        };
        let key = MachineKey {
            namespace: migration.namespace().unwrap_or_default(),
            machine: migration.spec.vmi_name.clone(),
        };
        let made = migration
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let entry = failed
            .entry((maintenance.clone(), key))
            .or_insert(FailedMigrations { count: 0, last: made });
        entry.count += 1;
        entry.last = entry.last.max(made);
    }
    failed
}
