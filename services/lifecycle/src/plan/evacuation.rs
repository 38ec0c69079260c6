//! Decides how one machine leaves its infra node, and why.
//!
//! The same function makes the plan that people see and judges a machine again right before it moves; so what is
//! executed differs from the plan only where the machine itself has changed.
//!
//! ```text
//! leaving already? ─► LEAVING            not booted? ─► RESTART_IN_PLACE (nothing runs in it)
//! cluster paused?  ─► BLOCKED            no place?   ─► BLOCKED
//! migration allowed and possible? ─► LIVE_MIGRATE
//! tenant unreachable? ─► BLOCKED         pool gives surge? ─► SURGE_THEN_DRAIN / DRAIN_THEN_REPLACE
//! no pool? ─► RESTART_IN_PLACE (drained first)
//! ```

use std::fmt;

use steading_infra::{crd::maintenance::MaintenanceStrategy, intent::Action};

#[cfg(test)]
pub(crate) mod tests;

/// Live migrations that are tried before a machine is replaced instead. Failures are mostly transient (a target that
/// filled up); three tries are what KubeVirt's own evacuation controller makes before its back-off grows to minutes.
pub const MIGRATION_ATTEMPTS: i32 = 3;

/// Identity of a machine: its namespace (which is its tenant cluster) and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineKey {
    /// Namespace of the tenant cluster.
    pub namespace: String,
    /// Name of VM, VMI, tenant Node and machine.
    pub machine: String,
}

impl fmt::Display for MachineKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.machine)
    }
}

/// A machine on an infra node, with all that its disposition depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedMachine {
    /// Which machine.
    pub key: MachineKey,
    /// Uid of the VMI.
    pub instance_uid: String,
    /// Whether the guest runs.
    pub guest: Guest,
    /// What KubeVirt says of live migration.
    pub migratable: Migratable,
    /// Whether hot-plugged volumes are all settled.
    pub hotplug: Hotplug,
    /// Whether a migration of it is under way, whoever began it.
    pub migrating: bool,
    /// Whether an eviction marked it for leaving this infra node.
    pub marked: bool,
    /// Whether the machine is being deleted.
    pub terminating: bool,
    /// Intents on it that make it leave.
    pub asked: Vec<Asked>,
    /// Name of its pool; empty if it has none.
    pub pool_name: String,
    /// The tenant cluster.
    pub cluster: ObservedClusterState,
    /// The pool.
    pub pool: ObservedPool,
    /// What the tenant's API server says.
    pub tenant: ObservedTenant,
    /// Where it could go.
    pub target: Target,
}

/// An intent that makes a machine leave its infra node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// How.
    pub way: Way,
    /// For whom.
    pub owner: String,
}

/// How a machine is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By live migration.
    Migrate,
    /// By a boot elsewhere, drained first if a guest runs.
    Relocate,
    /// By a replacement from its pool.
    Replace,
}

impl Way {
    /// The intent that asks for it.
    pub fn action(self) -> Action {
        match self {
            Self::Migrate => Action::Migrate,
            Self::Relocate => Action::Relocate,
            Self::Replace => Action::Replace,
        }
    }

    /// The way that an intent asks for; `None` if it does not make a machine leave.
    pub fn of(action: Action) -> Option<Self> {
        [Self::Migrate, Self::Relocate, Self::Replace]
            .into_iter()
            .find(|way| way.action() == action)
    }
}

/// Whether a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// The VMI has not reached Running, or is final: nothing of the tenant runs in it.
    NotRunning,
    /// It runs, or may run.
    Running,
}

/// What KubeVirt says of live migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migratable {
    /// The VMI can migrate.
    Yes,
    /// It cannot.
    No {
        /// KubeVirt's reason.
        reason: String,
        /// KubeVirt's text.
        message: String,
    },
    /// The condition is not there (yet).
    Unknown,
}

/// Whether hot-plugged volumes are settled; KubeVirt refuses to migrate while one is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hotplug {
    /// All are ready, or there are none.
    Settled,
    /// These are not.
    Unsettled(Vec<String>),
}

/// The tenant cluster as far as an evacuation cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedClusterState {
    /// In use.
    Active,
    /// Its owner stopped all work on it.
    Paused,
    /// Being deleted.
    Deleting,
}

/// The pool as far as an evacuation cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedPool {
    /// The machine belongs to none.
    None,
    /// The pool is being deleted.
    Deleting,
    /// The pool keeps machines.
    Keeps {
        /// How many it wants.
        replicas: i32,
        /// Whether it may have one more for a while.
        surge: Surge,
    },
}

