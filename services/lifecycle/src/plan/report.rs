//! What a cluster's status says, from what is seen at this moment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;
use steading_infra::{
    crd::{Cluster, MachinePool, cluster::ClusterStatus},
    labels,
};

use super::ownership::NamespaceOwnership;
use crate::{
    apply::status::set_condition,
    domain::{
        kubeconfig::Endpoint,
        tenant::{KindHealth, Reach, TenantKind},
    },
};

/// Reason of a pool that is not ready yet, and not held up by anything.
pub const PROGRESSING: &str = "Progressing";

/// Whether a Cluster can be served as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// Yes.
    Accepted,
    /// Its name does not fit its spec.
    InvalidName,
    /// Only external control planes are served.
    ControlPlaneNotSupported,
    /// Its bootstrap user data cannot be filled in, and why.
    InvalidBootstrap(String),
}

impl Acceptance {
    fn reason(&self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::InvalidName => "InvalidName",
            Self::ControlPlaneNotSupported => "ControlPlaneNotSupported",
            Self::InvalidBootstrap(_) => "InvalidBootstrap",
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Accepted => "",
            Self::InvalidName => "the object's name must be <project>--<cluster>, as its spec says",
            Self::ControlPlaneNotSupported => "only external control planes are supported so far",
            Self::InvalidBootstrap(why) => why,
        }
    }
}

/// The state of a cluster's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceState {
    /// There is none.
    Absent,
    /// It is there and may be used.
    Ready {
        /// Its uid.
        uid: String,
    },
    /// Somebody deleted it; it is made again once it is gone.
    Terminating,
    /// It is there and may not be used.
    NotOurs {
        /// Whose it is instead.
        ownership: NamespaceOwnership,
    },
}

impl NamespaceState {
    /// The state of a namespace that was read, and whose owner is known.
    pub fn of(namespace: Option<&Namespace>, ownership: NamespaceOwnership) -> Self {
        match namespace {
            None => Self::Absent,
            Some(_) if !ownership.is_usable() => Self::NotOurs { ownership },
            Some(one) if one.metadata.deletion_timestamp.is_some() => Self::Terminating,
            Some(one) => Self::Ready {
                uid: one.uid().unwrap_or_default(),
            },
        }
    }
}

/// What is seen of a cluster.
#[derive(Debug, Clone)]
pub struct ObservedCluster {
    /// Whether it can be served.
    pub acceptance: Acceptance,
    /// Its namespace.
    pub namespace: NamespaceState,
    /// Whether its API server is reached.
    pub reach: Reach,
    /// The health of what is followed there.
    pub kinds: BTreeMap<TenantKind, KindHealth>,
    /// Where its API server is.
    pub endpoint: Endpoint,
    /// Uid of its `kube-system`.
    pub tenant_uid: Option<String>,
    /// Machines.
    pub machines: usize,
    /// Machines whose node is ready.
    pub ready_machines: usize,
    /// Volumes.
    pub volumes: usize,
    /// The first pool that says why it is not ready, and what.
    pub pool_trouble: Option<PoolTrouble>,
}

/// Why a pool is not ready, other than that it takes its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolTrouble {
    /// The pool's id.
    pub pool: String,
    /// The reason, in one word, as the pool has it.
    pub reason: String,
    /// The same for people.
    pub message: String,
}

impl PoolTrouble {
    /// What a pool says of itself; `None` if it is ready, on its way, or cannot say.
    pub fn of(pool: &MachinePool) -> Option<Self> {
        let ready = pool
            .status
            .as_ref()?
            .conditions
            .iter()
            .find(|one| one.type_ == "Ready")?;
        (ready.status == "False" && ready.reason != PROGRESSING).then(|| Self {
            pool: pool.name_any(),
            reason: ready.reason.clone(),
            message: ready.message.clone(),
        })
    }
}

/// Status, reason and message of a condition.
type Words = (&'static str, &'static str, String);

/// The status of a cluster.
pub fn status_of(cluster: &Cluster, observed: &ObservedCluster, now: Timestamp) -> ClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    status.observed_generation = cluster.metadata.generation;
    status.machines = count(observed.machines);
    status.ready_machines = count(observed.ready_machines);
    status.volumes = count(observed.volumes);
    if !observed.endpoint.server.is_empty() {
        status.endpoint = Some(observed.endpoint.server.clone());
        status.kubernetes_version = Some(observed.endpoint.version.clone());
    }
    if observed.tenant_uid.is_some() {
        status.tenant_uid.clone_from(&observed.tenant_uid);
    }
    status.namespace_uid = match &observed.namespace {
        NamespaceState::Ready { uid } => Some(uid.clone()),
        NamespaceState::Absent | NamespaceState::Terminating | NamespaceState::NotOurs { .. } => None,
    };
    let accepted = observed.acceptance == Acceptance::Accepted;
    let acceptance = (
        if accepted { "True" } else { "False" },
        observed.acceptance.reason(),
        observed.acceptance.message().to_owned(),
    );
    let not_accepted = || ("Unknown", "NotAccepted", String::new());
    let namespace = if accepted {
        namespace(&observed.namespace)
    } else {
        not_accepted()
    };
    let reach = if accepted {
        reach(&observed.reach)
    } else {
        not_accepted()
    };
    let watched = if accepted {
        watched(&observed.kinds)
    } else {
        not_accepted()
    };
    let pools = if accepted {
        pools(observed.pool_trouble.as_ref())
    } else {
        not_accepted()
    };
    let (phase, ready) = phase(observed, &acceptance, &namespace, &reach);
    let conditions: [(&str, Words); 6] = [
        ("Accepted", acceptance),
        ("NamespaceReady", namespace),
        ("TenantReachable", reach),
        ("TenantWatched", watched),
        ("PoolsHealthy", pools),
        ("Ready", ready),
    ];
    for (kind, (value, reason, message)) in conditions {
        set(&mut status.conditions, cluster, now, (kind, value, reason, &message));
    }
    status.phase = Some(phase.into());
    status
}

