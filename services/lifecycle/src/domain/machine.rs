//! A machine as it is seen, and the phase that follows from it.

use jiff::{SignedDuration, Timestamp};

use super::pool::Availability;

/// How a machine is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// After a drain.
    Drain,
    /// At once.
    Force,
}

/// A VMI as far as a machine cares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmiSight {
    /// KubeVirt's phase.
    pub phase: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is going.
    pub going: bool,
    /// Infra node.
    pub infra_node: Option<String>,
    /// Addresses, the primary one first.
    pub addresses: Vec<String>,
    /// Whether a migration is under way.
    pub migrating: bool,
    /// Whether it can be migrated.
    pub migratable: bool,
}

/// A tenant node as far as a machine cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeSight {
    /// The tenant API server does not answer.
    Unknown,
    /// It has not joined, or is gone.
    Absent,
    /// It exists.
    Present {
        /// Whether it is ready.
        ready: bool,
        /// Since when it is, or is not.
        since: Option<Timestamp>,
        /// Version of its kubelet.
        kubelet: String,
        /// Whether it still has the cloud provider's taint.
        uninitialized: bool,
    },
}

/// A machine as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedMachine {
    /// Namespace of its cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Hash of what it was made from.
    pub revision: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether the VirtualMachine itself is being deleted.
    pub vm_going: bool,
    /// Whether and how it is to be deleted.
    pub delete: Option<DeleteMode>,
    /// When drain or deletion was asked for.
    pub drain_started: Option<Timestamp>,
    /// Whether a replacement was asked for.
    pub replace: bool,
    /// Whether a drain was asked for.
    pub drain: bool,
    /// Whether a restart was asked for.
    pub restart: bool,
    /// KubeVirt's word for the state of the VM.
    pub printable: String,
    /// Message of the condition that explains a failure.
    pub trouble: Option<String>,
    /// The VMI.
    pub vmi: Option<VmiSight>,
    /// The tenant node.
    pub node: NodeSight,
}

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

/// How patient a pool is with its machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a new machine to join.
    pub join: SignedDuration,
    /// For a node that is not ready.
    pub unhealthy: SignedDuration,
    /// How long a node must be ready to be available.
    pub min_ready: SignedDuration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            join: SignedDuration::from_mins(20),
            unhealthy: SignedDuration::from_mins(10),
            min_ready: SignedDuration::ZERO,
        }
    }
}

fn report(phase: Phase, reason: &'static str, message: impl Into<String>) -> PhaseReport {
    PhaseReport {
        phase,
        reason,
        message: message.into(),
    }
}

impl ObservedMachine {
    /// Whether it is on its way out.
    pub fn is_going(&self) -> bool {
        self.vm_going || self.delete.is_some()
    }

