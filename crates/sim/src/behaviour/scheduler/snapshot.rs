//! What the scheduler knows: nodes, the pods on them, and what they ask for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Node, Pod, PodSpec, ResourceRequirements, Taint},
    apimachinery::pkg::api::resource::Quantity as RawQuantity,
};
use kube::ResourceExt;
use steading_model::quantity::Quantity;

use steading_kubesim::Key;

/// Amounts by resource, in thousandths.
pub type Amounts = BTreeMap<String, u64>;

/// The nodes with what is on them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeState>,
    /// Node of each pod that is placed.
    placed: HashMap<Key, String>,
    /// Labels of the namespaces, where somebody selects pods by them.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// A node with what is on it.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// The node; `None` while only pods on it are known.
    pub node: Option<Arc<Node>>,
    /// What it can give.
    pub allocatable: Amounts,
    /// What is asked for on it.
    pub requested: Amounts,
    /// The pods on it.
    pub pods: HashMap<Key, PodState>,
}

/// A pod that has its place.
#[derive(Clone, Debug)]
pub struct PodState {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it asks for.
    pub requests: Amounts,
    /// Its spec, for its anti-affinity.
    pub spec: Arc<PodSpec>,
    /// Whether it is going: it holds resources but does not count for spreading.
    pub terminating: bool,
}

impl NodeState {
    /// Labels of the node.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.node
            .as_ref()
            .and_then(|node| node.metadata.labels.as_ref())
            .unwrap_or(&NONE)
    }

    /// Taints of the node.
    pub fn taints(&self) -> &[Taint] {
        let taints = self
            .node
            .as_ref()
            .and_then(|node| node.spec.as_ref())
            .and_then(|spec| spec.taints.as_deref());
        taints.unwrap_or_default()
    }

    /// Whether it is cordoned.
    pub fn is_cordoned(&self) -> bool {
        self.node
            .as_ref()
            .and_then(|node| node.spec.as_ref())
            .and_then(|spec| spec.unschedulable)
            .unwrap_or(false)
    }
}

impl Snapshot {
    /// Nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeState)> {
        self.nodes
            .iter()
            .filter(|(_, state)| state.node.is_some())
            .map(|(name, state)| (name.as_str(), state))
    }

    /// Pods that are placed.
    pub fn placed_keys(&self) -> Vec<Key> {
        self.placed.keys().cloned().collect()
    }

    /// Takes in the namespaces' labels.
    pub fn put_namespaces(&mut self, namespaces: BTreeMap<String, BTreeMap<String, String>>) {
        self.namespaces = namespaces;
    }

    /// Labels of a namespace; none if it is not known.
    pub fn namespace(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// The specs of all pods that are placed.
    pub fn specs(&self) -> impl Iterator<Item = &PodSpec> {
        self.nodes
            .values()
            .flat_map(|node| node.pods.values())
            .map(|pod| pod.spec.as_ref())
    }

    /// Takes in a node.
    pub fn put_node(&mut self, node: Arc<Node>) {
        let state = self.nodes.entry(node.name_any()).or_insert_with(NodeState::empty);
        state.allocatable = node
            .status
            .as_ref()
            .and_then(|status| status.allocatable.as_ref())
            .map(amounts)
            .unwrap_or_default();
        state.node = Some(node);
    }

    /// Forgets a node; pods on it are kept until they go themselves.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(state) = self.nodes.get_mut(name) {
            state.node = None;
        }
    }

    /// Takes in a pod as it is now. Pods without a node and pods that are over hold nothing.
    pub fn put_pod(&mut self, pod: &Pod) {
        let key = key_of(pod);
        let spec = pod.spec.clone().unwrap_or_default();
        let over = matches!(phase(pod), "Succeeded" | "Failed");
        match spec.node_name.clone() {
            Some(node) if !over => self.place(pod, &node),
            // Placed by us a moment ago, and this is what the pod was before.
            None if self.placed.contains_key(&key) && !over => {}
            _ => self.remove_pod(&key),
        }
    }

    /// Puts a pod on a node, before the API server's word of it is back.
    pub fn place(&mut self, pod: &Pod, node: &str) {
        let key = key_of(pod);
        self.remove_pod(&key);
        let spec = Arc::new(pod.spec.clone().unwrap_or_default());
        let state = PodState {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            requests: requests(&spec),
            spec,
            terminating: pod.metadata.deletion_timestamp.is_some(),
        };
        let on = self.nodes.entry(node.to_owned()).or_insert_with(NodeState::empty);
        for (name, amount) in &state.requests {
            *on.requested.entry(name.clone()).or_default() += amount;
        }
        on.pods.insert(key.clone(), state);
        self.placed.insert(key, node.to_owned());
    }

    /// Takes a pod off its node.
    pub fn remove_pod(&mut self, key: &Key) {
        let Some(node) = self.placed.remove(key) else { return };
        let Some(on) = self.nodes.get_mut(&node) else { return };
        let Some(gone) = on.pods.remove(key) else { return };
        for (name, amount) in gone.requests {
            if let Some(held) = on.requested.get_mut(&name) {
                *held = held.saturating_sub(amount);
            }
        }
    }
}

impl NodeState {
    fn empty() -> Self {
        Self {
            node: None,
            allocatable: Amounts::new(),
            requested: Amounts::new(),
            pods: HashMap::new(),
        }
    }
}

fn key_of(pod: &Pod) -> Key {
    Key::new(&pod.namespace().unwrap_or_default(), &pod.name_any())
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// What a pod asks for at most at one time: its containers and sidecars together, or an init container with the sidecars started before it;
/// plus overhead, plus one of `pods`.
pub fn requests(spec: &PodSpec) -> Amounts {
    let mut sidecars = Amounts::new();
    let mut most = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let asked = of_container(container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &asked);
            raise(&mut most, &sidecars);
        } else {
            let mut with = sidecars.clone();
            add(&mut with, &asked);
            raise(&mut most, &with);
        }
    }
    let mut sum = sidecars;
    for container in &spec.containers {
        add(&mut sum, &of_container(container.resources.as_ref()));
    }
    raise(&mut sum, &most);
    add(&mut sum, &spec.overhead.as_ref().map(amounts).unwrap_or_default());
    sum.insert("pods".to_owned(), 1000);
    sum
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *sum.entry(name.clone()).or_default() += amount;
    }
}

fn raise(most: &mut Amounts, to: &Amounts) {
    for (name, amount) in to {
        let held = most.entry(name.clone()).or_default();
        *held = (*held).max(*amount);
    }
}

/// Limits stand in for requests that are not given.
fn of_container(resources: Option<&ResourceRequirements>) -> Amounts {
    let Some(resources) = resources else {
        return Amounts::new();
    };
    let mut all = resources.limits.as_ref().map(amounts).unwrap_or_default();
    all.extend(resources.requests.as_ref().map(amounts).unwrap_or_default());
    all
}

fn amounts(raw: &BTreeMap<String, RawQuantity>) -> Amounts {
    raw.iter()
        .filter_map(|(name, quantity)| Some((name.clone(), quantity.0.parse::<Quantity>().ok()?.millis())))
        .collect()
}