fn set(conditions: &mut Vec<Condition>, cluster: &Cluster, now: Timestamp, new: (&str, &str, &str, &str)) {
    set_condition(conditions, cluster.metadata.generation, now, new);
}

fn namespace(state: &NamespaceState) -> Words {
    match state {
        NamespaceState::Absent => ("False", "Missing", "it does not exist yet".into()),
        NamespaceState::Ready { .. } => ("True", "Applied", String::new()),
        NamespaceState::Terminating => (
            "False",
            "Terminating",
            "somebody deleted it; it is made again once it is gone".into(),
        ),
        NamespaceState::NotOurs { ownership } => match ownership {
            NamespaceOwnership::OfFormer => (
                "False",
                "OfFormerCluster",
                format!(
                    "the namespace was made for another Cluster of this name; delete it, or remove its annotation {} to have what \
                     is in it adopted",
                    labels::CLUSTER_UID
                ),
            ),
            _ => (
                "False",
                "NotOurs",
                format!(
                    "a namespace of this name exists and is not this cluster's; label it {} and {} to have it used",
                    labels::PROJECT,
                    labels::CLUSTER
                ),
            ),
        },
    }
}

fn reach(reach: &Reach) -> Words {
    match reach {
        Reach::Reachable => ("True", "Reachable", String::new()),
        Reach::Connecting(why) => ("False", "Connecting", why.clone()),
        Reach::Unreachable(why) => ("Unknown", "Unreachable", why.clone()),
        Reach::Duplicate(why) => ("False", "DuplicateApiServer", why.clone()),
    }
}

/// Whether everything that is followed in the tenant is known as it is now.
fn watched(kinds: &BTreeMap<TenantKind, KindHealth>) -> Words {
    let mut told = Vec::new();
    let mut value = "True";
    for (kind, health) in kinds {
        match health {
            KindHealth::Live { beyond: 0 } => {}
            KindHealth::Live { beyond } => {
                value = "False";
                told.push(format!(
                    "{}: {beyond} are beyond what one tenant may have and are not served",
                    kind.as_str()
                ));
            }
            KindHealth::Stale { why, .. } => {
                value = "False";
                told.push(format!("{}: {why}", kind.as_str()));
            }
            KindHealth::Syncing => {
                value = if value == "False" { "False" } else { "Unknown" };
                told.push(format!("{}: being listed", kind.as_str()));
            }
        }
    }
    let reason = match value {
        "True" => "Current",
        "False" => "Degraded",
        _ => "Syncing",
    };
    (value, reason, told.join("; "))
}

/// A cluster passes on what its pools say, as those do for their machines: people look here first.
fn pools(trouble: Option<&PoolTrouble>) -> Words {
    let Some(PoolTrouble { pool, reason, message }) = trouble else {
        return ("True", "NoTrouble", String::new());
    };
    ("False", "PoolInTrouble", format!("{pool}: {reason}: {message}"))
}

/// The short word for the state, and the Ready condition that goes with it.
fn phase(observed: &ObservedCluster, acceptance: &Words, namespace: &Words, reach: &Words) -> (&'static str, Words) {
    let not_ready = |words: &Words| ("False", words.1, words.2.clone());
    if acceptance.0 != "True" {
        return ("Failed", not_ready(acceptance));
    }
    match &observed.namespace {
        NamespaceState::NotOurs { .. } => return ("Failed", not_ready(namespace)),
        NamespaceState::Absent | NamespaceState::Terminating => return ("Provisioning", not_ready(namespace)),
        NamespaceState::Ready { .. } => {}
    }
    match observed.reach {
        Reach::Reachable => ("Running", ("True", reach.1, String::new())),
        Reach::Connecting(_) => ("Provisioning", not_ready(reach)),
        Reach::Unreachable(_) => ("Unreachable", not_ready(reach)),
        Reach::Duplicate(_) => ("Failed", not_ready(reach)),
    }
}

#[cfg(test)]
mod tests;