/// Whether a pool may have a machine more than it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surge {
    /// `max_surge` is above 0.
    Allowed,
    /// `max_surge` is 0.
    Forbidden,
}

/// What the tenant's API server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedTenant {
    /// It answered; these PodDisruptionBudgets (`namespace/name`) allow no disruption and select a pod on the node.
    Reachable {
        /// The budgets.
        exhausted_budgets: Vec<String>,
    },
    /// It did not answer.
    Unreachable,
}

/// Where a machine could go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Scheduling found this infra node.
    Found {
        /// The infra node.
        node: String,
        /// Its zone.
        zone: String,
    },
    /// Scheduling found none, for this reason.
    Nowhere(String),
    /// Scheduling was not asked or did not answer.
    Unknown,
}

/// How one machine leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    /// Being deleted already; only waited for.
    Leaving,
    /// Live migration.
    LiveMigrate,
    /// Boots elsewhere under its own name, drained first if a guest runs.
    RestartInPlace,
    /// A replacement first, then drain and deletion.
    SurgeThenDrain,
    /// Drain and deletion, then a replacement.
    DrainThenReplace,
    /// Not at present.
    Blocked,
}

impl Disposition {
    /// Every disposition.
    pub const ALL: [Self; 6] = [
        Self::Leaving,
        Self::LiveMigrate,
        Self::RestartInPlace,
        Self::SurgeThenDrain,
        Self::DrainThenReplace,
        Self::Blocked,
    ];

    /// As the Maintenance object has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leaving => "Leaving",
            Self::LiveMigrate => "LiveMigrate",
            Self::RestartInPlace => "RestartInPlace",
            Self::SurgeThenDrain => "SurgeThenDrain",
            Self::DrainThenReplace => "DrainThenReplace",
            Self::Blocked => "Blocked",
        }
    }

    /// Reads what [`Self::as_str`] wrote; anything else is blocked, which moves nothing.
    pub fn from_text(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .unwrap_or(Self::Blocked)
    }
}

/// A disposition with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it leaves.
    pub disposition: Disposition,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Verdict {
    fn new(disposition: Disposition, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            disposition,
            reason,
            message: message.into(),
        }
    }
}

impl Disposition {
    /// How a machine is asked to leave; `None` if it is not.
    pub fn way(self) -> Option<Way> {
        match self {
            Self::LiveMigrate => Some(Way::Migrate),
            Self::RestartInPlace => Some(Way::Relocate),
            Self::SurgeThenDrain | Self::DrainThenReplace => Some(Way::Replace),
            Self::Leaving | Self::Blocked => None,
        }
    }
}

/// Something that may hold a move up although it can be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Risk {
    /// Kind in CamelCase.
    pub kind: &'static str,
    /// What it is about.
    pub subject: String,
    /// For people.
    pub message: String,
}

/// Decides how a machine leaves its infra node. `failed_migrations` counts those of the present maintenance.
pub fn plan_evacuation(machine: &ObservedMachine, strategy: MaintenanceStrategy, failed_migrations: i32) -> Verdict {
    use Disposition as D;
    if let Some(verdict) = plan_without_moving(machine) {
        return verdict;
    }
    if let Target::Nowhere(why) = &machine.target {
        return Verdict::new(D::Blocked, "NoCapacity", format!("no other infra node takes it: {why}"));
    }
    if machine.guest == Guest::NotRunning {
        return Verdict::new(
            D::RestartInPlace,
            "NotBooted",
            "no guest runs in it, so it boots elsewhere at once",
        );
    }
    let (reason, message) = match why_not_migrate(machine, strategy, failed_migrations) {
        Ok(verdict) => return verdict,
        Err(why) => why,
    };
    if strategy == MaintenanceStrategy::MigrateOnly {
        return Verdict::new(
            D::Blocked,
            reason,
            format!("{message}, and only live migration is allowed"),
        );
    }
    plan_replacement(machine, reason, message)
}

/// Verdicts that move nothing, whatever the strategy is.
fn plan_without_moving(machine: &ObservedMachine) -> Option<Verdict> {
    use Disposition as D;
    if machine.terminating {
        return Some(Verdict::new(
            D::Leaving,
            "MachineDeleting",
            "the machine is being deleted",
        ));
    }
    match machine.cluster {
        ObservedClusterState::Deleting => {
            return Some(Verdict::new(
                D::Leaving,
                "ClusterDeleting",
                "its tenant cluster is being deleted",
            ));
        }
        ObservedClusterState::Paused => {
            return Some(Verdict::new(
                D::Blocked,
                "ClusterPaused",
                "work on its tenant cluster is paused",
            ));
        }
        ObservedClusterState::Active => {}
    }
    if machine.pool == ObservedPool::Deleting {
        return Some(Verdict::new(
            D::Leaving,
            "PoolDeleting",
            "its machine pool is being deleted",
        ));
    }
    machine
        .migrating
        .then(|| Verdict::new(D::LiveMigrate, "MigrationInProgress", "a live migration is under way"))
}

