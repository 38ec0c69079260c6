//! The decision, case by case.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    decide::{Decision, decide},
    snapshot::Snapshot,
};

fn mk_node(name: &str, zone: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone, "gen": "7"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110", "devices.kubevirt.io/kvm": "1k"}},
    })
}

fn mk_pod(name: &str, spec: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn mk_cluster(count: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for index in 1..=count {
        let node: Node =
            serde_json::from_value(mk_node(&format!("infra-{index}"), &format!("z{}", index % 3))).unwrap();
        snapshot.put_node(Arc::new(node));
    }
    snapshot
}

fn spread(when: &str) -> Value {
    json!({"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "a"}},
    }]})
}

fn place_all(snapshot: &mut Snapshot, count: usize, spec: &Value) -> Vec<usize> {
    let mut counts = BTreeMap::new();
    for index in 0..count {
        let pod = mk_pod(&format!("p{index}"), spec);
        let Decision::Place(node) = decide(&pod, snapshot) else {
            continue;
        };
        snapshot.place(&pod, &node);
        *counts.entry(node).or_insert(0) += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_by(|a, b| b.cmp(a));
    counts
}

#[rstest]
#[case("DoNotSchedule")]
#[case("ScheduleAnyway")]
fn nine_machines_on_six_nodes_are_spread_evenly(#[case] when: &str) {
    assert_eq!(place_all(&mut mk_cluster(6), 9, &spread(when)), [2, 2, 2, 1, 1, 1]);
}

#[test]
fn cordoned_nodes_still_count_as_domains() {
    let mut snapshot = mk_cluster(6);
    place_all(&mut snapshot, 6, &spread("DoNotSchedule"));
    for name in ["infra-1", "infra-2"] {
        let mut node = mk_node(name, "z1");
        node["spec"]["unschedulable"] = json!(true);
        snapshot.put_node(Arc::new(serde_json::from_value(node).unwrap()));
    }
    // Four more fit on the four open nodes; then the skew against the cordoned two is used up.
    let mut four = 0;
    let message = loop {
        let pod = mk_pod(&format!("more{four}"), &spread("DoNotSchedule"));
        match decide(&pod, &snapshot) {
            Decision::Place(node) => snapshot.place(&pod, &node),
            Decision::Unschedulable(message) => break message,
        }
        four += 1;
    };
    assert_eq!(four, 4);
    let wanted = "0/6 nodes are available: 2 node(s) were unschedulable, 4 node(s) didn't match pod topology spread constraints.";
    assert!(message.starts_with(wanted), "{message}");
}

#[rstest]
#[case::equal(json!({"nodeSelector": {"kubernetes.io/hostname": "infra-2"}}), Some("infra-2"))]
#[case::no_such(json!({"nodeSelector": {"kubernetes.io/hostname": "infra-9"}}), None)]
#[case::not_in(required("topology.kubernetes.io/zone", "NotIn", &["z1", "z2"]), Some("infra-3"))]
#[case::exists(required("gen", "Exists", &[]), Some("infra-1"))]
#[case::does_not_exist(required("gen", "DoesNotExist", &[]), None)]
#[case::greater(required("gen", "Gt", &["6"]), Some("infra-1"))]
#[case::lesser(required("gen", "Lt", &["7"]), None)]
#[case::too_much(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "9"}}}]}), None)]
#[case::preferred(
    json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 50, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["infra-3"]}]}},
    ]}}}),
    Some("infra-3")
)]
fn a_pod_goes_where_its_node_rules_say(#[case] spec: Value, #[case] wanted: Option<&str>) {
    let found = match decide(&mk_pod("p", &spec), &mk_cluster(3)) {
        Decision::Place(node) => Some(node),
        Decision::Unschedulable(_) => None,
    };
    assert_eq!(found.as_deref(), wanted);
}

fn required(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": key, "operator": operator, "values": values}]},
    ]}}}})
}

fn beside(kind: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": "a"}}},
    ]}}})
}

#[test]
fn pods_that_avoid_each_other_fill_each_zone_once() {
    assert_eq!(place_all(&mut mk_cluster(6), 9, &beside("podAntiAffinity")), [1, 1, 1]);
}

#[test]
fn pods_that_seek_each_other_share_a_zone() {
    // Two nodes of eight CPUs are in each zone.
    let counts = place_all(&mut mk_cluster(6), 20, &beside("podAffinity"));
    assert_eq!(counts, [8, 8]);
}

#[test]
fn a_taint_keeps_out_who_does_not_tolerate_it() {
    let mut snapshot = Snapshot::default();
    let mut node = mk_node("infra-1", "z1");
    node["spec"]["taints"] = json!([{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]);
    snapshot.put_node(Arc::new(serde_json::from_value(node).unwrap()));
    assert!(matches!(
        decide(&mk_pod("p", &json!({})), &snapshot),
        Decision::Unschedulable(_)
    ));
    let tolerant =
        json!({"tolerations": [{"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]});
    assert_eq!(
        decide(&mk_pod("p", &tolerant), &snapshot),
        Decision::Place("infra-1".to_owned())
    );
}

#[test]
fn too_few_domains_count_as_empty_ones() {
    let mut spec = spread("DoNotSchedule");
    spec["topologySpreadConstraints"][0]["minDomains"] = json!(5);
    assert_eq!(place_all(&mut mk_cluster(3), 6, &spec), [1, 1, 1]);
}
