//! What is said of a pool: its counts, conditions and short state.

use jiff::Timestamp;
use kube::ResourceExt;
use steading_infra::{
    apply::{self, FieldManager},
    crd::{MachinePool, machine_pool::MachinePoolStatus},
    error::InfraError,
};

use super::execute::failures_status;
use crate::{
    apply::{
        event::Tone,
        status::{set_condition, truth},
    },
    context::Context,
    domain::{
        machine::{ObservedMachine, ObservedNode},
        pool::DesiredPool,
        rendering::Rendering,
    },
    error::Error,
    observe::{machine::patience_of, pool::trouble::Trouble},
    plan::{
        pool::{Failures, PoolPlan, WaitReason},
        report::PROGRESSING,
    },
    reconcile::Outcome,
};

/// Reason of a pool that cannot be rendered because a peer does not answer.
pub(super) const UNAVAILABLE: &str = "RenderingUnavailable";

/// What is said of a pool.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) refusal: Option<Trouble>,
    pub(super) trouble: Option<Trouble>,
    pub(super) rendering: Option<Rendering>,
    /// Machines that are wanted, whatever the quota says.
    pub(super) desired: usize,
    replicas: usize,
    pub(super) ready: usize,
    /// Machines whose tenant does not answer.
    unknown: usize,
    updated: usize,
    pub(super) terminating: usize,
    waiting: Option<(WaitReason, String)>,
    halted: Option<String>,
    failures: Failures,
    /// The machine that stands in the way, with its own reason.
    stuck: Option<Trouble>,
    rolling: bool,
    scaling: bool,
}

impl Report {
    pub(super) fn refused(refusal: Trouble) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::default()
        }
    }

    pub(super) fn of(
        desired: &DesiredPool,
        plan: &PoolPlan,
        machines: &[ObservedMachine],
        pool: &MachinePool,
        now: Timestamp,
    ) -> Self {
        let current: Vec<&ObservedMachine> = machines.iter().filter(|m| !m.is_terminating()).collect();
        let patience = patience_of(Some(pool));
        let updated = |m: &&&ObservedMachine| {
            desired
                .revision
                .as_deref()
                .is_none_or(|revision| m.revision == revision)
        };
        let stuck = current.iter().find_map(|m| {
            let report = m.trouble_report(&patience, now)?;
            Some(Trouble::new(report.reason, format!("{}: {}", m.name, report.message)))
        });
        Self {
            desired: desired.replicas,
            replicas: current.len(),
            ready: current.iter().filter(|m| m.is_ready()).count(),
            unknown: current.iter().filter(|m| m.node == ObservedNode::Unknown).count(),
            updated: current.iter().filter(updated).count(),
            terminating: machines.len() - current.len(),
            waiting: plan.waiting.clone(),
            halted: plan.halted.clone(),
            failures: plan.failures.clone(),
            stuck,
            rolling: plan.outdated > 0,
            scaling: current.len() != desired.replicas || machines.len() != current.len(),
            ..Self::default()
        }
    }
}

/// Writes the status if it differs, and says on the object and in the log what changed.
pub(super) async fn store(context: &Context, pool: &MachinePool, report: &Report) -> Result<Outcome, Error> {
    // Failures may have been stored a moment ago.
    let known = context
        .observed
        .pools
        .get(&pool.namespace().unwrap_or_default(), &pool.name_any());
    let before = known
        .and_then(|pool| pool.status.clone())
        .or(pool.status.clone())
        .unwrap_or_default();
    let after = status_of(&before, pool, report, context.clock.now());
    if after == before {
        return Ok(Outcome::Settled);
    }
    tell(context, pool, &before, &after).await;
    let api = context.namespaced::<MachinePool>(&pool.namespace().unwrap_or_default());
    match apply::apply_status(&api, FieldManager::Lifecycle, &pool.name_any(), &after).await {
        Ok(written) => {
            context.observed.pools.upsert(written);
            Ok(Outcome::Settled)
        }
        Err(InfraError::NotFound(_)) => Ok(Outcome::Settled),
        Err(error) => Err(error.into()),
    }
}

