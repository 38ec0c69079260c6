//! The phase of a machine, derived from what is observed.
//!
//! The clock of a join starts when the disks are filled (the instance exists) and again when the guest is started, so that a slow import is
//! never taken for a machine that does not come up, and one that finds no infra node is.

use jiff::{SignedDuration, Timestamp};
use steading_infra::intent::Action;

use super::observed::{ObservedInstance, ObservedMachine, ObservedNode, Patience};
use crate::domain::pool::Availability;

/// Where a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The VM exists; nothing runs.
    Pending,
    /// Disks are filled, a place is looked for.
    Provisioning,
    /// The guest has not joined.
    Booting,
    /// The node is ready.
    Running,
    /// It moves.
    Migrating,
    /// Pods leave.
    Draining,
    /// Volumes are detached.
    Detaching,
    /// VM and node are deleted.
    Deleting,
    /// Not ready although it was, or never joined in time.
    Unhealthy,
    /// Cannot come up without a change.
    Failed,
    /// Stopped or restarting.
    Stopped,
    /// The tenant cannot be asked.
    Unknown,
}

/// A phase with its reason in CamelCase and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseReport {
    /// The phase.
    pub phase: Phase,
    /// Why.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

fn report(phase: Phase, reason: &'static str, message: impl Into<String>) -> PhaseReport {
    PhaseReport {
        phase,
        reason,
        message: message.into(),
    }
}

impl ObservedMachine {
    /// Whether the planner may count on it.
    pub fn availability(&self, patience: &Patience, now: Timestamp) -> Availability {
        match self.running_phase(patience, now).phase {
            Phase::Unhealthy | Phase::Failed => Availability::Broken,
            Phase::Unknown => Availability::Unknown,
            Phase::Migrating => match self.node {
                ObservedNode::Unknown => Availability::Unknown,
                _ if self.is_ready() && !self.is_cordoned() => Availability::Available,
                _ => Availability::Starting,
            },
            Phase::Running => match &self.node {
                ObservedNode::Present { since: Some(since), .. } if now.duration_since(*since) < patience.min_ready => {
                    Availability::Starting
                }
                _ if self.is_cordoned() || self.wants(Action::Drain) => Availability::Away,
                _ => Availability::Available,
            },
            Phase::Pending
            | Phase::Provisioning
            | Phase::Booting
            | Phase::Draining
            | Phase::Detaching
            | Phase::Deleting
            | Phase::Stopped => Availability::Starting,
        }
    }

    /// Derives the phase. `detaching` is what the drain says.
    pub fn phase(&self, patience: &Patience, detaching: bool, now: Timestamp) -> PhaseReport {
        if self.vm_terminating {
            return report(
                Phase::Deleting,
                "VirtualMachineTerminating",
                "the virtual machine is being deleted",
            );
        }
        if self.delete().is_some() && detaching {
            return report(Phase::Detaching, "WaitingForDetach", "volumes are being detached");
        }
        if self.delete().is_some() || self.wants(Action::Drain) {
            return report(Phase::Draining, "Draining", "pods are leaving the node");
        }
        self.running_phase(patience, now)
    }

    /// What keeps it from coming up or from working, if something does that does not end by itself.
    pub fn trouble_report(&self, patience: &Patience, now: Timestamp) -> Option<PhaseReport> {
        let report = self.running_phase(patience, now);
        let stuck = matches!(report.phase, Phase::Unhealthy | Phase::Failed) || report.reason == "Unschedulable";
        stuck.then_some(report)
    }

