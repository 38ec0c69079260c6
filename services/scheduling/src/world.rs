//! The live scheduling index: nodes, the pods on them, and counters of pods by group and node.
//!
//! ```text
//!  nodes ──┐                                   ┌─► members of each group, by node   (spread, affinity, anti-affinity)
//!  pods ───┼─► world: ids, namespaces, claims ─┤
//!  volumes ┘                                   └─► holders of each term, by node    (who repels or attracts newcomers)
//! ```
//!
//! A *group* is a set of namespaces and a label selector; one counter is kept for each group that a pod's constraints
//! speak of. Domains of a topology key are sums over nodes, made when a question is asked: so a node that changes its zone
//! costs nothing here. Synchronous; the cost of an update depends on the pod, not on how many there are. Questions take a
//! [`Problem`](crate::solve::problem::Problem) out of it, and nothing is ever placed in it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    domain::{Amounts, selector::Labels},
    observe::{ObservedClaim, ObservedNode, ObservedPod, ObservedVolume, PodKey},
};

mod gather;
mod groups;
mod ids;

use groups::Groups;
use ids::{NodeId, PodId, Slots};

/// A node and what is on it.
#[derive(Debug)]
struct NodeSlot {
    name: Arc<str>,
    /// `None` while only pods on it are known.
    node: Option<Arc<ObservedNode>>,
    allocated: Amounts,
    pods: Vec<PodId>,
}

#[derive(Debug)]
struct PodSlot {
    pod: Arc<ObservedPod>,
    node: NodeId,
}

/// The index; see the module.
#[derive(Debug, Default)]
pub struct World {
    nodes: Slots<NodeSlot>,
    by_name: BTreeMap<Arc<str>, NodeId>,
    pods: Slots<PodSlot>,
    by_key: HashMap<PodKey, PodId>,
    namespaces: HashMap<Arc<str>, Labels>,
    in_namespace: HashMap<Arc<str>, HashSet<PodId>>,
    groups: Groups,
    claims: HashMap<PodKey, Arc<str>>,
    volumes: HashMap<Arc<str>, Arc<ObservedVolume>>,
}

impl World {
    /// Takes in a node as it is now.
    pub fn put_node(&mut self, node: Arc<ObservedNode>) {
        let id = self.node_id(&node.name);
        if let Some(slot) = self.nodes.get_mut(id.0) {
            slot.node = Some(node);
        }
    }

    /// Forgets a node; the pods on it stay until they are deleted themselves.
    pub fn remove_node(&mut self, name: &str) {
        let Some(id) = self.by_name.get(name).copied() else {
            return;
        };
        if let Some(slot) = self.nodes.get_mut(id.0) {
            slot.node = None;
        }
        self.drop_unused(id);
    }

    /// Takes in a pod as it is now.
    pub fn put_pod(&mut self, pod: Arc<ObservedPod>) {
        if let Some(id) = self.by_key.get(&pod.key).copied() {
            // Most events are about a status that is not projected.
            if self.pods.get(id.0).is_some_and(|slot| slot.pod == pod) {
                return;
            }
            self.remove_pod(&pod.key);
        }
        let node = self.node_id(&pod.node);
        let slot = PodSlot { pod: pod.clone(), node };
        let id = PodId(self.pods.insert(slot));
        self.by_key.insert(pod.key.clone(), id);
        if let Some(slot) = self.nodes.get_mut(node.0) {
            slot.allocated.add(&pod.requests);
            slot.pods.push(id);
        }
        self.in_namespace
            .entry(pod.key.namespace.clone())
            .or_default()
            .insert(id);
        let labels = self.namespaces.get(&pod.key.namespace);
        self.groups.count_in(id, node, &pod, labels);
        let added = self.groups.take_up(id, node, &pod.constraints);
        for group in added {
            self.fill(group);
        }
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, key: &PodKey) {
        let Some(id) = self.by_key.remove(key) else { return };
        let Some(PodSlot { pod, node }) = self.pods.remove(id.0) else {
            return;
        };
        self.groups.let_go(id, node, &pod.constraints);
        let labels = self.namespaces.get(&pod.key.namespace);
        self.groups.count_out(id, node, &pod, labels);
        if let Some(all) = self.in_namespace.get_mut(&key.namespace) {
            all.remove(&id);
            if all.is_empty() {
                self.in_namespace.remove(&key.namespace);
            }
        }
        if let Some(slot) = self.nodes.get_mut(node.0) {
            slot.allocated.subtract(&pod.requests);
            slot.pods.retain(|other| *other != id);
        }
        self.drop_unused(node);
    }

