//! A machine as it is observed: VirtualMachine, instance, tenant node, intents and migrations.

use jiff::{SignedDuration, Timestamp};
use steading_infra::intent::{Action, Intent};

/// How a machine is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// After a drain.
    Drain,
    /// At once.
    Force,
}

/// A VirtualMachineInstance as far as its machine cares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedInstance {
    /// Its uid: another boot is another instance.
    pub uid: String,
    /// KubeVirt's phase.
    pub phase: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// When it was created: its disks were filled by then.
    pub created: Option<Timestamp>,
    /// When its guest was started.
    pub running_since: Option<Timestamp>,
    /// Infra node.
    pub infra_node: Option<String>,
    /// Addresses, the primary one first.
    pub addresses: Vec<String>,
    /// Whether a migration is under way.
    pub migrating: bool,
    /// Whether KubeVirt says that it can be migrated.
    pub migratable: bool,
    /// Whether every hot-plugged volume is ready; KubeVirt refuses to migrate before.
    pub hotplug_settled: bool,
}

impl ObservedInstance {
    /// Whether a guest runs in it, or may.
    pub fn may_run(&self) -> bool {
        matches!(self.phase.as_str(), "Running" | "Unknown")
    }
}

/// A tenant node as far as its machine cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedNode {
    /// The tenant API server does not answer.
    Unknown,
    /// It has not joined, or was deleted.
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
        /// Whether it takes new pods, and who says not.
        cordon: NodeCordon,
    },
}

/// Whether a tenant node takes new pods, and who says not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeCordon {
    /// It takes pods.
    None,
    /// Steading cordoned it.
    Ours,
    /// Somebody else did; it is theirs to undo.
    Others,
}

/// A live migration of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedMigration {
    /// Name of the object.
    pub name: String,
    /// Owner of the intent that it carries out; `None` if somebody else made it.
    pub owner: Option<String>,
    /// How far it is.
    pub state: MigrationState,
    /// When it was made.
    pub created: Timestamp,
}

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationState {
    /// Pending or under way.
    Active,
    /// The machine has moved.
    Succeeded,
    /// It has not.
    Failed,
}

/// A machine as it is observed.
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
    pub vm_terminating: bool,
    /// What is wanted of it, the strongest first; expired ones are left out.
    pub intents: Vec<Intent>,
    /// Keys of intents that have expired.
    pub expired: Vec<String>,
    /// When Steading began to drain it; there as long as the drain has to be undone or followed.
    pub drain_started: Option<Timestamp>,
    /// When its guest joined the tenant cluster last.
    pub joined: Option<Timestamp>,
    /// What its removal costs; the cheapest goes first.
    pub deletion_cost: i32,
    /// KubeVirt's word for the state of the VirtualMachine.
    pub printable: String,
    /// Message of the condition that explains a failure.
    pub trouble: Option<String>,
    /// The instance.
    pub instance: Option<ObservedInstance>,
    /// The tenant node.
    pub node: ObservedNode,
    /// Its migrations, oldest first.
    pub migrations: Vec<ObservedMigration>,
}

/// How patient a pool is with its machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a new machine to join, from when its disks were filled, and again from when its guest was started.
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

impl ObservedMachine {
    /// Whether it is being deleted, or is to be.
    pub fn is_terminating(&self) -> bool {
        self.vm_terminating || self.delete().is_some()
    }

    /// Whether and how it is to be deleted.
    pub fn delete(&self) -> Option<DeleteMode> {
        match self.intents.first()?.action {
            Action::ForceDelete => Some(DeleteMode::Force),
            Action::Delete => Some(DeleteMode::Drain),
            Action::Relocate | Action::Migrate | Action::Restart | Action::Drain | Action::Replace => None,
        }
    }

    /// The first intent of an action.
    pub fn intent(&self, action: Action) -> Option<&Intent> {
        self.intents.iter().find(|one| one.action == action)
    }

    /// Whether an action is wanted.
    pub fn wants(&self, action: Action) -> bool {
        self.intent(action).is_some()
    }

    /// Whether its node is to take no pods.
    pub fn wants_cordon(&self) -> bool {
        self.delete().is_some() || self.wants(Action::Relocate) || self.wants(Action::Drain)
    }

    /// Whether it is on the move to another infra node, or to its end.
    pub fn is_moving(&self) -> bool {
        self.is_terminating()
            || self.is_migrating()
            || [Action::Relocate, Action::Migrate, Action::Replace]
                .into_iter()
                .any(|action| self.wants(action))
    }

    /// Whether a live migration is under way.
    pub fn is_migrating(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| instance.migrating) || self.active_migration().is_some()
    }

    /// The migration that is pending or under way.
    pub fn active_migration(&self) -> Option<&ObservedMigration> {
        self.migrations.iter().find(|one| one.state == MigrationState::Active)
    }

    /// Whether its node is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self.node, ObservedNode::Present { ready: true, .. })
    }

    /// Whether its node was ready or joined at any time.
    pub fn has_joined(&self) -> bool {
        self.joined.is_some() || matches!(self.node, ObservedNode::Present { .. })
    }

    /// Whether its node exists and takes no pods, whoever says so.
    pub fn is_cordoned(&self) -> bool {
        matches!(
            self.node,
            ObservedNode::Present {
                cordon: NodeCordon::Ours | NodeCordon::Others,
                ..
            }
        )
    }

    /// Whether it did its work once and does not now (not ready, cordoned, being deleted), or is on the move to another infra node. Budgets
    /// count it as taken already. One whose tenant does not answer may have joined.
    pub fn is_away(&self) -> bool {
        let silent = self.node == ObservedNode::Unknown;
        let leaves = self.is_moving() && !self.is_terminating();
        let may_have_joined = self.has_joined() || silent;
        leaves || may_have_joined && (self.is_moving() || self.is_cordoned() || !(silent || self.is_ready()))
    }

    /// Infra node that it runs on.
    pub fn infra_node(&self) -> Option<&str> {
        self.instance.as_ref()?.infra_node.as_deref()
    }
}
