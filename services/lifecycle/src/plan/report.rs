//! What a cluster's status says, from what is seen at this moment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;
use steading_infra::{
    crd::{Cluster, cluster::ClusterStatus},
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
    let (phase, ready) = phase(observed, &acceptance, &namespace, &reach);
    let conditions: [(&str, Words); 5] = [
        ("Accepted", acceptance),
        ("NamespaceReady", namespace),
        ("TenantReachable", reach),
        ("TenantWatched", watched),
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
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_cluster() -> Cluster {
        serde_json::from_value(json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "acme--prod", "uid": "u-1"}, "spec": {"project": "acme", "cluster": "prod"},
        }))
        .unwrap()
    }

    fn mk_observed() -> ObservedCluster {
        ObservedCluster {
            acceptance: Acceptance::Accepted,
            namespace: NamespaceState::Ready { uid: "n-1".into() },
            reach: Reach::Reachable,
            kinds: BTreeMap::from([
                (TenantKind::Nodes, KindHealth::Live { beyond: 0 }),
                (TenantKind::Services, KindHealth::Live { beyond: 0 }),
            ]),
            endpoint: Endpoint::default(),
            tenant_uid: None,
            machines: 0,
            ready_machines: 0,
            volumes: 0,
        }
    }

    fn condition(observed: &ObservedCluster, kind: &str) -> (String, String, String) {
        let status = status_of(&mk_cluster(), observed, Timestamp::default());
        let found = status.conditions.into_iter().find(|one| one.type_ == kind).unwrap();
        (found.status, found.reason, found.message)
    }

    #[test]
    fn conditions_follow_what_is_seen_now() {
        let mut observed = mk_observed();
        assert_eq!(condition(&observed, "NamespaceReady").0, "True");
        observed.namespace = NamespaceState::Absent;
        let status = status_of(&mk_cluster(), &observed, Timestamp::default());
        assert_eq!(
            (status.phase.as_deref(), status.namespace_uid),
            (Some("Provisioning"), None)
        );
        assert_eq!(condition(&observed, "NamespaceReady").0, "False");
        let mut observed = mk_observed();
        observed.reach = Reach::Unreachable("secret kubeconfig does not exist".into());
        assert_eq!(condition(&observed, "TenantReachable").0, "Unknown");
        assert_eq!(condition(&observed, "Ready").2, "secret kubeconfig does not exist");
    }

    #[test]
    fn one_forbidden_kind_is_said_and_leaves_the_cluster_running() {
        let mut observed = mk_observed();
        let stale = KindHealth::Stale {
            since: Timestamp::default(),
            why: "403 Forbidden".into(),
        };
        observed.kinds.insert(TenantKind::Services, stale);
        let (status, reason, message) = condition(&observed, "TenantWatched");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "Degraded"));
        assert_eq!(message, "services: 403 Forbidden");
        let status = status_of(&mk_cluster(), &observed, Timestamp::default());
        assert_eq!(status.phase.as_deref(), Some("Running"));
    }

    #[test]
    fn a_flood_is_said_with_its_number() {
        let mut observed = mk_observed();
        observed
            .kinds
            .insert(TenantKind::Services, KindHealth::Live { beyond: 98_000 });
        assert!(condition(&observed, "TenantWatched").2.contains("98000"));
    }

    #[test]
    fn a_foreign_namespace_makes_a_cluster_fail_with_a_way_out() {
        let mut observed = mk_observed();
        observed.namespace = NamespaceState::NotOurs {
            ownership: NamespaceOwnership::Foreign,
        };
        let (status, reason, message) = condition(&observed, "NamespaceReady");
        assert_eq!((status.as_str(), reason.as_str()), ("False", "NotOurs"));
        assert!(message.contains(labels::PROJECT), "{message}");
    }
}