    /// Takes in the labels of a namespace: terms may select namespaces by them.
    pub fn put_namespace(&mut self, name: &Arc<str>, labels: Labels) {
        if self.namespaces.get(name) == Some(&labels) {
            return;
        }
        self.recount_namespace(name, Some(labels));
    }

    /// Forgets the labels of a namespace.
    pub fn remove_namespace(&mut self, name: &Arc<str>) {
        self.recount_namespace(name, None);
    }

    fn recount_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) {
        let all: Vec<PodId> = self.in_namespace.get(name).into_iter().flatten().copied().collect();
        let before = self.namespaces.remove(name);
        for (id, slot) in all.iter().filter_map(|id| Some((*id, self.pods.get(id.0)?))) {
            self.groups.count_out(id, slot.node, &slot.pod, before.as_ref());
            self.groups.count_in(id, slot.node, &slot.pod, labels.as_ref());
        }
        if let Some(labels) = labels {
            self.namespaces.insert(name.clone(), labels);
        }
    }

    /// Takes in a claim that is bound.
    pub fn put_claim(&mut self, claim: &ObservedClaim) {
        self.claims.insert(claim.key.clone(), claim.volume.clone());
    }

    /// Forgets a claim.
    pub fn remove_claim(&mut self, key: &PodKey) {
        self.claims.remove(key);
    }

    /// Takes in a volume that is not reachable from everywhere.
    pub fn put_volume(&mut self, volume: Arc<ObservedVolume>) {
        self.volumes.insert(volume.name.clone(), volume);
    }

    /// Forgets a volume.
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }

    /// Number of nodes that are known.
    pub fn node_count(&self) -> usize {
        self.by_name
            .values()
            .filter(|id| self.nodes.get(id.0).is_some_and(|slot| slot.node.is_some()))
            .count()
    }

    /// Number of pods.
    pub fn pod_count(&self) -> usize {
        self.by_key.len()
    }

    /// Number of counters.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// What pods on a node have requested, and the machines among them; `None` if neither node nor pods are known.
    pub fn load(&self, node: &str) -> Option<(Amounts, Vec<Arc<ObservedPod>>)> {
        let slot = self.nodes.get(self.by_name.get(node)?.0)?;
        let pods = slot.pods.iter().filter_map(|id| self.pods.get(id.0));
        let machines = pods
            .filter(|slot| slot.pod.machine.is_some())
            .map(|slot| slot.pod.clone());
        Some((slot.allocated.clone(), machines.collect()))
    }

    fn node_id(&mut self, name: &Arc<str>) -> NodeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let slot = NodeSlot {
            name: name.clone(),
            node: None,
            allocated: Amounts::default(),
            pods: Vec::new(),
        };
        let id = NodeId(self.nodes.insert(slot));
        self.by_name.insert(name.clone(), id);
        id
    }

    fn drop_unused(&mut self, id: NodeId) {
        if self
            .nodes
            .get(id.0)
            .is_some_and(|slot| slot.node.is_none() && slot.pods.is_empty())
            && let Some(slot) = self.nodes.remove(id.0)
        {
            self.by_name.remove(&slot.name);
        }
    }

    /// Counts the pods of a group that nobody has spoken of before.
    fn fill(&mut self, group: groups::GroupId) {
        let Some(spoken_of) = self.groups.group(group) else {
            return;
        };
        let all: Vec<PodId> = match spoken_of.only_namespace() {
            Some(namespace) => self
                .in_namespace
                .get(namespace)
                .into_iter()
                .flatten()
                .copied()
                .collect(),
            None => self.by_key.values().copied().collect(),
        };
        for id in all {
            if let Some(slot) = self.pods.get(id.0) {
                let labels = self.namespaces.get(&slot.pod.key.namespace);
                self.groups.count_into(group, id, slot.node, &slot.pod, labels);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
