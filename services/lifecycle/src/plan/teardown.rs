//! The order in which a cluster is taken down, and what is said about it meanwhile.
//!
//! ```text
//!   consent ─► load balancers ─► pools ─► machines ─► volumes ─► namespace ─► finalizer
//! ```
//!
//! Nothing is deleted while something before it remains: a volume outlives every machine that could use it, and the namespace
//! outlives everything in it. The deadline changes no step. It changes what people are shown: after it, each object that blocks is
//! listed by its name.

use jiff::{SignedDuration, Timestamp};
use steading_infra::crd::cluster::VolumeDeletionPolicy;

/// How long a deletion may last before what blocks it is listed by name: above the drain of a large cluster under its budgets.
pub const DEADLINE: SignedDuration = SignedDuration::from_mins(15);
/// Objects that a condition lists by name.
const LISTED: usize = 20;
/// Objects listed before the deadline.
const LISTED_BEFORE: usize = 3;

/// An object that remains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remainder {
    /// What it is, as people say it: `machine`, `volume`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether its deletion was asked for.
    pub terminating: bool,
    /// What it waits for; empty if that is not known.
    pub why: String,
}

impl Remainder {
    fn text(&self) -> String {
        match (self.kind, self.why.as_str()) {
            (kind, "") => format!("{kind} {}", self.name),
            (kind, why) => format!("{kind} {} ({why})", self.name),
        }
    }
}

/// What remains of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemainingNamespace {
    /// There is none, or it is not deleted with the cluster.
    None,
    /// It was made for the cluster and remains.
    Made(Remainder),
}

/// What is left of a cluster that is being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Infra Services of load balancers.
    pub balancers: Vec<Remainder>,
    /// Pools.
    pub pools: Vec<Remainder>,
    /// Machines.
    pub machines: Vec<Remainder>,
    /// Volumes; the error if it is not known whether there are any.
    pub volumes: Result<Vec<Remainder>, String>,
    /// The namespace.
    pub namespace: RemainingNamespace,
}

/// Whether somebody agreed that what is in an object is deleted with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Yes.
    Given,
    /// Not yet.
    Missing,
}

/// The next step of a teardown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeardownStep {
    /// Somebody has to agree first.
    WaitForConsent,
    /// Delete its load balancers.
    Balancers,
    /// Delete its pools and wait for their machines.
    Pools,
    /// Delete machines that no pool has.
    Machines,
    /// Storage has to say first whether there are volumes.
    WaitForStorage,
    /// Delete its volumes.
    Volumes,
    /// Its user must delete its volumes.
    WaitForVolumes,
    /// Delete its namespace.
    Namespace,
    /// Nothing is left.
    Finish,
}

/// The next step, and what the cluster's `Deleting` condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeardownPlan {
    /// What to do.
    pub step: TeardownStep,
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: String,
}

/// Decides the next step of a cluster whose deletion was asked for at `since`.
pub fn plan_teardown(
    remains: &Remains,
    volumes: VolumeDeletionPolicy,
    consent: Consent,
    since: Timestamp,
    now: Timestamp,
) -> TeardownPlan {
    let none = Vec::new();
    let known = remains.volumes.as_ref().unwrap_or(&none);
    let holds = !remains.pools.is_empty() || !remains.machines.is_empty() || !known.is_empty();
    let (step, reason, waits_for) = if consent == Consent::Missing && holds {
        let all = [&remains.pools, &remains.machines, known]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        (TeardownStep::WaitForConsent, "ConsentRequired", all)
    } else if !remains.balancers.is_empty() {
        (
            TeardownStep::Balancers,
            "DeletingLoadBalancers",
            remains.balancers.clone(),
        )
    } else if !remains.pools.is_empty() {
        let all = remains.pools.iter().chain(&remains.machines).cloned().collect();
        (TeardownStep::Pools, "DeletingPools", all)
    } else if !remains.machines.is_empty() {
        (TeardownStep::Machines, "DeletingMachines", remains.machines.clone())
    } else if let Err(why) = &remains.volumes {
        let storage = Remainder {
            kind: "service",
            name: "storage".into(),
            why: why.clone(),
            ..Remainder::default()
        };
        (TeardownStep::WaitForStorage, "StorageUnavailable", vec![storage])
    } else if !known.is_empty() {
        match volumes {
            VolumeDeletionPolicy::Delete => (TeardownStep::Volumes, "DeletingVolumes", known.clone()),
            VolumeDeletionPolicy::Block => (TeardownStep::WaitForVolumes, "VolumesBlockDeletion", known.clone()),
        }
    } else if let RemainingNamespace::Made(namespace) = &remains.namespace {
        (TeardownStep::Namespace, "DeletingNamespace", vec![namespace.clone()])
    } else {
        (TeardownStep::Finish, "Deleted", Vec::new())
    };
    let overdue = now.duration_since(since) > DEADLINE;
    let waits_for_people = matches!(step, TeardownStep::WaitForConsent | TeardownStep::WaitForVolumes);
    let message = if overdue || waits_for_people {
        list(&waits_for, LISTED)
    } else {
        list(&waits_for, LISTED_BEFORE)
    };
    TeardownPlan {
        step,
        reason: if overdue && !waits_for_people && step != TeardownStep::Finish {
            "Blocked"
        } else {
            reason
        },
        message: match step {
            TeardownStep::WaitForConsent => format!(
                "nothing is deleted until the cluster is annotated with {}=<its name>, or deleted with force through the API; it \
                 holds {message}",
                steading_infra::labels::DELETION_CONSENT
            ),
            TeardownStep::Finish => String::new(),
            _ => format!("waits for {message}"),
        },
    }
}

/// The first objects by name, and how many more there are.
pub fn list(objects: &[Remainder], most: usize) -> String {
    let mut text: Vec<String> = objects.iter().take(most).map(Remainder::text).collect();
    if objects.len() > most {
        text.push(format!("{} more", objects.len() - most));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests;
