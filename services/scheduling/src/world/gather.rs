//! Taking a question out of the index: the nodes, and only the counters that the workloads in question speak of.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    World,
    groups::{GroupMembers, Holders},
    ids::{NodeId, PodId},
};
use crate::{
    domain::constraints::{Group, Term},
    observe::{ObservedPod, ObservedVolume, PodKey},
    solve::{
        drain::{self, DrainProblem},
        problem::{Class, Count, Counts, Held, NodeOrd, NodeView, Problem, Wanted},
    },
};

/// The index with some pods left out.
struct Gather<'w> {
    world: &'w World,
    ords: HashMap<NodeId, NodeOrd>,
    left_out: HashSet<PodId>,
    counts: HashMap<Arc<Group>, Arc<Counts>>,
}

impl World {
    /// The problem of placing `wanted`. Nodes in `away` take nothing, and the machines on them are not there.
    pub fn problem(&self, wanted: &[Wanted], away: &HashSet<Arc<str>>) -> Problem {
        let mut nodes = Vec::with_capacity(self.by_name.len());
        let mut ords = HashMap::with_capacity(self.by_name.len());
        let mut left_out = HashSet::new();
        for (name, id) in &self.by_name {
            let Some(slot) = self.nodes.get(id.0) else { continue };
            let Some(node) = slot.node.clone() else { continue };
            let mut view = NodeView {
                closed: away.contains(name),
                node,
                allocated: slot.allocated.clone(),
                machines: 0,
            };
            let machines = slot.pods.iter().filter_map(|id| Some((*id, self.pods.get(id.0)?)));
            for (id, slot) in machines.filter(|(_, slot)| slot.pod.machine.is_some()) {
                if away.contains(name) {
                    view.allocated.subtract(&slot.pod.requests);
                    left_out.insert(id);
                } else {
                    view.machines += 1;
                }
            }
            ords.insert(*id, NodeOrd(nodes.len()));
            nodes.push(view);
        }
        let mut gather = Gather {
            world: self,
            ords,
            left_out,
            counts: HashMap::new(),
        };
        let classes = wanted.iter().map(|wanted| gather.class(wanted)).collect();
        let namespaces = wanted.iter().filter_map(|wanted| {
            let (name, labels) = self.namespaces.get_key_value(wanted.workload.namespace.as_str())?;
            Some((name.clone(), labels.clone()))
        });
        Problem::new(nodes, classes, namespaces.collect())
    }

    /// The drain of a node while `others` are gone, too.
    pub fn drain(&self, drained: &Arc<str>, others: impl IntoIterator<Item = Arc<str>>) -> DrainProblem {
        let away: HashSet<Arc<str>> = others.into_iter().chain([drained.clone()]).collect();
        let mut pods: Vec<Arc<ObservedPod>> = away.iter().flat_map(|node| self.machines_on(node)).collect();
        drain::order(&mut pods);
        let wanted: Vec<Wanted> = pods.iter().map(|pod| drain::wanted(pod)).collect();
        let problem = self.problem(&wanted, &away);
        DrainProblem::new(drained.clone(), away, pods, problem)
    }

    /// The machines on a node, in order of their names.
    pub fn machines_on(&self, node: &str) -> Vec<Arc<ObservedPod>> {
        let mut all = self.load(node).map(|(_, machines)| machines).unwrap_or_default();
        all.sort_by(|a, b| a.machine.cmp(&b.machine));
        all
    }

    fn volumes_of(&self, claims: &[PodKey]) -> Vec<Arc<ObservedVolume>> {
        let volumes = claims
            .iter()
            .filter_map(|claim| self.volumes.get(self.claims.get(claim)?));
        volumes.cloned().collect()
    }
}

