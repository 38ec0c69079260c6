//! Maintenance objects ⇄ messages.

use kube::ResourceExt;
use steading_api::lifecycle::v1::{
    Disposition, EvacuationBudget, EvacuationProgress, EvacuationRisk, EvacuationSummary, EvacuationTarget,
    Maintenance as Message, MaintenancePlan, PlannedEvacuation, StallPolicy,
    evacuation_progress::Phase,
    maintenance::{Origin, State as ProtoState, Strategy},
    stall_policy::Action as ProtoAction,
};
use steading_infra::{
    crd::{
        Maintenance,
        maintenance::{
            EvacuationProgressStatus, MaintenanceBudget, MaintenanceDesire, MaintenancePlanStatus, MaintenanceSpec,
            MaintenanceStallPolicy, MaintenanceStatus, MaintenanceStrategy, PlannedEvacuationStatus, StallAction,
        },
    },
    labels,
};
use steading_model::{
    name::{InfraNodeName, MachineName, MaintenanceName},
    violation::Violations,
};
use steading_runtime::standard::{condition, time};

use super::{duration, seconds};
use crate::plan::{
    evacuation,
    maintenance::{State, budget},
};

/// The resource that an object is.
pub fn message(object: &Maintenance) -> Option<Message> {
    let name: MaintenanceName = format!("maintenances/{}", object.name_any()).parse().ok()?;
    let status = object.status.clone().unwrap_or_default();
    let detected = object.annotations().contains_key(labels::DRAIN_DETECTED);
    let state = State::of(&status);
    Some(Message {
        name: name.to_string(),
        state: state_of(state).into(),
        conditions: status.conditions.iter().map(condition).collect(),
        reconciling: is_reconciling(object, &status, state),
        infra_node: infra_node(&object.spec.infra_node),
        budget: Some(budget_of(&object.spec.budget)),
        stall_policy: Some(stall_policy_of(&object.spec.stall_policy)),
        strategy: strategy_of(object.spec.strategy).into(),
        description: object.spec.description.clone(),
        origin: if detected {
            Origin::DrainDetected
        } else {
            Origin::Requested
        }
        .into(),
        plan: status.plan.as_ref().map(|plan| plan_of(plan, &object.spec.infra_node)),
        progress: status.progress.iter().map(progress_of).collect(),
        summary: Some(summary_of(&status)),
        start_time: time(status.start_time.as_ref()),
        progress_time: time(status.progress_time.as_ref()),
        evacuate_time: time(status.evacuate_time.as_ref()),
        end_time: time(status.end_time.as_ref()),
        ..Message::default()
    })
}

fn is_reconciling(object: &Maintenance, status: &MaintenanceStatus, state: State) -> bool {
    let behind = status.observed_generation != object.metadata.generation;
    match state {
        State::Planned => behind || status.plan.is_none(),
        State::Running | State::Stalled | State::Cancelling => true,
        State::InMaintenance => behind || object.spec.desired_state != MaintenanceDesire::InMaintenance,
        State::Completed | State::Cancelled | State::Failed => false,
    }
}

fn infra_node(node: &str) -> String {
    if node.is_empty() {
        String::new()
    } else {
        format!("infraNodes/{node}")
    }
}

fn state_of(state: State) -> ProtoState {
    match state {
        State::Planned => ProtoState::Planned,
        State::Running => ProtoState::Running,
        State::Stalled => ProtoState::Stalled,
        State::InMaintenance => ProtoState::InMaintenance,
        State::Completed => ProtoState::Completed,
        State::Cancelling => ProtoState::Cancelling,
        State::Cancelled => ProtoState::Cancelled,
        State::Failed => ProtoState::Failed,
    }
}

fn strategy_of(strategy: MaintenanceStrategy) -> Strategy {
    match strategy {
        MaintenanceStrategy::MigrateOrReplace => Strategy::MigrateOrReplace,
        MaintenanceStrategy::MigrateOnly => Strategy::MigrateOnly,
        MaintenanceStrategy::ReplaceOnly => Strategy::ReplaceOnly,
    }
}