    pub(super) fn running_phase(&self, patience: &Patience, now: Timestamp) -> PhaseReport {
        match self.printable.as_str() {
            "ErrorUnschedulable" => {
                let message = self.trouble_or("no infra node fits");
                return match self.waiting_since() {
                    Some(since) if !self.has_joined() && now.duration_since(since) > patience.join => {
                        report(Phase::Unhealthy, "Unschedulable", message)
                    }
                    _ => report(Phase::Provisioning, "Unschedulable", message),
                };
            }
            "ErrorPvcNotFound" | "DataVolumeError" | "ErrorDataVolumeNotFound" => {
                return report(Phase::Failed, "DiskFailed", self.trouble_or("a disk cannot be made"));
            }
            "CrashLoopBackOff" | "ErrImagePull" | "ImagePullBackOff" => {
                return report(
                    Phase::Failed,
                    "CrashLoop",
                    self.trouble_or("the virtual machine does not stay up"),
                );
            }
            "Paused" => return report(Phase::Stopped, "Paused", "the guest is paused"),
            _ => {}
        }
        let Some(instance) = self.instance.as_ref().filter(|instance| !instance.terminating) else {
            return match self.printable.as_str() {
                "Provisioning" | "WaitingForVolumeBinding" => {
                    report(Phase::Provisioning, "PreparingDisks", "disks are being filled")
                }
                // An instance that is missing while its VM exists is a restart, not a deleted machine.
                _ if self.has_joined() => report(Phase::Stopped, "Restarting", "the guest is stopped or restarting"),
                _ => report(Phase::Pending, "WaitingForInstance", "nothing runs yet"),
            };
        };
        if instance.migrating {
            return report(
                Phase::Migrating,
                "LiveMigration",
                "the machine moves to another infra node",
            );
        }
        match instance.phase.as_str() {
            "Running" => self.guest_phase(instance, patience, now),
            "Succeeded" | "Failed" => report(Phase::Stopped, "GuestEnded", "the guest has ended and is started again"),
            "Unknown" => report(Phase::Unknown, "InfraNodeSilent", "the infra node does not report"),
            _ => match self.waiting_since() {
                Some(since) if !self.has_joined() && now.duration_since(since) > patience.join => report(
                    Phase::Unhealthy,
                    "NeverStarted",
                    self.trouble_or("the guest was not started in time"),
                ),
                _ => report(
                    Phase::Provisioning,
                    "Starting",
                    self.trouble_or("a place is being looked for"),
                ),
            },
        }
    }

    /// Since when its disks are filled and it could start.
    fn waiting_since(&self) -> Option<Timestamp> {
        self.instance.as_ref()?.created
    }

    fn guest_phase(&self, instance: &ObservedInstance, patience: &Patience, now: Timestamp) -> PhaseReport {
        let started = instance.running_since.or(instance.created).unwrap_or(self.created);
        match &self.node {
            ObservedNode::Unknown => report(
                Phase::Unknown,
                "TenantUnreachable",
                "the tenant api server does not answer",
            ),
            // It had joined in this very boot, so nothing will bring the Node back by itself.
            ObservedNode::Absent if self.joined.is_some_and(|joined| joined >= started) => report(
                Phase::Unhealthy,
                "NodeDeleted",
                "the guest runs, but its node was deleted from the cluster; restart or replace the machine",
            ),
            ObservedNode::Absent if now.duration_since(started) > patience.join => report(
                Phase::Unhealthy,
                "NeverJoined",
                "the guest runs and has not joined its cluster in time",
            ),
            ObservedNode::Absent => report(Phase::Booting, "WaitingForNode", "the guest boots"),
            ObservedNode::Present {
                ready: true,
                uninitialized: true,
                ..
            } => report(Phase::Booting, "Initializing", "the node is being filled in"),
            ObservedNode::Present { ready: true, .. } => report(Phase::Running, "NodeReady", ""),
            ObservedNode::Present {
                ready: false, since, ..
            } => {
                // A boot takes its time although the Node of the last one is still there.
                let since = since.unwrap_or(started).max(started);
                if overdue(now, since, patience.unhealthy) {
                    report(
                        Phase::Unhealthy,
                        "NodeNotReady",
                        "the node has not been ready for too long",
                    )
                } else {
                    report(Phase::Booting, "NodeNotReady", "the node is not ready")
                }
            }
        }
    }

    fn trouble_or(&self, text: &str) -> String {
        self.trouble.clone().unwrap_or_else(|| text.to_owned())
    }
}

fn overdue(now: Timestamp, since: Timestamp, limit: SignedDuration) -> bool {
    now.duration_since(since) > limit
}