async fn tell(context: &Context, pool: &MachinePool, before: &MachinePoolStatus, after: &MachinePoolStatus) {
    let ready = |status: &MachinePoolStatus| {
        let found = status.conditions.iter().find(|c| c.type_ == "Ready");
        found.map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
    };
    let ((was, _), (reason, message)) = (ready(before), ready(after));
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    if before.phase != after.phase {
        let state = after.phase.as_deref().unwrap_or_default();
        tracing::info!(namespace, pool = name, state, reason, "pool changed its state");
    }
    if was == reason || reason == PROGRESSING {
        return;
    }
    let tone = if reason == "AllReady" {
        Tone::Normal
    } else {
        Tone::Warning
    };
    context.events.publish(pool, tone, "Reconcile", &reason, &message).await;
}

/// The status that follows from what is seen.
fn status_of(before: &MachinePoolStatus, pool: &MachinePool, report: &Report, now: Timestamp) -> MachinePoolStatus {
    let generation = pool.metadata.generation;
    let mut after = before.clone();
    after.observed_generation = generation;
    if let Some(Trouble { reason, message }) = &report.refusal {
        let accepted = ("Accepted", "False", *reason, message.as_str());
        set_condition(&mut after.conditions, generation, now, accepted);
        let ready = ("Ready", "False", "NotAccepted", message.as_str());
        set_condition(&mut after.conditions, generation, now, ready);
        after.phase = Some("Rejected".into());
        return after;
    }
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    after.desired_replicas = Some(count(report.desired));
    after.replicas = count(report.replicas);
    // What cannot be asked is as it was, not gone.
    let silent = before
        .ready_replicas
        .saturating_sub(count(report.ready))
        .clamp(0, count(report.unknown));
    after.ready_replicas = count(report.ready) + silent;
    after.updated_replicas = count(report.updated);
    after.deleting_replicas = count(report.terminating);
    after.failures = failures_status(&report.failures);
    if let Some(rendering) = &report.rendering {
        after.revision = Some(rendering.revision.clone());
        after.template_revision = Some(rendering.template_revision.clone());
        after.machine_vcpus = Some(rendering.vcpus);
        after.machine_memory = Some(rendering.memory.clone());
        after.machine_storage = Some(rendering.storage.clone());
    }
    conditions(&mut after, pool, report, now);
    after
}

fn conditions(after: &mut MachinePoolStatus, pool: &MachinePool, report: &Report, now: Timestamp) {
    let generation = pool.metadata.generation;
    let refused = report.trouble.as_ref().filter(|trouble| trouble.is_final());
    let (reason, message) = refused.map_or(("Accepted", ""), |why| (why.reason, why.message.as_str()));
    let accepted = ("Accepted", truth(refused.is_none()), reason, message);
    set_condition(&mut after.conditions, generation, now, accepted);

    let ready = report.ready >= report.desired && !report.scaling && !report.rolling;
    let (truth_of_ready, reason, message) = readiness(report, ready);
    let condition = ("Ready", truth_of_ready, reason, message.as_str());
    set_condition(&mut after.conditions, generation, now, condition);

    let (reason, message) = match (&report.waiting, report.rolling, pool.spec.rollout.paused) {
        (Some((reason, message)), _, _) => (reason.as_str(), message.clone()),
        (None, true, _) => ("Replacing", "machines are being replaced".to_owned()),
        (None, false, true) => ("Paused", "rollouts of this pool are paused".to_owned()),
        (None, false, false) => ("UpToDate", String::new()),
    };
    let condition = ("RollingOut", truth(report.rolling), reason, message.as_str());
    set_condition(&mut after.conditions, generation, now, condition);

    let phase = if refused.is_some() {
        "Rejected"
    } else if ready {
        "Ready"
    } else if report.halted.is_some() || report.stuck.is_some() {
        "Degraded"
    } else if report.unknown > 0 && after.phase.is_some() {
        // Nothing is known that would change it.
        return;
    } else if report.rolling {
        "Rolling"
    } else {
        "Scaling"
    };
    after.phase = Some(phase.into());
}

