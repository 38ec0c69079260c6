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

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use steading_infra::{
    crd::maintenance::{
        EvacuationRiskStatus, MaintenanceDesire, MaintenancePlanStatus, MaintenanceScope, MaintenanceSpec,
        MaintenanceStatus, MaintenanceStrategy, PlannedEvacuationStatus,
    },
    intent::maintenance_owner,
};

use super::digest::short_digest;
use super::evacuation::{MachineKey, ObservedMachine, Target, Way, plan_evacuation, risks_of};

pub mod budget;
mod conclude;
mod evictions;
mod progress;
#[cfg(test)]
mod tests;

use super::disruption::{Disruption, Ledger};

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

/// Whether a maintenance exists and is not over.
fn is_under_way(input: &PassInput, id: &str) -> bool {
    let found = input.maintenances.iter().find(|one| one.name == id);
    found.is_some_and(|one| !State::of(&one.status).is_final())
}

/// Intents of maintenances that are over or do not exist any longer are revoked.
fn plan_orphans(input: &PassInput) -> Vec<Action> {
    let orphans = input.asked.iter().filter(|(id, _)| !is_under_way(input, id));
    orphans
        .flat_map(|(id, keys)| keys.iter().map(|key| withdraw(key, id)))
        .collect()
}

fn withdraw(key: &MachineKey, maintenance: &str) -> Action {
    Action::Withdraw {
        key: key.clone(),
        owner: maintenance_owner(maintenance),
    }
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
    match (cordoned, status.cordon_time.is_some()) {
        (true, true) => {}
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

/// Our machines that the maintenance is about.
pub(crate) fn machines_of<'a>(seen: &ObservedMaintenance, input: &'a PassInput) -> Vec<&'a ObservedMachine> {
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
pub(crate) fn is_asked(machine: &ObservedMachine, maintenance: &str) -> bool {
    let owner = maintenance_owner(maintenance);
    machine.asked.iter().any(|asked| asked.owner == owner)
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
