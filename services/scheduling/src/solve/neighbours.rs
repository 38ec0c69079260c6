//! Affinity between pods, as kube-scheduler's `InterPodAffinity`: what the workload demands and prefers of pods that run,
//! and what they demand and prefer of it.

use std::{collections::HashMap, sync::Arc};

use crate::{
    domain::constraints::{Role, Term, held},
    observe::{ObservedPod, Workload},
    solve::{
        problem::{Class, Domains, NodeOrd, Problem},
        score::FULL,
    },
};

/// Weight of a required affinity term of a pod that runs, about a pod that does not: the default of `hardPodAffinityWeight`.
const HARD_POD_AFFINITY_WEIGHT: i64 = 1;

/// Pods by domain for all terms that matter to one workload.
#[derive(Debug, Clone)]
pub struct NeighbourState {
    near: Vec<Tally>,
    /// Pods that all required affinity terms seek, wherever they are.
    near_total: i64,
    /// Whether the workload meets its own required affinity terms.
    near_itself: bool,
    anti: Vec<Tally>,
    repelled: Vec<Tally>,
    /// Points by topology key.
    points: HashMap<String, (Arc<Domains>, Vec<i64>)>,
}

/// Pods by domain for one term.
#[derive(Debug, Clone)]
struct Tally {
    topology_key: String,
    domains: Arc<Domains>,
    counts: Vec<i64>,
    witnesses: HashMap<usize, Witness>,
}

/// A pod that can be named as the reason.
#[derive(Debug, Clone)]
pub enum Witness {
    /// It runs.
    Pod(Arc<ObservedPod>),
    /// It was placed a moment ago.
    Replica,
}

/// Why a workload must not stand beside others.
#[derive(Debug, Clone)]
pub enum Clash {
    /// Nobody that it seeks is in the domain of the topology key.
    Alone(String),
    /// The node has no such label.
    NoDomain(String),
    /// Somebody that it avoids is in the domain of the topology key.
    Avoids(String, Witness),
    /// Somebody in the domain of the topology key keeps it out.
    KeptOut(String, Witness),
}

impl Tally {
    fn new(problem: &Problem, topology_key: &str) -> Self {
        let domains = problem.domains(topology_key);
        Self {
            topology_key: topology_key.to_owned(),
            counts: vec![0; domains.values.len()],
            witnesses: HashMap::new(),
            domains,
        }
    }

    fn add(&mut self, ord: NodeOrd, pods: i64, witness: impl FnOnce() -> Witness) {
        let Some(domain) = self.domains.of(ord) else { return };
        if let Some(count) = self.counts.get_mut(domain) {
            *count += pods;
        }
        self.witnesses.entry(domain).or_insert_with(witness);
    }

    fn count(&self, ord: NodeOrd) -> Option<i64> {
        self.counts.get(self.domains.of(ord)?).copied()
    }

    fn witness(&self, ord: NodeOrd) -> Witness {
        let witness = self.domains.of(ord).and_then(|domain| self.witnesses.get(&domain));
        witness.cloned().unwrap_or(Witness::Replica)
    }
}

impl NeighbourState {
    /// Counts.
    pub fn count(problem: &Problem, class: &Class) -> Self {
        let constraints = &class.workload.constraints;
        let mut state = Self {
            near: constraints
                .near_required
                .iter()
                .map(|term| Tally::new(problem, &term.topology_key))
                .collect(),
            near_total: 0,
            near_itself: constraints
                .near_required
                .iter()
                .all(|term| problem.has(&term.group, &class.workload)),
            anti: constraints
                .anti_required
                .iter()
                .map(|term| Tally::new(problem, &term.topology_key))
                .collect(),
            repelled: Vec::new(),
            points: HashMap::new(),
        };
        for count in class.near.iter() {
            state.seek(count.node, number(count.all()));
        }
        for (tally, counts) in state.anti.iter_mut().zip(&class.anti) {
            for count in counts.iter() {
                tally.add(count.node, number(count.all()), || Witness::Pod(count.witness.clone()));
            }
        }
        for (weight, key, counts) in &class.preferred {
            for count in counts.iter() {
                state.prefer(problem, key, count.node, weight * number(count.all()));
            }
        }
        for held in &class.held {
            for count in held.holders.iter() {
                let pods = number(count.all());
                state.hold(problem, held.role, &held.topology_key, count.node, pods, || {
                    Witness::Pod(count.witness.clone())
                });
            }
        }
        state
    }