/// The strategy of a request; a violation if there is no such value.
pub fn strategy(found: &mut Violations, value: i32) -> MaintenanceStrategy {
    match Strategy::try_from(value) {
        Ok(Strategy::Unspecified | Strategy::MigrateOrReplace) => MaintenanceStrategy::MigrateOrReplace,
        Ok(Strategy::MigrateOnly) => MaintenanceStrategy::MigrateOnly,
        Ok(Strategy::ReplaceOnly) => MaintenanceStrategy::ReplaceOnly,
        Err(_) => {
            found.add("strategy", "is not a known value");
            MaintenanceStrategy::default()
        }
    }
}

fn budget_of(wanted: &MaintenanceBudget) -> EvacuationBudget {
    let or = |value: Option<i32>, default: i32| value.filter(|&n| n > 0).unwrap_or(default);
    EvacuationBudget {
        max_concurrent_per_infra_node: or(wanted.max_concurrent_per_infra_node, budget::PER_INFRA_NODE),
        max_concurrent_per_zone: or(wanted.max_concurrent_per_zone, budget::PER_ZONE),
        max_concurrent_per_tenant_cluster: or(wanted.max_concurrent_per_tenant_cluster, budget::PER_TENANT_CLUSTER),
    }
}

fn stall_policy_of(policy: &MaintenanceStallPolicy) -> StallPolicy {
    let action = match policy.action {
        StallAction::Report => ProtoAction::Report,
        StallAction::Escalate => ProtoAction::Escalate,
    };
    StallPolicy {
        action: action.into(),
        stall_after: duration(policy.stall_after_seconds),
        escalate_after: duration(policy.escalate_after_seconds),
    }
}

/// A plan on the wire.
pub fn plan_of(plan: &MaintenancePlanStatus, node: &str) -> MaintenancePlan {
    MaintenancePlan {
        id: plan.id.clone(),
        infra_node: infra_node(node),
        plan_time: time(plan.plan_time.as_ref()),
        entries: plan.entries.iter().map(entry_of).collect(),
        unmanaged_instances: plan.unmanaged.clone(),
        capacity_known: plan.capacity_known,
    }
}

fn machine(namespace: &str, machine: &str) -> String {
    MachineName::from_object(namespace, machine)
        .map(|name| name.to_string())
        .unwrap_or_default()
}

fn disposition(text: &str) -> Disposition {
    match evacuation::Disposition::from_text(text) {
        evacuation::Disposition::Leaving => Disposition::Leaving,
        evacuation::Disposition::LiveMigrate => Disposition::LiveMigrate,
        evacuation::Disposition::RestartInPlace => Disposition::RestartInPlace,
        evacuation::Disposition::SurgeThenDrain => Disposition::SurgeThenDrain,
        evacuation::Disposition::DrainThenReplace => Disposition::DrainThenReplace,
        evacuation::Disposition::Blocked => Disposition::Blocked,
    }
}

fn entry_of(entry: &PlannedEvacuationStatus) -> PlannedEvacuation {
    let risks = entry.risks.iter();
    PlannedEvacuation {
        machine: machine(&entry.namespace, &entry.machine),
        disposition: disposition(&entry.disposition).into(),
        reason: entry.reason.clone(),
        message: entry.message.clone(),
        target: Some(EvacuationTarget {
            infra_node: infra_node(&entry.target_node),
            zone: entry.target_zone.clone(),
            reason: entry.target_reason.clone(),
        }),
        risks: risks
            .map(|risk| EvacuationRisk {
                r#type: risk.kind.clone(),
                subject: risk.subject.clone(),
                message: risk.message.clone(),
            })
            .collect(),
    }
}

