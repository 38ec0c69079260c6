//! Counters: which pods are in each group that constraints speak of, and which pods hold which terms about it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::ids::{NodeId, PodId, Slots};
use crate::{
    domain::{
        Constraints,
        constraints::{Group, Role, held},
        selector::Labels,
    },
    observe::ObservedPod,
};

/// Number of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupId(u32);

/// The pods of one group.
#[derive(Debug, Default)]
pub(super) struct GroupMembers {
    /// Those that are not terminating.
    pub(super) live: HashMap<NodeId, Vec<PodId>>,
    /// Those that are.
    pub(super) terminating: HashMap<NodeId, Vec<PodId>>,
}

impl GroupMembers {
    fn of(&mut self, pod: &ObservedPod) -> &mut HashMap<NodeId, Vec<PodId>> {
        if pod.terminating {
            &mut self.terminating
        } else {
            &mut self.live
        }
    }

    pub(super) fn insert(&mut self, id: PodId, node: NodeId, pod: &ObservedPod) {
        self.of(pod).entry(node).or_default().push(id);
    }

    fn remove(&mut self, id: PodId, node: NodeId, pod: &ObservedPod) {
        remove_from(self.of(pod), node, id);
    }
}

fn remove_from(all: &mut HashMap<NodeId, Vec<PodId>>, node: NodeId, id: PodId) {
    if let Some(pods) = all.get_mut(&node) {
        if let Some(at) = pods.iter().position(|other| *other == id) {
            pods.swap_remove(at);
        }
        if pods.is_empty() {
            all.remove(&node);
        }
    }
}

/// Pods that hold one term, by node.
pub(super) type Holders = HashMap<NodeId, Vec<PodId>>;

#[derive(Debug)]
struct GroupSlot {
    group: Arc<Group>,
    /// How often constraints of pods speak of it.
    uses: usize,
    members: GroupMembers,
    holders: HashMap<(Role, String), Holders>,
}

/// All groups that constraints of pods speak of.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Slots<GroupSlot>,
    by_group: HashMap<Arc<Group>, GroupId>,
    /// Groups of exactly one namespace.
    in_namespace: HashMap<String, HashSet<GroupId>>,
    /// Groups that look into several, or into what a selector takes. Only who may write pods can make them.
    across: HashSet<GroupId>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.by_group.len()
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.slots.get(id.0).map(|slot| &slot.group)
    }

    pub(super) fn members(&self, group: &Group) -> Option<&GroupMembers> {
        let id = self.by_group.get(group)?;
        self.slots.get(id.0).map(|slot| &slot.members)
    }

    /// Terms about a pod with these labels that pods hold: the role, the topology key, and who.
    pub(super) fn held_about<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a Labels,
        namespace_labels: Option<&'a Labels>,
    ) -> impl Iterator<Item = (Role, &'a str, &'a Holders)> {
        self.candidates(namespace)
            .filter(|slot| !slot.holders.is_empty())
            .filter(move |slot| {
                slot.group.looks_into(namespace, namespace_labels) && slot.group.selector.matches(labels)
            })
            .flat_map(|slot| &slot.holders)
            .map(|((role, key), holders)| (*role, key.as_str(), holders))
    }

    fn candidates<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a GroupSlot> {
        let own = self.in_namespace.get(namespace).into_iter().flatten();
        own.chain(&self.across).filter_map(|id| self.slots.get(id.0))
    }

    fn candidate_ids(&self, namespace: &str) -> Vec<GroupId> {
        let own = self.in_namespace.get(namespace).into_iter().flatten();
        own.chain(&self.across).copied().collect()
    }

    /// Counts a pod in every group that has it.
    pub(super) fn count_in(&mut self, id: PodId, node: NodeId, pod: &ObservedPod, labels: Option<&Labels>) {
        for group in self.candidate_ids(&pod.key.namespace) {
            self.count_into(group, id, node, pod, labels);
        }
    }

    /// Counts a pod in a group, if that has it.
    pub(super) fn count_into(
        &mut self,
        group: GroupId,
        id: PodId,
        node: NodeId,
        pod: &ObservedPod,
        labels: Option<&Labels>,
    ) {
        if let Some(slot) = self.slots.get_mut(group.0)
            && has(&slot.group, pod, labels)
        {
            slot.members.insert(id, node, pod);
        }
    }

    /// Counts a pod out of every group that has it.
    pub(super) fn count_out(&mut self, id: PodId, node: NodeId, pod: &ObservedPod, labels: Option<&Labels>) {
        for group in self.candidate_ids(&pod.key.namespace) {
            if let Some(slot) = self.slots.get_mut(group.0)
                && has(&slot.group, pod, labels)
            {
                slot.members.remove(id, node, pod);
            }
        }
    }

    /// Notes what a pod's constraints speak of. Returns the groups that are new and have to be filled.
    pub(super) fn take_up(&mut self, id: PodId, node: NodeId, constraints: &Constraints) -> Vec<GroupId> {
        let mut added = Vec::new();
        for group in constraints.groups() {
            let (group, new) = self.acquire(group);
            if new {
                added.push(group);
            }
        }
        for (role, term) in held(constraints) {
            let Some(slot) = self.by_group.get(&term.group).and_then(|id| self.slots.get_mut(id.0)) else {
                continue;
            };
            let holders = slot.holders.entry((role, term.topology_key.clone())).or_default();
            holders.entry(node).or_default().push(id);
        }
        added
    }

    /// Takes back what [`Self::take_up`] noted.
    pub(super) fn let_go(&mut self, id: PodId, node: NodeId, constraints: &Constraints) {
        for (role, term) in held(constraints) {
            let Some(slot) = self.by_group.get(&term.group).and_then(|id| self.slots.get_mut(id.0)) else {
                continue;
            };
            let key = (role, term.topology_key.clone());
            if let Some(holders) = slot.holders.get_mut(&key) {
                remove_from(holders, node, id);
                if holders.is_empty() {
                    slot.holders.remove(&key);
                }
            }
        }
        for group in constraints.groups() {
            self.release(group);
        }
    }

    fn acquire(&mut self, group: &Arc<Group>) -> (GroupId, bool) {
        if let Some(id) = self.by_group.get(group).copied() {
            if let Some(slot) = self.slots.get_mut(id.0) {
                slot.uses += 1;
            }
            return (id, false);
        }
        let slot = GroupSlot {
            group: group.clone(),
            uses: 1,
            members: GroupMembers::default(),
            holders: HashMap::new(),
        };
        let id = GroupId(self.slots.insert(slot));
        self.by_group.insert(group.clone(), id);
        match group.only_namespace() {
            Some(namespace) => self.in_namespace.entry(namespace.to_owned()).or_default().insert(id),
            None => self.across.insert(id),
        };
        (id, true)
    }

    fn release(&mut self, group: &Arc<Group>) {
        let Some(id) = self.by_group.get(group).copied() else {
            return;
        };
        let Some(slot) = self.slots.get_mut(id.0) else { return };
        slot.uses -= 1;
        if slot.uses > 0 {
            return;
        }
        self.slots.remove(id.0);
        self.by_group.remove(group);
        let Some(namespace) = group.only_namespace() else {
            self.across.remove(&id);
            return;
        };
        if let Some(all) = self.in_namespace.get_mut(namespace) {
            all.remove(&id);
            if all.is_empty() {
                self.in_namespace.remove(namespace);
            }
        }
    }
}

fn has(group: &Group, pod: &ObservedPod, labels: Option<&Labels>) -> bool {
    group.looks_into(&pod.key.namespace, labels) && group.selector.matches(&pod.labels)
}