    /// Counts a workload as placed on a node. `own` are the terms of the workload that this state is about.
    pub fn add(&mut self, problem: &Problem, own: &Workload, placed: &Workload, ord: NodeOrd) {
        let constraints = &own.constraints;
        let all_near = constraints
            .near_required
            .iter()
            .all(|term| problem.has(&term.group, placed));
        if !constraints.near_required.is_empty() && all_near {
            self.seek(ord, 1);
        }
        for (tally, term) in self.anti.iter_mut().zip(&constraints.anti_required) {
            if problem.has(&term.group, placed) {
                tally.add(ord, 1, || Witness::Replica);
            }
        }
        let likes = constraints.near_preferred.iter().map(|(weight, term)| (*weight, term));
        let dislikes = constraints.anti_preferred.iter().map(|(weight, term)| (-*weight, term));
        let weighted: Vec<(i64, &Term)> = likes.chain(dislikes).collect();
        for (weight, term) in weighted {
            if problem.has(&term.group, placed) {
                self.prefer(problem, &term.topology_key, ord, weight);
            }
        }
        for (role, term) in held(&placed.constraints) {
            if problem.has(&term.group, own) {
                self.hold(problem, role, &term.topology_key, ord, 1, || Witness::Replica);
            }
        }
    }

    fn seek(&mut self, ord: NodeOrd, pods: i64) {
        for tally in &mut self.near {
            // Only pods in some domain count; one on a node without the label is in none.
            if tally.domains.of(ord).is_some() {
                self.near_total += pods;
            }
            tally.add(ord, pods, || Witness::Replica);
        }
    }

    fn prefer(&mut self, problem: &Problem, key: &str, ord: NodeOrd, points: i64) {
        if !self.points.contains_key(key) {
            let domains = problem.domains(key);
            let zeros = vec![0; domains.values.len()];
            self.points.insert(key.to_owned(), (domains, zeros));
        }
        let Some((domains, all)) = self.points.get_mut(key) else {
            return;
        };
        if let Some(sum) = domains.of(ord).and_then(|domain| all.get_mut(domain)) {
            *sum += points;
        }
    }

    fn hold(
        &mut self,
        problem: &Problem,
        role: Role,
        key: &str,
        ord: NodeOrd,
        pods: i64,
        witness: impl FnOnce() -> Witness,
    ) {
        match role {
            Role::Prefers(weight) => self.prefer(problem, key, ord, weight * pods),
            Role::Seeks => self.prefer(problem, key, ord, HARD_POD_AFFINITY_WEIGHT * pods),
            Role::Repels => {
                let at = self.repelled.iter().position(|tally| tally.topology_key == key);
                if at.is_none() {
                    self.repelled.push(Tally::new(problem, key));
                }
                let last = self.repelled.len() - 1;
                if let Some(tally) = self.repelled.get_mut(at.unwrap_or(last)) {
                    tally.add(ord, pods, witness);
                }
            }
        }
    }

    /// Whether the workload may stand on a node.
    pub fn allows(&self, ord: NodeOrd) -> bool {
        let crowded = |tally: &Tally| tally.count(ord).is_some_and(|count| count > 0);
        !self.anti.iter().any(crowded) && !self.repelled.iter().any(crowded) && self.lonely(ord).is_none()
    }

    /// Why the workload must not stand on a node.
    pub fn clash(&self, ord: NodeOrd) -> Option<Clash> {
        let crowded = |tally: &&Tally| tally.count(ord).is_some_and(|count| count > 0);
        let avoided = || {
            let tally = self.anti.iter().find(crowded)?;
            Some(Clash::Avoids(tally.topology_key.clone(), tally.witness(ord)))
        };
        let kept_out = || {
            let tally = self.repelled.iter().find(crowded)?;
            Some(Clash::KeptOut(tally.topology_key.clone(), tally.witness(ord)))
        };
        self.lonely(ord).or_else(avoided).or_else(kept_out)
    }

    fn lonely(&self, ord: NodeOrd) -> Option<Clash> {
        if let Some(tally) = self.near.iter().find(|tally| tally.count(ord).is_none()) {
            return Some(Clash::NoDomain(tally.topology_key.clone()));
        }
        let alone = self.near.iter().find(|tally| tally.count(ord) == Some(0))?;
        // The first of those that want to be together may go anywhere.
        let first = self.near_itself && self.near_total == 0;
        (!first).then(|| Clash::Alone(alone.topology_key.clone()))
    }

    /// Points of the preferred terms, stretched to 0–100 over the nodes that fit; zeros if all are equal.
    pub fn score(&self, feasible: &[NodeOrd]) -> Vec<i64> {
        if self.points.is_empty() {
            return vec![0; feasible.len()];
        }
        let mut sums = vec![0_i64; feasible.len()];
        for (domains, points) in self.points.values() {
            for (sum, ord) in sums.iter_mut().zip(feasible) {
                *sum += domains
                    .of(*ord)
                    .and_then(|domain| points.get(domain))
                    .copied()
                    .unwrap_or_default();
            }
        }
        let (most, least) = (
            sums.iter().max().copied().unwrap_or(0),
            sums.iter().min().copied().unwrap_or(0),
        );
        sums.iter().map(|sum| stretched(sum - least, most - least)).collect()
    }
}

/// `part` of `whole` in per cent, as kube-scheduler's floating point has it.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "sums of weights are far below 2^52, and the quotient is at most 100"
)]
fn stretched(part: i64, whole: i64) -> i64 {
    if whole <= 0 {
        return 0;
    }
    (FULL as f64 * (part as f64 / whole as f64)) as i64
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