fn phase(text: &str) -> Phase {
    match text {
        "Waiting" => Phase::Waiting,
        "Migrating" => Phase::Migrating,
        "Replacing" => Phase::Replacing,
        "Draining" => Phase::Draining,
        "Restarting" => Phase::Restarting,
        "Moved" => Phase::Moved,
        "Blocked" => Phase::Blocked,
        "Cancelled" => Phase::Cancelled,
        _ => Phase::Unspecified,
    }
}

fn progress_of(one: &EvacuationProgressStatus) -> EvacuationProgress {
    EvacuationProgress {
        machine: machine(&one.namespace, &one.machine),
        phase: phase(&one.phase).into(),
        disposition: disposition(&one.disposition).into(),
        reason: one.reason.clone(),
        message: one.message.clone(),
        target_infra_node: infra_node(&one.target_node),
        start_time: time(one.start_time.as_ref()),
        end_time: time(one.end_time.as_ref()),
        migration_attempts: one.migration_attempts,
        differs_from_plan: one.differs_from_plan,
    }
}

fn summary_of(status: &MaintenanceStatus) -> EvacuationSummary {
    let count = |wanted: &[Phase]| {
        let found = status
            .progress
            .iter()
            .filter(|one| wanted.contains(&phase(&one.phase)))
            .count();
        i32::try_from(found).unwrap_or(i32::MAX)
    };
    EvacuationSummary {
        total: status.total,
        waiting: count(&[Phase::Waiting]),
        moving: count(&[Phase::Migrating, Phase::Replacing, Phase::Draining, Phase::Restarting]),
        moved: count(&[Phase::Moved]),
        blocked: count(&[Phase::Blocked]),
    }
}

/// What a resource wants; how far it is to go is kept from `current`.
///
/// # Errors
/// Every violation.
pub fn spec(message: &Message, current: Option<&MaintenanceSpec>) -> Result<MaintenanceSpec, Violations> {
    let mut found = Violations::new();
    let node = match message.infra_node.parse::<InfraNodeName>() {
        Ok(name) => name.object_name(),
        Err(error) => {
            found.add("infra_node", error.to_string());
            String::new()
        }
    };
    let wanted = message.budget.unwrap_or_default();
    let mut limit = |path: &str, value: i32| {
        if value < 0 {
            found.add(path, "must not be negative");
        }
        (value > 0).then_some(value)
    };
    let budget = MaintenanceBudget {
        max_concurrent_per_infra_node: limit(
            "budget.max_concurrent_per_infra_node",
            wanted.max_concurrent_per_infra_node,
        ),
        max_concurrent_per_zone: limit("budget.max_concurrent_per_zone", wanted.max_concurrent_per_zone),
        max_concurrent_per_tenant_cluster: limit(
            "budget.max_concurrent_per_tenant_cluster",
            wanted.max_concurrent_per_tenant_cluster,
        ),
    };
    let policy = message.stall_policy.unwrap_or_default();
    let action = match ProtoAction::try_from(policy.action) {
        Ok(ProtoAction::Unspecified | ProtoAction::Report) => StallAction::Report,
        Ok(ProtoAction::Escalate) => StallAction::Escalate,
        Err(_) => {
            found.add("stall_policy.action", "is not a known value");
            StallAction::Report
        }
    };
    let stall_policy = MaintenanceStallPolicy {
        action,
        stall_after_seconds: seconds(&mut found, "stall_policy.stall_after", policy.stall_after.as_ref()),
        escalate_after_seconds: seconds(
            &mut found,
            "stall_policy.escalate_after",
            policy.escalate_after.as_ref(),
        ),
    };
    let strategy = strategy(&mut found, message.strategy);
    if !found.is_empty() {
        return Err(found);
    }
    let kept = current.cloned().unwrap_or_default();
    Ok(MaintenanceSpec {
        infra_node: node,
        strategy,
        budget,
        stall_policy,
        description: message.description.clone(),
        ..kept
    })
}
