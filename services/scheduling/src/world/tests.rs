//! The index, and how tests make one.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::World;
use crate::{
    domain::interner::Interner,
    observe::{ObservedClaim, ObservedNode, ObservedPod, ObservedVolume, PodKey, Workload},
    solve::problem::{Problem, Wanted},
};

pub(crate) fn mk_node(name: &str, zone: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone, "kubevirt.io/schedulable": "true"}},
        "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}})
}

pub(crate) fn mk_machine(name: &str, node: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": format!("virt-launcher-{name}"), "namespace": "acme--web", "labels": {"kubevirt.io": "virt-launcher",
            "steading.dev/project": "acme", "steading.dev/cluster": "web", "steading.dev/pool": "workers", "steading.dev/machine": name}},
        "spec": {"nodeName": node, "containers": [{"name": "compute", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]},
        "status": {"phase": "Running"}})
}

pub(crate) fn observe_node(value: &Value) -> Arc<ObservedNode> {
    let node: Node = serde_json::from_value(value.clone()).expect("a node");
    Arc::new(ObservedNode::of(&node, &mut Interner::default()))
}

pub(crate) fn observe_pod(value: &Value) -> Option<Arc<ObservedPod>> {
    let pod: Pod = serde_json::from_value(value.clone()).expect("a pod");
    ObservedPod::of(&pod, &mut Interner::default()).map(Arc::new)
}

pub(crate) fn mk_world(nodes: &[Value], pods: &[Value]) -> World {
    let mut world = World::default();
    for node in nodes {
        world.put_node(observe_node(node));
    }
    for pod in pods.iter().filter_map(observe_pod) {
        world.put_pod(pod);
    }
    world
}

/// The problem of placing copies of one workload.
pub(crate) fn mk_problem(world: &World, workload: &Workload) -> Problem {
    let wanted = Wanted {
        workload: Arc::new(workload.clone()),
        claims: Vec::new(),
    };
    world.problem(&[wanted], &HashSet::new())
}

#[test]
fn pods_use_what_they_request_until_they_are_removed() {
    let nodes = [mk_node("b", "z2", "8"), mk_node("a", "z1", "8")];
    let pods = [
        mk_machine("m1", "a", "2"),
        mk_machine("m2", "a", "3"),
        mk_machine("m3", "later", "3"),
    ];
    let mut world = mk_world(&nodes, &pods);
    let (allocated, machines) = world.load("a").expect("node a");
    assert_eq!((allocated.cpu_millis, machines.len()), (5000, 2));
    assert_eq!(
        machines[0].machine.as_ref().expect("a machine").name.to_string(),
        "projects/acme/clusters/web/machines/m1"
    );
    world.remove_pod(&PodKey::new("acme--web", "virt-launcher-m1"));
    assert_eq!(world.load("a").expect("node a").0.cpu_millis, 3000);
    assert_eq!(world.node_count(), 2);
    world.put_node(observe_node(&mk_node("later", "z1", "8")));
    assert_eq!(
        world.load("later").expect("known now").0.cpu_millis,
        3000,
        "a pod may come before its node"
    );
}

#[test]
fn finished_pods_use_nothing() {
    let mut pod = mk_machine("m1", "a", "2");
    pod["status"]["phase"] = json!("Succeeded");
    assert_eq!(observe_pod(&pod), None);
}

#[test]
fn volumes_bind_a_machine_to_their_zone() {
    let mut pod = mk_machine("m1", "a", "1");
    pod["spec"]["volumes"] = json!([{"name": "root", "persistentVolumeClaim": {"claimName": "root"}}]);
    let nodes = [
        mk_node("a", "z1", "8"),
        mk_node("b", "z2", "8"),
        mk_node("c", "z1", "8"),
    ];
    let mut world = mk_world(&nodes, &[pod]);
    let claim: PersistentVolumeClaim = serde_json::from_value(
        json!({"metadata": {"name": "root", "namespace": "acme--web"}, "spec": {"volumeName": "pv"}}),
    )
    .expect("a claim");
    world.put_claim(&ObservedClaim::of(&claim).expect("bound"));
    let volume: PersistentVolume =
        serde_json::from_value(json!({"metadata": {"name": "pv", "labels": {"topology.kubernetes.io/zone": "z1"}}}))
            .expect("a volume");
    world.put_volume(Arc::new(ObservedVolume::of(&volume).expect("not everywhere")));
    let solution = world.drain(&Arc::from("a"), []).solve();
    let target = solution.moves[0]
        .assignment
        .node()
        .and_then(|ord| solution.problem.node(ord));
    assert_eq!(target.map(|view| view.node.name.as_ref()), Some("c"));
}