impl Gather<'_> {
    fn class(&mut self, wanted: &Wanted) -> Class {
        let workload = &wanted.workload;
        let constraints = &workload.constraints;
        let likes = constraints.near_preferred.iter().map(|(weight, term)| (*weight, term));
        let dislikes = constraints.anti_preferred.iter().map(|(weight, term)| (-*weight, term));
        let weighted: Vec<(i64, &Term)> = likes.chain(dislikes).collect();
        let labels = self.world.namespaces.get(workload.namespace.as_str());
        let held = self
            .world
            .groups
            .held_about(&workload.namespace, &workload.labels, labels);
        let held = held.map(|(role, key, holders)| Held {
            role,
            topology_key: key.to_owned(),
            holders: self.holders(holders),
        });
        Class {
            held: held.collect(),
            spread: constraints.spread.iter().map(|c| self.counts(&c.group)).collect(),
            anti: constraints
                .anti_required
                .iter()
                .map(|term| self.counts(&term.group))
                .collect(),
            near: self.near(&constraints.near_required),
            preferred: weighted
                .into_iter()
                .map(|(weight, term)| (weight, term.topology_key.clone(), self.counts(&term.group)))
                .collect(),
            volumes: self.world.volumes_of(&wanted.claims),
            workload: workload.clone(),
        }
    }

    fn holders(&self, holders: &Holders) -> Counts {
        let live = holders.iter().map(|(node, pods)| (*node, pods.as_slice(), &[][..]));
        self.tally(live)
    }

    fn counts(&mut self, group: &Arc<Group>) -> Arc<Counts> {
        if let Some(counts) = self.counts.get(group) {
            return counts.clone();
        }
        let counts = match self.world.groups.members(group) {
            Some(members) => self.members(members),
            // Nobody who runs speaks of it, as in a proposal: its namespaces have to be looked through once.
            None => self.scan(|pod| self.has(group, pod)),
        };
        let counts = Arc::new(counts);
        self.counts.insert(group.clone(), counts.clone());
        counts
    }

    /// Pods that all of the terms want near: kube-scheduler counts only those.
    fn near(&mut self, terms: &[Term]) -> Arc<Counts> {
        match terms {
            [] => Arc::default(),
            [one] => self.counts(&one.group),
            all => Arc::new(self.scan(|pod| all.iter().all(|term| self.has(&term.group, pod)))),
        }
    }

    fn has(&self, group: &Group, pod: &ObservedPod) -> bool {
        let labels = self.world.namespaces.get(&pod.key.namespace);
        group.looks_into(&pod.key.namespace, labels) && group.selector.matches(&pod.labels)
    }

    fn scan(&self, has: impl Fn(&ObservedPod) -> bool) -> Counts {
        let mut members = GroupMembers::default();
        for id in self.world.by_key.values() {
            if let Some(slot) = self.world.pods.get(id.0).filter(|slot| has(&slot.pod)) {
                members.insert(*id, slot.node, &slot.pod);
            }
        }
        self.members(&members)
    }

    fn members(&self, members: &GroupMembers) -> Counts {
        let none: &[PodId] = &[];
        let live = members.live.iter().map(|(node, pods)| {
            let terminating = members.terminating.get(node).map_or(none, Vec::as_slice);
            (*node, pods.as_slice(), terminating)
        });
        let only_terminating = members
            .terminating
            .iter()
            .filter(|(node, _)| !members.live.contains_key(node));
        self.tally(live.chain(only_terminating.map(|(node, pods)| (*node, none, pods.as_slice()))))
    }

    fn tally<'a>(&self, all: impl Iterator<Item = (NodeId, &'a [PodId], &'a [PodId])>) -> Counts {
        let mut counts = Vec::new();
        for (node, live, terminating) in all {
            let Some(ord) = self.ords.get(&node) else { continue };
            let present = |pods: &[PodId]| pods.iter().filter(|id| !self.left_out.contains(id)).count();
            let witness = live.iter().chain(terminating).find(|id| !self.left_out.contains(id));
            let Some(witness) = witness.and_then(|id| self.world.pods.get(id.0)) else {
                continue;
            };
            counts.push(Count {
                node: *ord,
                live: present(live),
                terminating: present(terminating),
                witness: witness.pod.clone(),
            });
        }
        counts.sort_by_key(|count| count.node);
        Counts(counts)
    }
}
