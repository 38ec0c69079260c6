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
        pool_trouble: None,
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

#[test]
fn a_cluster_passes_on_why_a_pool_is_not_ready() {
    let mk_pool = |status: &str, reason: &str| -> MachinePool {
        let ready = json!({
            "type": "Ready", "status": status, "reason": reason, "message": "w-1: 0/3 nodes are available",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(json!({
            "apiVersion": "steading.dev/v1alpha1", "kind": "MachinePool",
            "metadata": {"name": "workers"}, "spec": {"machineTemplate": "general"}, "status": {"conditions": [ready]},
        }))
        .unwrap()
    };
    for (status, reason) in [
        ("True", "AllReady"),
        ("False", PROGRESSING),
        ("Unknown", "TenantUnreachable"),
    ] {
        assert_eq!(PoolTrouble::of(&mk_pool(status, reason)), None, "{reason}");
    }
    let observed = ObservedCluster {
        pool_trouble: PoolTrouble::of(&mk_pool("False", "Unschedulable")),
        ..mk_observed()
    };
    let (status, reason, message) = condition(&observed, "PoolsHealthy");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "PoolInTrouble"));
    assert_eq!(message, "workers: Unschedulable: w-1: 0/3 nodes are available");
    assert_eq!(condition(&observed, "Ready").0, "True", "its API server is served");
    assert_eq!(condition(&mk_observed(), "PoolsHealthy").0, "True");
}