    /// Whether its node is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self.node, NodeSight::Present { ready: true, .. })
    }

    /// Infra node that it runs on.
    pub fn infra_node(&self) -> Option<&str> {
        self.vmi.as_ref()?.infra_node.as_deref()
    }

    /// Derives the phase. `detaching` is what the drain says.
    pub fn phase(&self, patience: &Patience, detaching: bool, now: Timestamp) -> PhaseReport {
        if self.vm_going {
            return report(
                Phase::Deleting,
                "VirtualMachineGoing",
                "the virtual machine is being deleted",
            );
        }
        if self.delete.is_some() && detaching {
            return report(Phase::Detaching, "WaitingForDetach", "volumes are being detached");
        }
        if self.delete.is_some() || self.drain {
            return report(Phase::Draining, "Draining", "pods are leaving the node");
        }
        self.running_phase(patience, now)
    }

    fn running_phase(&self, patience: &Patience, now: Timestamp) -> PhaseReport {
        match self.printable.as_str() {
            "ErrorUnschedulable" => {
                return report(
                    Phase::Provisioning,
                    "Unschedulable",
                    self.trouble_or("no infra node fits"),
                );
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
        let Some(vmi) = self.vmi.as_ref().filter(|vmi| !vmi.going) else {
            let joined = !matches!(self.node, NodeSight::Absent | NodeSight::Unknown);
            return match self.printable.as_str() {
                "Provisioning" | "WaitingForVolumeBinding" => {
                    report(Phase::Provisioning, "PreparingDisks", "disks are being filled")
                }
                // A VMI that is missing while its VM exists is a restart, not a deleted machine.
                _ if joined => report(Phase::Stopped, "Restarting", "the guest is stopped or restarting"),
                _ => report(Phase::Pending, "WaitingForInstance", "nothing runs yet"),
            };
        };
        if vmi.migrating {
            return report(
                Phase::Migrating,
                "LiveMigration",
                "the machine moves to another infra node",
            );
        }
        match vmi.phase.as_str() {
            "Running" => self.guest_phase(patience, now),
            "Succeeded" | "Failed" => report(Phase::Stopped, "GuestEnded", "the guest has ended and is started again"),
            "Unknown" => report(Phase::Unknown, "InfraNodeSilent", "the infra node does not report"),
            _ => report(Phase::Provisioning, "Starting", "a place is being looked for"),
        }
    }

    fn guest_phase(&self, patience: &Patience, now: Timestamp) -> PhaseReport {
        match &self.node {
            NodeSight::Unknown => report(
                Phase::Unknown,
                "TenantUnreachable",
                "the tenant api server does not answer",
            ),
            NodeSight::Absent if now.duration_since(self.created) > patience.join => report(
                Phase::Unhealthy,
                "NeverJoined",
                "the guest runs and has not joined its cluster in time",
            ),
            NodeSight::Absent => report(Phase::Booting, "WaitingForNode", "the guest boots"),
            NodeSight::Present {
                ready: true,
                uninitialized: true,
                ..
            } => report(Phase::Booting, "Initializing", "the node is being filled in"),
            NodeSight::Present { ready: true, .. } => report(Phase::Running, "NodeReady", ""),
            NodeSight::Present {
                ready: false, since, ..
            } => {
                let since = since.unwrap_or(self.created);
                if now.duration_since(since) > patience.unhealthy {
                    report(Phase::Unhealthy, "NodeNotReady", "the node is not ready for too long")
                } else {
                    report(Phase::Booting, "NodeNotReady", "the node is not ready")
                }
            }
        }
    }

    fn trouble_or(&self, text: &str) -> String {
        self.trouble.clone().unwrap_or_else(|| text.to_owned())
    }

    /// Whether the planner may count on it.
    pub fn availability(&self, patience: &Patience, now: Timestamp) -> Availability {
        match self.running_phase(patience, now).phase {
            Phase::Unhealthy | Phase::Failed => Availability::Broken,
            Phase::Unknown => Availability::Unknown,
            Phase::Migrating => match self.node {
                NodeSight::Unknown => Availability::Unknown,
                _ if self.is_ready() => Availability::Available,
                _ => Availability::Starting,
            },
            Phase::Running => match &self.node {
                NodeSight::Present { since: Some(since), .. } if now.duration_since(*since) < patience.min_ready => {
                    Availability::Starting
                }
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
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine whose node is ready.
    pub(crate) fn mk_running(name: &str) -> ObservedMachine {
        ObservedMachine {
            namespace: "p--c".into(),
            name: name.into(),
            pool: "w".into(),
            revision: "r".into(),
            created: Timestamp::UNIX_EPOCH,
            vm_going: false,
            delete: None,
            drain_started: None,
            replace: false,
            drain: false,
            restart: false,
            printable: "Running".into(),
            trouble: None,
            vmi: Some(VmiSight {
                phase: "Running".into(),
                ready: true,
                infra_node: Some("n1".into()),
                ..VmiSight::default()
            }),
            node: NodeSight::Present {
                ready: true,
                since: None,
                kubelet: "v1.36.0".into(),
                uninitialized: false,
            },
        }
    }

    fn phase(machine: &ObservedMachine, seconds: i64) -> Phase {
        machine
            .phase(
                &Patience::default(),
                false,
                Timestamp::from_second(seconds).expect("a time"),
            )
            .phase
    }

    #[test]
    fn phases_follow_from_what_is_seen() {
        let mut machine = mk_running("w-1");
        assert_eq!(phase(&machine, 10), Phase::Running);
        machine.node = NodeSight::Unknown;
        assert_eq!(phase(&machine, 10), Phase::Unknown);
        machine.node = NodeSight::Absent;
        assert_eq!(
            (phase(&machine, 10), phase(&machine, 1300)),
            (Phase::Booting, Phase::Unhealthy)
        );
        machine.vmi = None;
        machine.printable = "Starting".into();
        assert_eq!(phase(&machine, 10), Phase::Pending);
        machine.node = NodeSight::Present {
            ready: false,
            since: None,
            kubelet: String::new(),
            uninitialized: false,
        };
        assert_eq!(
            phase(&machine, 10),
            Phase::Stopped,
            "a missing instance of a known node is a restart"
        );
        machine.delete = Some(DeleteMode::Drain);
        assert_eq!(phase(&machine, 10), Phase::Draining);
        machine.vm_going = true;
        assert_eq!(phase(&machine, 10), Phase::Deleting);
    }

    #[test]
    fn an_unreachable_tenant_makes_no_machine_broken() {
        let mut machine = mk_running("w-1");
        machine.node = NodeSight::Unknown;
        let late = Timestamp::from_second(1_000_000).expect("a time");
        assert_eq!(machine.availability(&Patience::default(), late), Availability::Unknown);
    }
}