#[derive(Debug, Clone)]
enum Step {
    Node(u8, u8),
    NodeGone(u8),
    Pod {
        name: u8,
        node: u8,
        cpu: u8,
        anti: bool,
        terminating: bool,
    },
    PodGone(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..4u8, 0..2u8).prop_map(|(name, zone)| Step::Node(name, zone)),
        1 => (0..4u8).prop_map(Step::NodeGone),
        5 => (0..8u8, 0..4u8, 1..4u8, any::<bool>(), any::<bool>())
            .prop_map(|(name, node, cpu, anti, terminating)| Step::Pod { name, node, cpu, anti, terminating }),
        2 => (0..8u8).prop_map(Step::PodGone),
    ];
    proptest::collection::vec(step, 0..60)
}

fn mk_step_pod(name: u8, node: u8, cpu: u8, anti: bool, terminating: bool) -> Value {
    let mut pod = mk_machine(&format!("m{name}"), &format!("n{node}"), &cpu.to_string());
    if terminating {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    if anti {
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"steading.dev/pool": "workers"}}});
        pod["spec"]["affinity"] =
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    }
    pod
}

proptest! {
    #[test]
    fn the_counters_are_those_of_an_index_made_from_the_last_state(steps in steps()) {
        let mut world = World::default();
        let (mut nodes, mut pods) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        for step in steps {
            match step {
                Step::Node(name, zone) => {
                    let node = mk_node(&format!("n{name}"), &format!("z{zone}"), "8");
                    world.put_node(observe_node(&node));
                    nodes.insert(name, node);
                }
                Step::NodeGone(name) => {
                    world.remove_node(&format!("n{name}"));
                    nodes.remove(&name);
                }
                Step::Pod { name, node, cpu, anti, terminating } => {
                    let pod = mk_step_pod(name, node, cpu, anti, terminating);
                    world.put_pod(observe_pod(&pod).expect("has a node"));
                    pods.insert(name, pod);
                }
                Step::PodGone(name) => {
                    world.remove_pod(&PodKey::new("acme--web", &format!("virt-launcher-m{name}")));
                    pods.remove(&name);
                }
            }
        }
        let nodes: Vec<Value> = nodes.into_values().collect();
        let pods: Vec<Value> = pods.into_values().collect();
        let made_at_once = mk_world(&nodes, &pods);
        prop_assert_eq!(world.pod_count(), made_at_once.pod_count());
        prop_assert_eq!(world.group_count(), made_at_once.group_count());
        let probe = observe_pod(&mk_step_pod(9, 0, 1, true, false)).expect("has a node").workload();
        let counts = |world: &World| {
            let problem = mk_problem(world, &probe);
            let class = problem.class(0).expect("one kind");
            let of = |counts: &crate::solve::problem::Counts| -> Vec<(usize, usize, usize)> {
                counts.iter().map(|count| (count.node.0, count.live, count.terminating)).collect()
            };
            let mut held: Vec<_> = class.held.iter().map(|held| (held.role, held.topology_key.clone(), of(&held.holders))).collect();
            held.sort();
            let nodes: Vec<_> = problem.nodes().map(|(_, view)| (view.node.name.clone(), view.allocated.clone(), view.machines)).collect();
            (nodes, of(&class.anti[0]), held)
        };
        prop_assert_eq!(counts(&world), counts(&made_at_once));
    }
}
