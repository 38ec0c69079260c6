//! The infra cluster as the solver sees it: nodes on dense ordinals, pods with what they request and demand.
//!
//! A snapshot is made once from lists and is then a plain value: the solver clones it, places and removes pods on
//! the clone, and throws it away. Nodes are in order of their name, so everything that follows is deterministic.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, Taint};
use steading_infra::labels;
use steading_model::{
    ids::Id,
    name::{ClusterName, MachineName},
};

use crate::domain::{Amounts, Placement, placement::Constraints};

/// Ordinal of a node in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeOrd(pub(crate) usize);

/// What the kubelet says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It is ready.
    Ready,
    /// It is not.
    NotReady,
    /// It has not been heard of for too long.
    Unknown,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotNode {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it takes no new pods.
    pub cordoned: bool,
    /// What its kubelet says.
    pub readiness: Readiness,
    /// Whether KubeVirt runs machines on it.
    pub virtualization: bool,
    /// What pods may use.
    pub allocatable: Amounts,
    /// What pods on it have requested.
    pub allocated: Amounts,
}

impl SnapshotNode {
    /// Its zone; empty if it has none.
    pub fn zone(&self) -> &str {
        self.labels.get(labels::ZONE).map_or("", String::as_str)
    }

    /// Whether new machines may be placed on it at all.
    pub fn schedulable(&self) -> bool {
        self.readiness == Readiness::Ready && !self.cordoned && self.virtualization
    }
}

/// What is to be placed: a machine's pod, or one that could be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it requests.
    pub requests: Amounts,
    /// Where it may run.
    pub constraints: Constraints,
}

/// A pod that exists or that the solver has placed.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotPod {
    /// Its name.
    pub name: String,
    /// What it is.
    pub workload: Workload,
    /// Where it runs.
    pub node: Option<NodeOrd>,
    /// Whether it is on its way out: it uses resources but is no longer counted for spread.
    pub terminating: bool,
    /// The machine that it runs; `None` for other pods.
    pub machine: Option<MachineRef>,
}

/// The machine that a launcher pod runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineRef {
    /// Its resource name.
    pub name: MachineName,
    /// Id of its pool; empty if it says none.
    pub pool: String,
}

/// Nodes and pods.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: Vec<SnapshotNode>,
    pods: Vec<SnapshotPod>,
    by_name: HashMap<String, NodeOrd>,
}

impl Snapshot {
    /// Makes a snapshot of what the API server listed. Finished pods and pods of unknown nodes use nothing.
    pub fn build(nodes: &[Node], pods: &[Pod]) -> Self {
        let mut snapshot = Self {
            nodes: nodes.iter().map(node).collect(),
            ..Self::default()
        };
        snapshot.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        snapshot.by_name = snapshot
            .nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (n.name.clone(), NodeOrd(i)))
            .collect();
        for pod in pods {
            if let Some(pod) = snapshot.read_pod(pod) {
                snapshot.insert(pod);
            }
        }
        snapshot
    }

    /// The nodes in order of their name, with their ordinals.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeOrd, &SnapshotNode)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (NodeOrd(index), node))
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A node by its ordinal; ordinals come from the same snapshot or a clone of it.
    pub fn node(&self, ord: NodeOrd) -> Option<&SnapshotNode> {
        self.nodes.get(ord.0)
    }

    /// Ordinal of a node.
    pub fn find(&self, name: &str) -> Option<NodeOrd> {
        self.by_name.get(name).copied()
    }

    /// All pods.
    pub fn pods(&self) -> &[SnapshotPod] {
        &self.pods
    }

    /// Pods that run machines on a node.
    pub fn machines_on(&self, ord: NodeOrd) -> impl Iterator<Item = &SnapshotPod> {
        self.pods
            .iter()
            .filter(move |pod| pod.node == Some(ord) && pod.machine.is_some())
    }

    /// Adds a pod and what it requests.
    pub fn insert(&mut self, pod: SnapshotPod) {
        if let Some(node) = pod.node.and_then(|ord| self.nodes.get_mut(ord.0)) {
            node.allocated.add(&pod.workload.requests);
        }
        self.pods.push(pod);
    }

    /// Places a workload as if it were running.
    pub fn place(&mut self, workload: Workload, node: NodeOrd) {
        self.insert(SnapshotPod {
            name: String::new(),
            workload,
            node: Some(node),
            terminating: false,
            machine: None,
        });
    }

    /// Takes away pods and returns them, in order.
    pub fn remove_where(&mut self, goes: impl Fn(&SnapshotPod) -> bool) -> Vec<SnapshotPod> {
        let (gone, kept) = std::mem::take(&mut self.pods).into_iter().partition(|pod| goes(pod));
        self.pods = kept;
        let gone: Vec<SnapshotPod> = gone;
        for pod in &gone {
            if let Some(node) = pod.node.and_then(|ord| self.nodes.get_mut(ord.0)) {
                node.allocated.subtract(&pod.workload.requests);
            }
        }
        gone
    }

    /// Cordons a node.
    pub fn cordon(&mut self, ord: NodeOrd) {
        if let Some(node) = self.nodes.get_mut(ord.0) {
            node.cordoned = true;
        }
    }

    fn read_pod(&self, pod: &Pod) -> Option<SnapshotPod> {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let spec = pod
            .spec
            .as_ref()
            .filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))?;
        let pod_labels = pod.metadata.labels.clone().unwrap_or_default();
        let node = match spec.node_name.as_deref() {
            None | Some("") => None,
            Some(name) => Some(self.find(name)?),
        };
        let machine = machine_of(&pod_labels);
        // What the API server stores is valid; a selector that is not would match nothing there either.
        let constraints = Constraints::compile(&Placement::of_pod(spec), &pod_labels).unwrap_or_default();
        Some(SnapshotPod {
            name: pod.metadata.name.clone().unwrap_or_default(),
            workload: Workload {
                namespace: pod.metadata.namespace.clone().unwrap_or_default(),
                labels: pod_labels,
                requests: requests(spec),
                constraints,
            },
            node,
            terminating: pod.metadata.deletion_timestamp.is_some(),
            machine,
        })
    }
}

