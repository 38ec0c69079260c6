//! What the solver is asked: nodes on dense ordinals, and for each kind of workload the pods that matter to it.
//!
//! A problem is a plain value that has left the index: solving holds no lock, and placing changes an overlay in the solver,
//! never the problem.

use std::{collections::HashMap, sync::Arc};

use crate::{
    domain::{
        Amounts,
        constraints::{Group, NodeTerm, Role},
        selector::Labels,
    },
    observe::{ObservedNode, ObservedPod, ObservedVolume, PodKey, Workload},
};

/// Ordinal of a node in a problem; nodes are in order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeOrd(pub(crate) usize);

/// A node as the solver sees it.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// The node.
    pub node: Arc<ObservedNode>,
    /// What the pods on it have requested.
    pub allocated: Amounts,
    /// Whether it takes nothing in this question, whoever asks: it is to be drained, or not part of it.
    pub closed: bool,
    /// Machines on it.
    pub machines: usize,
}

/// A workload to be placed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Claims that it mounts.
    pub claims: Vec<PodKey>,
}

/// A kind of workload with the pods that matter to it.
#[derive(Debug, Clone)]
pub struct Class {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Pods that each spread constraint counts.
    pub spread: Vec<Arc<Counts>>,
    /// Pods that each required anti-affinity term avoids.
    pub anti: Vec<Arc<Counts>>,
    /// Pods that all required affinity terms seek.
    pub near: Arc<Counts>,
    /// Weight (negative: rather not), topology key and pods of each preferred term.
    pub preferred: Vec<(i64, String, Arc<Counts>)>,
    /// Terms about it that pods hold.
    pub held: Vec<Held>,
    /// Its volumes that are not reachable from everywhere.
    pub volumes: Vec<Arc<ObservedVolume>>,
}

/// A term about a workload that running pods hold.
#[derive(Debug, Clone)]
pub struct Held {
    /// What it says.
    pub role: Role,
    /// Node label whose values are the domains.
    pub topology_key: String,
    /// Who holds it, all of them under `live`.
    pub holders: Counts,
}

/// Pods by node, in order of the nodes.
#[derive(Debug, Clone, Default)]
pub struct Counts(pub(crate) Vec<Count>);

impl Counts {
    /// The nodes that have such pods.
    pub fn iter(&self) -> impl Iterator<Item = &Count> {
        self.0.iter()
    }
}

/// Pods on one node.
#[derive(Debug, Clone)]
pub struct Count {
    /// The node.
    pub node: NodeOrd,
    /// Pods that are not terminating.
    pub live: usize,
    /// Pods that are.
    pub terminating: usize,
    /// One of them, to be named.
    pub witness: Arc<ObservedPod>,
}

impl Count {
    /// All of them.
    pub fn all(&self) -> usize {
        self.live + self.terminating
    }
}

/// The values of one topology key.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    /// Number of each node's domain; `None` if the node has no such label.
    of: Vec<Option<u32>>,
    /// Value of each domain.
    pub values: Vec<Arc<str>>,
}

impl Domains {
    fn number(nodes: &[NodeView], key: &str) -> Self {
        let mut numbers: HashMap<Arc<str>, u32> = HashMap::new();
        let mut domains = Self::default();
        for view in nodes {
            let number = view.node.labels.get(key).map(|value| {
                *numbers.entry(value.clone()).or_insert_with(|| {
                    domains.values.push(value.clone());
                    u32::try_from(domains.values.len() - 1).unwrap_or(u32::MAX)
                })
            });
            domains.of.push(number);
        }
        domains
    }

    /// The domain of a node.
    pub fn of(&self, ord: NodeOrd) -> Option<usize> {
        self.of.get(ord.0).copied().flatten().map(|domain| domain as usize)
    }
}

/// Nodes and kinds of workloads.
#[derive(Debug, Clone)]
pub struct Problem {
    nodes: Vec<NodeView>,
    classes: Vec<Class>,
    namespaces: HashMap<Arc<str>, Labels>,
    domains: HashMap<String, Arc<Domains>>,
}

impl Problem {
    /// Makes a problem of nodes in order of their names.
    pub fn new(nodes: Vec<NodeView>, classes: Vec<Class>, namespaces: HashMap<Arc<str>, Labels>) -> Self {
        let mut domains = HashMap::new();
        for key in classes.iter().flat_map(topology_keys) {
            if !domains.contains_key(key) {
                domains.insert(key.to_owned(), Arc::new(Domains::number(&nodes, key)));
            }
        }
        Self {
            nodes,
            classes,
            namespaces,
            domains,
        }
    }

    /// The nodes with their ordinals, in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeOrd, &NodeView)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, view)| (NodeOrd(index), view))
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    pub fn node(&self, ord: NodeOrd) -> Option<&NodeView> {
        self.nodes.get(ord.0)
    }

    /// Ordinal of a node.
    pub fn find(&self, name: &str) -> Option<NodeOrd> {
        let found = self.nodes.binary_search_by(|view| view.node.name.as_ref().cmp(name));
        found.ok().map(NodeOrd)
    }

    /// A kind of workload.
    pub fn class(&self, class: usize) -> Option<&Class> {
        self.classes.get(class)
    }

    /// The domains of a topology key that a workload speaks of.
    pub fn domains(&self, key: &str) -> Arc<Domains> {
        self.domains.get(key).cloned().unwrap_or_default()
    }

    /// Whether a workload belongs to a group.
    pub fn has(&self, group: &Group, workload: &Workload) -> bool {
        let labels = self.namespaces.get(workload.namespace.as_str());
        group.looks_into(&workload.namespace, labels) && group.selector.matches(&workload.labels)
    }

    /// The problem with all other nodes closed: for questions about a part of the nodes.
    #[must_use]
    pub fn only(&self, kept: impl Fn(&NodeView) -> bool) -> Self {
        let mut part = self.clone();
        for view in &mut part.nodes {
            view.closed |= !kept(view);
        }
        part
    }
}

fn topology_keys(class: &Class) -> impl Iterator<Item = &str> {
    let constraints = &class.workload.constraints;
    let terms = constraints.anti_required.iter().chain(&constraints.near_required);
    constraints
        .spread
        .iter()
        .map(|constraint| constraint.topology_key.as_str())
        .chain(terms.map(|term| term.topology_key.as_str()))
        .chain(class.preferred.iter().map(|(_, key, _)| key.as_str()))
        .chain(class.held.iter().map(|held| held.topology_key.as_str()))
}

/// Why a term does not match the node; `None` if it does.
pub fn failing_requirement(node: &ObservedNode, term: &NodeTerm) -> Option<String> {
    if term.labels.is_empty() && term.fields.is_empty() {
        return Some("a term without requirements matches no node".into());
    }
    let on_labels = term
        .labels
        .iter()
        .map(|r| (r, node.labels.get(&r.key).map(AsRef::as_ref)));
    let on_fields = term
        .fields
        .iter()
        .map(|r| (r, (r.key == "metadata.name").then_some(node.name.as_ref())));
    on_labels
        .chain(on_fields)
        .find(|(requirement, value)| !requirement.met_by(*value))
        .map(|(requirement, value)| {
            format!(
                "{} must be {} {:?}, is {}",
                requirement.key,
                requirement.operator.name(),
                requirement.values,
                value.unwrap_or("absent")
            )
        })
}