/// Status, reason and message of the condition `Ready`. A pool passes on what its machines say: people look at the pool first.
fn readiness(report: &Report, ready: bool) -> (&'static str, &'static str, String) {
    let counts = format!("{} of {} machines are ready", report.ready, report.desired);
    if ready {
        return ("True", "AllReady", String::new());
    }
    if let Some(Trouble { reason, message }) = &report.trouble {
        return ("False", reason, message.clone());
    }
    if let Some(message) = &report.halted {
        return ("False", WaitReason::TooManyFailures.as_str(), message.clone());
    }
    if let Some(Trouble { reason, message }) = &report.stuck {
        return ("False", reason, message.clone());
    }
    if report.unknown > 0 {
        let text = format!(
            "{} machines cannot be asked: the tenant api server does not answer",
            report.unknown
        );
        return ("Unknown", WaitReason::TenantUnreachable.as_str(), text);
    }
    ("False", PROGRESSING, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::machine::tests::{at, mk_running};

    fn condition<'a>(status: &'a MachinePoolStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
        let found = status.conditions.iter().find(|c| c.type_ == kind).expect("a condition");
        (&found.status, &found.reason, &found.message)
    }

    fn mk_report(machines: &[ObservedMachine], replicas: i32) -> (MachinePool, Report) {
        let spec = steading_infra::crd::machine_pool::MachinePoolSpec {
            replicas: Some(replicas),
            ..Default::default()
        };
        let pool = MachinePool::new("w", spec);
        let desired = crate::observe::pool::desired::desired_of(&pool, machines, Some("r".into()));
        let report = Report::of(&desired, &PoolPlan::default(), machines, &pool, at(10));
        (pool, report)
    }

    #[test]
    fn a_pool_passes_on_the_reason_of_its_machine() {
        let mut machine = mk_running("w-1");
        machine.printable = "ErrorUnschedulable".into();
        machine.trouble = Some("0/3 nodes are available: insufficient memory".into());
        machine.node = ObservedNode::Absent;
        let (pool, report) = mk_report(&[machine, mk_running("w-2")], 2);
        let status = status_of(&MachinePoolStatus::default(), &pool, &report, at(10));
        let (truth, reason, message) = condition(&status, "Ready");
        assert_eq!((truth, reason), ("False", "Unschedulable"));
        assert!(
            message.contains("w-1") && message.contains("insufficient memory"),
            "{message}"
        );
        assert_eq!(status.phase.as_deref(), Some("Degraded"));
    }

    #[test]
    fn an_unreachable_tenant_is_not_reported_as_no_ready_machines() {
        let (pool, report) = mk_report(&[mk_running("w-1"), mk_running("w-2")], 2);
        let before = status_of(&MachinePoolStatus::default(), &pool, &report, at(10));
        assert_eq!((before.ready_replicas, before.phase.as_deref()), (2, Some("Ready")));
        let silent = |name| ObservedMachine {
            node: ObservedNode::Unknown,
            ..mk_running(name)
        };
        let (pool, report) = mk_report(&[silent("w-1"), silent("w-2")], 2);
        let after = status_of(&before, &pool, &report, at(20));
        assert_eq!((after.ready_replicas, after.phase.as_deref()), (2, Some("Ready")));
        let (truth, reason, _) = condition(&after, "Ready");
        assert_eq!((truth, reason), ("Unknown", "TenantUnreachable"));
    }

    #[test]
    fn a_pool_that_has_stopped_says_so_with_the_machines_reason() {
        let (pool, mut report) = mk_report(&[mk_running("w-1")], 2);
        report.halted = Some("3 new machines failed: no infra node fits".into());
        let status = status_of(&MachinePoolStatus::default(), &pool, &report, at(10));
        let (_, reason, message) = condition(&status, "Ready");
        assert_eq!(reason, "TooManyFailures");
        assert!(message.contains("no infra node fits"));
        assert_eq!(status.phase.as_deref(), Some("Degraded"));
    }
}