/// The verdict to migrate, or why it is not possible.
fn why_not_migrate(
    machine: &ObservedMachine,
    strategy: MaintenanceStrategy,
    failed: i32,
) -> Result<Verdict, (&'static str, String)> {
    if strategy == MaintenanceStrategy::ReplaceOnly {
        return Err((
            "StrategyForbidsMigration",
            "the maintenance replaces every machine".into(),
        ));
    }
    if failed >= MIGRATION_ATTEMPTS {
        return Err(("MigrationFailed", format!("{failed} live migrations failed")));
    }
    match &machine.migratable {
        Migratable::No { reason, message } => Err(("NotMigratable", format!("KubeVirt says {reason}: {message}"))),
        Migratable::Unknown => Err(("NotMigratable", "KubeVirt does not say that it can migrate".into())),
        Migratable::Yes => Ok(match &machine.hotplug {
            Hotplug::Settled => Verdict::new(Disposition::LiveMigrate, "Migratable", "it can migrate while it runs"),
            Hotplug::Unsettled(volumes) => Verdict::new(
                Disposition::LiveMigrate,
                "HotplugUnsettled",
                format!("it can migrate once these volumes are settled: {}", volumes.join(", ")),
            ),
        }),
    }
}

/// How a machine leaves that cannot migrate.
fn plan_replacement(machine: &ObservedMachine, reason: &'static str, message: String) -> Verdict {
    use Disposition as D;
    if machine.tenant == ObservedTenant::Unreachable {
        let text = format!("{message}; it would have to be drained, but its tenant cluster does not answer");
        return Verdict::new(D::Blocked, "TenantUnreachable", text);
    }
    match machine.pool {
        ObservedPool::Keeps {
            surge: Surge::Allowed, ..
        } => Verdict::new(D::SurgeThenDrain, reason, message),
        ObservedPool::Keeps {
            surge: Surge::Forbidden,
            ..
        } => {
            let text = format!("{message}; its pool's max_surge is 0");
            Verdict::new(D::DrainThenReplace, "SurgeForbidden", text)
        }
        ObservedPool::None | ObservedPool::Deleting => {
            let text = format!("{message}; it belongs to no pool that could replace it");
            Verdict::new(D::RestartInPlace, "NoPool", text)
        }
    }
}

/// What may hold the move up.
pub fn risks_of(machine: &ObservedMachine, disposition: Disposition) -> Vec<Risk> {
    let mut risks = Vec::new();
    let drains = match disposition {
        Disposition::SurgeThenDrain | Disposition::DrainThenReplace => true,
        Disposition::RestartInPlace => machine.guest == Guest::Running,
        Disposition::Leaving | Disposition::LiveMigrate | Disposition::Blocked => false,
    };
    if drains && let ObservedTenant::Reachable { exhausted_budgets } = &machine.tenant {
        risks.extend(exhausted_budgets.iter().map(|budget| Risk {
            kind: "PodDisruptionBudget",
            subject: budget.clone(),
            message: "it allows no disruption now, so the drain would wait for it".into(),
        }));
    }
    if drains && matches!(machine.pool, ObservedPool::Keeps { replicas: ..=1, .. }) {
        risks.push(Risk {
            kind: "LastMachine",
            subject: machine.key.to_string(),
            message:
                "it is the only machine of its pool: its pods have nowhere else to go until the replacement is ready"
                    .into(),
        });
    }
    if let (Disposition::LiveMigrate, Hotplug::Unsettled(volumes)) = (disposition, &machine.hotplug) {
        risks.push(Risk {
            kind: "HotplugUnsettled",
            subject: volumes.join(", "),
            message: "KubeVirt does not migrate while a hot-plugged volume is on its way".into(),
        });
    }
    let moves = !matches!(disposition, Disposition::Leaving | Disposition::Blocked);
    if moves && machine.target == Target::Unknown {
        risks.push(Risk {
            kind: "CapacityUnknown",
            subject: String::new(),
            message: "scheduling could not be asked whether another infra node takes it".into(),
        });
    }
    risks
}
