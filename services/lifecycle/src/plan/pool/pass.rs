//! What planning a pool depends on, and what it comes to.

use jiff::Timestamp;

use crate::domain::pool::{Availability, DesiredPool, Trigger};

/// A machine of the pool as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolMachine {
    /// Its name.
    pub name: String,
    /// Hash of what it was made from.
    pub revision: String,
    /// Whether it does its work.
    pub availability: Availability,
    /// Whether it is being deleted, or is to be.
    pub termination: Termination,
    /// Whether its replacement was asked for.
    pub replace: bool,
    /// Infra node that it runs on.
    pub infra_node: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When its guest joined; `None` if it never did.
    pub joined: Option<Timestamp>,
    /// What its removal costs.
    pub deletion_cost: i32,
    /// Why it is not available, for people.
    pub trouble: String,
}

impl PoolMachine {
    pub(super) fn is_terminating(&self) -> bool {
        self.termination != Termination::None
    }
}

/// Whether a machine is being deleted, or is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Termination {
    /// It stays.
    None,
    /// Only this pool wants it deleted, and its VirtualMachine is still there: the pool may revoke that.
    Revocable,
    /// It ends.
    Final,
}

/// Why a machine is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RemoveReason {
    /// Fewer machines are wanted.
    ScaleDown,
    /// Its replacement is ready, or was asked for.
    Replaced,
    /// It was made from an older revision.
    Outdated,
    /// It does not work.
    Unhealthy,
}

impl RemoveReason {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleDown => "scale down",
            Self::Replaced => "replaced",
            Self::Outdated => "outdated",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// New machines of a revision that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    /// The revision.
    pub revision: String,
    /// How many were removed since one came up.
    pub count: usize,
    /// When the last one was.
    pub last: Option<Timestamp>,
    /// Why the last one failed.
    pub message: String,
}

/// What a rollout waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// The tenant does not answer.
    TenantUnreachable,
    /// New machines are not ready yet.
    WaitingForReady,
    /// Machines are being drained.
    WaitingForDrain,
    /// Too few are available.
    NotEnoughAvailable,
    /// Too many machines are on the move.
    DisruptionBudget,
    /// The project's quota leaves no room for a machine more.
    QuotaExceeded,
    /// Too many new machines failed.
    TooManyFailures,
}

impl WaitReason {
    /// As conditions carry it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantUnreachable => "TenantUnreachable",
            Self::WaitingForReady => "WaitingForReady",
            Self::WaitingForDrain => "WaitingForDrain",
            Self::NotEnoughAvailable => "NotEnoughAvailable",
            Self::DisruptionBudget => "DisruptionBudget",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::TooManyFailures => "TooManyFailures",
        }
    }
}

/// What a pool is decided by.
#[derive(Debug, Clone, Copy)]
pub struct PoolInput<'a> {
    /// Namespace of its cluster.
    pub namespace: &'a str,
    /// Its name.
    pub pool: &'a str,
    /// What it wants.
    pub desired: &'a DesiredPool,
    /// Its machines.
    pub machines: &'a [PoolMachine],
    /// Failures so far.
    pub failures: &'a Failures,
    /// Most machines that may move at once in the whole cluster: the most that any of its pools may.
    pub moving_per_cluster: usize,
}

/// What to do next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolPlan {
    /// How many machines to make.
    pub create: usize,
    /// Machines to remove, with the reason.
    pub remove: Vec<(String, RemoveReason)>,
    /// Machines whose removal this pool had asked for and needs again.
    pub revoke: Vec<String>,
    /// Machines that will still be replaced.
    pub outdated: usize,
    /// What a rollout waits for: reason and sentence.
    pub waiting: Option<(WaitReason, String)>,
    /// Why the pool has stopped making machines.
    pub halted: Option<String>,
    /// Failures to remember; to be stored before anything is removed.
    pub failures: Failures,
}

impl PoolPlan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.create == 0 && self.remove.is_empty() && self.revoke.is_empty()
    }
}

/// What the steps of a plan share.
pub(super) struct Draft<'a> {
    pub(super) desired: &'a DesiredPool,
    /// Machines that are not terminating.
    pub(super) current: Vec<&'a PoolMachine>,
    pub(super) terminating: usize,
    pub(super) halted: bool,
    /// Whether the ledger refused a removal.
    pub(super) held: bool,
    pub(super) plan: PoolPlan,
}

/// Whether a machine is new and will not come up.
pub(super) fn has_failed(desired: &DesiredPool, machine: &PoolMachine) -> bool {
    machine.availability == Availability::Broken && machine.joined.is_none() && !is_replaced(desired, machine)
}

/// Whether a machine is to be replaced by another one, broken or not.
pub(super) fn is_replaced(desired: &DesiredPool, machine: &PoolMachine) -> bool {
    let outdated = match (&desired.revision, desired.trigger) {
        (Some(revision), Trigger::OnChange) if !desired.paused => machine.revision != *revision,
        _ => false,
    };
    machine.replace || outdated
}

/// Broken machines that the pool does not repair and that had worked: they count as missing already, so that others may still be replaced.
pub(super) fn is_kept(desired: &DesiredPool, machine: &PoolMachine) -> bool {
    machine.availability == Availability::Broken
        && machine.joined.is_some()
        && !desired.repair
        && !is_replaced(desired, machine)
}
