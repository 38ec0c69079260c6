//! What one pass over all maintenances depends on, and what it comes to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use steading_infra::{
    crd::maintenance::{MaintenanceScope, MaintenanceSpec, MaintenanceStatus},
    intent::maintenance_owner,
};

use super::super::{
    disruption::Disruption,
    evacuation::{MachineKey, ObservedMachine, Way},
};

/// One pass: everything that the maintenances depend on.
#[derive(Debug, Clone, Default)]
pub struct PassInput {
    /// The maintenances, in order of their names.
    pub maintenances: Vec<ObservedMaintenance>,
    /// Our machines on the infra nodes of those maintenances, by node.
    pub machines: BTreeMap<String, Vec<ObservedMachine>>,
    /// VMIs on those nodes that are not ours, by node.
    pub unmanaged: BTreeMap<String, Vec<String>>,
    /// Infra nodes whose capacity question was answered.
    pub capacity_known: Vec<String>,
    /// Where each of our running machines is.
    pub locations: BTreeMap<MachineKey, String>,
    /// Every machine that is away or on the move anywhere, for whatever reason.
    pub away: Vec<Disruption>,
    /// Machines with intents of a maintenance, by its id; those that are being deleted are left out.
    pub asked: BTreeMap<String, Vec<MachineKey>>,
    /// Machines that an eviction has marked on infra nodes that are not cordoned, or that still have the intent of one.
    pub evictions: Vec<Eviction>,
    /// Zones of infra nodes.
    pub zones: BTreeMap<String, String>,
    /// Infra nodes that a maintenance has cordoned, with its id.
    pub cordons: BTreeMap<String, String>,
    /// Failed migrations by maintenance and machine.
    pub failed: BTreeMap<(String, MachineKey), FailedMigrations>,
}

/// A maintenance as it was seen.
#[derive(Debug, Clone, Default)]
pub struct ObservedMaintenance {
    /// Its id.
    pub name: String,
    /// What is wanted.
    pub spec: MaintenanceSpec,
    /// What was seen last.
    pub status: MaintenanceStatus,
    /// Generation of the spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether our finalizer is on it.
    pub finalizer: bool,
    /// The infra node; `None` if it does not exist.
    pub node: Option<ObservedNode>,
}

/// An infra node as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedNode {
    /// Whether new pods are kept away.
    pub cordoned: bool,
    /// The maintenance that cordoned it, if one did.
    pub cordoned_by: Option<String>,
}

/// A machine that an eviction has marked although its infra node is not being emptied.
#[derive(Debug, Clone, PartialEq)]
pub struct Eviction {
    /// The infra node that the mark names, or that the intent names.
    pub node: String,
    /// The machine.
    pub machine: ObservedMachine,
    /// Its failed migrations for this eviction.
    pub failures: i32,
}

/// Failed migrations of a machine within a maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedMigrations {
    /// How many.
    pub count: i32,
    /// When the last of them was made.
    pub last: Timestamp,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Keep our finalizer on the maintenance.
    Hold {
        /// The maintenance.
        maintenance: String,
    },
    /// Take our finalizer off.
    Release {
        /// The maintenance.
        maintenance: String,
    },
    /// Keep new pods off the infra node.
    Cordon {
        /// The infra node.
        node: String,
        /// For this maintenance.
        maintenance: String,
    },
    /// Let new pods on again, unless somebody else has cordoned the infra node meanwhile.
    Uncordon {
        /// The infra node.
        node: String,
        /// Which maintenance's cordon was seen on it; `None` for an admin's.
        by: Option<String>,
    },
    /// Let new pods on again if the maintenance that cordoned the infra node is over or does not exist.
    GiveBack {
        /// The infra node.
        node: String,
        /// The maintenance.
        maintenance: String,
    },
    /// Write the intent that makes the machine leave, in place of any other of the same owner.
    Ask {
        /// The machine.
        key: MachineKey,
        /// For whom.
        owner: String,
        /// How it leaves.
        way: Way,
        /// The infra node that it leaves.
        node: String,
        /// After so many seconds its drain is forced.
        force_after_seconds: Option<i64>,
    },
    /// Revoke the owner's intents: the machine returns to where it was by itself.
    Withdraw {
        /// The machine.
        key: MachineKey,
        /// Whose intents.
        owner: String,
    },
    /// Report that an eviction is not carried out, then take its mark back.
    RefuseEviction {
        /// The machine.
        key: MachineKey,
        /// The infra node that the mark names.
        node: String,
        /// Why, in CamelCase.
        reason: &'static str,
        /// Why, for people.
        message: String,
    },
    /// Take back the eviction's mark.
    CancelMark {
        /// The machine.
        key: MachineKey,
        /// The infra node that the mark names.
        node: String,
    },
}