/// The machine that a pod with these labels runs, if it is a launcher of ours.
pub fn machine_of(pod_labels: &BTreeMap<String, String>) -> Option<MachineRef> {
    if pod_labels.get(labels::KUBEVIRT_ROLE).map(String::as_str) != Some("virt-launcher") {
        return None;
    }
    let project = Id::parse(pod_labels.get(labels::PROJECT)?.as_str()).ok()?;
    let cluster = Id::parse(pod_labels.get(labels::CLUSTER)?.as_str()).ok()?;
    let name = format!(
        "{}/machines/{}",
        ClusterName::new(project, cluster),
        pod_labels.get(labels::MACHINE)?
    );
    Some(MachineRef {
        name: name.parse().ok()?,
        pool: pod_labels.get(labels::POOL).cloned().unwrap_or_default(),
    })
}

fn node(node: &Node) -> SnapshotNode {
    let spec = node.spec.clone().unwrap_or_default();
    let node_labels = node.metadata.labels.clone().unwrap_or_default();
    SnapshotNode {
        name: node.metadata.name.clone().unwrap_or_default(),
        virtualization: node_labels
            .get(labels::KUBEVIRT_SCHEDULABLE)
            .is_some_and(|v| v == "true"),
        labels: node_labels,
        // A cordoned node has a taint that says the same; saying it twice would hide the real reason.
        taints: spec
            .taints
            .unwrap_or_default()
            .into_iter()
            .filter(|t| t.key != "node.kubernetes.io/unschedulable")
            .collect(),
        cordoned: spec.unschedulable.unwrap_or(false),
        readiness: readiness(node),
        allocatable: Amounts::from_list(node.status.as_ref().and_then(|s| s.allocatable.as_ref())),
        allocated: Amounts::default(),
    }
}

/// What the kubelet of a node says.
pub fn readiness(node: &Node) -> Readiness {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    match conditions
        .filter(|c| c.type_ == "Ready")
        .map(|c| c.status.as_str())
        .next()
    {
        Some("True") => Readiness::Ready,
        Some("False") => Readiness::NotReady,
        _ => Readiness::Unknown,
    }
}

/// Kubernetes' rule: the sum of the containers or the largest init container, whichever is more, plus overhead.
fn requests(spec: &PodSpec) -> Amounts {
    let of = |container: &Container| Amounts::from_list(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let mut all = Amounts::default();
    for container in &spec.containers {
        all.add(&of(container));
    }
    for container in spec.init_containers.iter().flatten() {
        all.maximum(&of(container));
    }
    all.add(&Amounts::from_list(spec.overhead.as_ref()));
    all.pods = 1;
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

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

    pub(crate) fn mk_snapshot(nodes: Vec<Value>, pods: Vec<Value>) -> Snapshot {
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|v| serde_json::from_value(v).expect("a node"))
            .collect();
        let pods: Vec<Pod> = pods
            .into_iter()
            .map(|v| serde_json::from_value(v).expect("a pod"))
            .collect();
        Snapshot::build(&nodes, &pods)
    }

    #[test]
    fn pods_use_what_they_request_until_they_are_removed() {
        let mut snapshot = mk_snapshot(
            vec![mk_node("b", "z2", "8"), mk_node("a", "z1", "8")],
            vec![
                mk_machine("m1", "a", "2"),
                mk_machine("m2", "a", "3"),
                mk_machine("m3", "gone", "3"),
            ],
        );
        let a = snapshot.find("a").expect("node a");
        assert_eq!(a, NodeOrd(0));
        assert_eq!(snapshot.node(a).expect("node a").allocated.cpu_millis, 5000);
        assert_eq!(snapshot.machines_on(a).count(), 2);
        let gone = snapshot.remove_where(|pod| pod.name.ends_with("m1"));
        assert_eq!(
            gone[0].machine.as_ref().expect("a machine").name.to_string(),
            "projects/acme/clusters/web/machines/m1"
        );
        assert_eq!(snapshot.node(a).expect("node a").allocated.cpu_millis, 3000);
    }

    #[test]
    fn finished_pods_use_nothing() {
        let mut pod = mk_machine("m1", "a", "2");
        pod["status"]["phase"] = json!("Succeeded");
        let snapshot = mk_snapshot(vec![mk_node("a", "z", "8")], vec![pod]);
        assert_eq!(snapshot.node(NodeOrd(0)).expect("node").allocated, Amounts::default());
    }

    #[test]
    fn a_large_init_container_counts() {
        let mut pod = mk_machine("m1", "a", "2");
        pod["spec"]["initContainers"] = json!([{"name": "i", "resources": {"requests": {"cpu": "5"}}}]);
        pod["spec"]["overhead"] = json!({"cpu": "100m"});
        let snapshot = mk_snapshot(vec![mk_node("a", "z", "8")], vec![pod]);
        assert_eq!(snapshot.node(NodeOrd(0)).expect("node").allocated.cpu_millis, 5100);
    }
}