/// What one maintenance comes to in a pass.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its id.
    pub name: String,
    /// The status to store.
    pub status: MaintenanceStatus,
    /// What to do, in this order.
    pub actions: Vec<Action>,
}

/// States, as the object has them in `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing moves.
    Planned,
    /// Machines are leaving.
    Running,
    /// They should, but do not.
    Stalled,
    /// The infra node is empty.
    InMaintenance,
    /// Given back.
    Completed,
    /// Begun moves are ending.
    Cancelling,
    /// Given up.
    Cancelled,
    /// Cannot be carried out.
    Failed,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Planned,
        Self::Running,
        Self::Stalled,
        Self::InMaintenance,
        Self::Completed,
        Self::Cancelling,
        Self::Cancelled,
        Self::Failed,
    ];

    /// As the object has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "Planned",
            Self::Running => "Running",
            Self::Stalled => "Stalled",
            Self::InMaintenance => "InMaintenance",
            Self::Completed => "Completed",
            Self::Cancelling => "Cancelling",
            Self::Cancelled => "Cancelled",
            Self::Failed => "Failed",
        }
    }

    /// The state of a status; one that says nothing is planned.
    pub fn of(status: &MaintenanceStatus) -> Self {
        let phase = status.phase.as_deref();
        Self::ALL
            .into_iter()
            .find(|state| Some(state.as_str()) == phase)
            .unwrap_or(Self::Planned)
    }

    /// Whether it is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed)
    }
}

/// What a pass comes to.
#[derive(Debug, Clone, Default)]
pub struct PassPlan {
    /// What each maintenance comes to, in order of their names.
    pub outcomes: Vec<Outcome>,
    /// What belongs to no maintenance that is under way.
    pub actions: Vec<Action>,
}

/// Whether a maintenance exists and is not over.
pub(super) fn is_under_way(input: &PassInput, id: &str) -> bool {
    let found = input.maintenances.iter().find(|one| one.name == id);
    found.is_some_and(|one| !State::of(&one.status).is_final())
}

/// Revokes the intents of a maintenance on a machine.
pub(super) fn withdraw(key: &MachineKey, maintenance: &str) -> Action {
    Action::Withdraw {
        key: key.clone(),
        owner: maintenance_owner(maintenance),
    }
}

/// Our machines that the maintenance is about.
pub(super) fn machines_of<'a>(seen: &ObservedMaintenance, input: &'a PassInput) -> Vec<&'a ObservedMachine> {
    let on_node = input
        .machines
        .get(&seen.spec.infra_node)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let known = |key: &MachineKey| {
        seen.status
            .progress
            .iter()
            .any(|p| p.namespace == key.namespace && p.machine == key.machine && p.phase != "Moved")
    };
    on_node
        .iter()
        .filter(|machine| match seen.spec.scope {
            MaintenanceScope::All => true,
            MaintenanceScope::Evicted => machine.marked || is_asked(machine, &seen.name) || known(&machine.key),
        })
        .collect()
}

/// Whether a maintenance has an intent on a machine.
fn is_asked(machine: &ObservedMachine, maintenance: &str) -> bool {
    let owner = maintenance_owner(maintenance);
    machine.asked.iter().any(|asked| asked.owner == owner)
}
