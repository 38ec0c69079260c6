//! A reading of kube-scheduler's rules without any index: everything is counted again, over all pods, for each pod. Slow and
//! plain; the solver must agree with it.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "counts of a test's pods are small"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    domain::{
        Amounts,
        constraints::{Group, Role, SpreadConstraint, held},
        selector::Labels,
    },
    observe::{ObservedNode, Readiness, Workload, node::cordon},
    solve::problem::failing_requirement,
};

/// A pod on a node.
#[derive(Clone)]
pub(super) struct NaivePod {
    pub(super) workload: Workload,
    pub(super) node: String,
    pub(super) terminating: bool,
}

/// A small infra cluster.
#[derive(Clone, Default)]
pub(super) struct NaiveWorld {
    /// In order of their names.
    pub(super) nodes: Vec<Arc<ObservedNode>>,
    pub(super) pods: Vec<NaivePod>,
    pub(super) namespaces: BTreeMap<String, Labels>,
}

impl NaiveWorld {
    /// Places one workload; the name of its node, or `None`.
    pub(super) fn place(&mut self, workload: &Workload) -> Option<String> {
        let feasible: Vec<Arc<ObservedNode>> = self
            .nodes
            .iter()
            .filter(|node| self.fits(workload, node))
            .cloned()
            .collect();
        let scores = self.scores(workload, &feasible);
        let mut best: Option<(i64, &Arc<ObservedNode>)> = None;
        for (node, score) in feasible.iter().zip(scores) {
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, node));
            }
        }
        let node = best?.1.name.to_string();
        self.pods.push(NaivePod {
            workload: workload.clone(),
            node: node.clone(),
            terminating: false,
        });
        Some(node)
    }

    fn node(&self, name: &str) -> Option<&Arc<ObservedNode>> {
        self.nodes.iter().find(|node| node.name.as_ref() == name)
    }

    fn has(&self, group: &Group, workload: &Workload) -> bool {
        group.looks_into(&workload.namespace, self.namespaces.get(&workload.namespace))
            && group.selector.matches(&workload.labels)
    }

    fn used(&self, node: &ObservedNode) -> Amounts {
        let mut used = Amounts::default();
        for pod in self.pods.iter().filter(|pod| pod.node == *node.name) {
            used.add(&pod.workload.requests);
        }
        used
    }

    fn chosen(workload: &Workload, node: &ObservedNode) -> bool {
        let constraints = &workload.constraints;
        constraints
            .node_selector
            .iter()
            .all(|(key, value)| node.labels.has(key, value))
            && constraints
                .node_required
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| failing_requirement(node, term).is_none()))
    }

    fn repelled_by_taint(workload: &Workload, node: &ObservedNode) -> bool {
        let hard = node.taints.iter().filter(|taint| taint.effect != "PreferNoSchedule");
        hard.into_iter().any(|taint| !workload.constraints.tolerates(taint))
    }

    fn fits(&self, workload: &Workload, node: &ObservedNode) -> bool {
        let cordoned = node.cordoned && !workload.constraints.tolerates(&cordon());
        node.readiness == Readiness::Ready
            && node.virtualization
            && !cordoned
            && !Self::repelled_by_taint(workload, node)
            && Self::chosen(workload, node)
            && node
                .allocatable
                .minus(&self.used(node))
                .first_shortage(&workload.requests)
                .is_none()
            && self.spread_allows(workload, node)
            && self.neighbours_allow(workload, node)
    }

    fn counts(&self, workload: &Workload, constraint: &SpreadConstraint) -> BTreeMap<String, i64> {
        let keys = workload
            .constraints
            .spread
            .iter()
            .filter(|other| other.strict == constraint.strict);
        let keys: Vec<&str> = keys.map(|other| other.topology_key.as_str()).collect();
        let mut counts = BTreeMap::new();
        for node in &self.nodes {
            let complete = keys.iter().all(|key| node.labels.get(key).is_some());
            let wanted = !constraint.honours_affinity || Self::chosen(workload, node);
            let cordoned = node.cordoned && !workload.constraints.tolerates(&cordon());
            let clean = !constraint.honours_taints || !(cordoned || Self::repelled_by_taint(workload, node));
            if let Some(domain) = node
                .labels
                .get(&constraint.topology_key)
                .filter(|_| complete && wanted && clean)
            {
                *counts.entry(domain.to_string()).or_default() += self.counted_on(constraint, node);
            }
        }
        counts
    }

    fn counted_on(&self, constraint: &SpreadConstraint, node: &ObservedNode) -> i64 {
        let here = self
            .pods
            .iter()
            .filter(|pod| pod.node == *node.name && !pod.terminating);
        i64::try_from(here.filter(|pod| self.has(&constraint.group, &pod.workload)).count()).unwrap()
    }

    fn spread_allows(&self, workload: &Workload, node: &ObservedNode) -> bool {
        workload
            .constraints
            .spread
            .iter()
            .filter(|c| c.strict)
            .all(|constraint| {
                let Some(domain) = node.labels.get(&constraint.topology_key) else {
                    return false;
                };
                let counts = self.counts(workload, constraint);
                let enough = i32::try_from(counts.len()).unwrap() >= constraint.min_domains;
                let lowest = if enough {
                    counts.values().min().copied().unwrap_or(0)
                } else {
                    0
                };
                let here = counts.get(domain.as_ref()).copied().unwrap_or(0);
                here + i64::from(self.has(&constraint.group, workload)) - lowest <= i64::from(constraint.max_skew)
            })
    }

    fn share<'a>(&'a self, key: &'a str, node: &'a ObservedNode) -> impl Iterator<Item = &'a NaivePod> {
        let domain = node.labels.get(key);
        self.pods.iter().filter(move |pod| {
            let there = self.node(&pod.node).and_then(|there| there.labels.get(key));
            domain.is_some() && there == domain
        })
    }

    fn neighbours_allow(&self, workload: &Workload, node: &ObservedNode) -> bool {
        let constraints = &workload.constraints;
        let avoided = constraints.anti_required.iter().any(|term| {
            self.share(&term.topology_key, node)
                .any(|pod| self.has(&term.group, &pod.workload))
        });
        let kept_out = self.pods.iter().any(|pod| {
            let theirs = pod.workload.constraints.anti_required.iter();
            theirs.filter(|term| self.has(&term.group, workload)).any(|term| {
                let there = self
                    .node(&pod.node)
                    .and_then(|there| there.labels.get(&term.topology_key));
                there.is_some() && there == node.labels.get(&term.topology_key)
            })
        });
        if avoided || kept_out {
            return false;
        }
        let near = &constraints.near_required;
        if near.iter().any(|term| node.labels.get(&term.topology_key).is_none()) {
            return false;
        }
        let sought = |pod: &NaivePod| near.iter().all(|term| self.has(&term.group, &pod.workload));
        let met = near.iter().all(|term| self.share(&term.topology_key, node).any(sought));
        let anywhere = self.pods.iter().filter(|pod| sought(pod)).any(|pod| {
            let there = self.node(&pod.node);
            near.iter()
                .any(|term| there.is_some_and(|there| there.labels.get(&term.topology_key).is_some()))
        });
        met || (!anywhere && near.iter().all(|term| self.has(&term.group, workload)))
    }

    /// Weighted sums, in order of the nodes.
    pub(super) fn scores(&self, workload: &Workload, feasible: &[Arc<ObservedNode>]) -> Vec<i64> {
        let columns = [
            (2, self.spread_scores(workload, feasible)),
            (2, Self::affinity_scores(workload, feasible)),
            (2, self.neighbour_scores(workload, feasible)),
            (3, Self::taint_scores(workload, feasible)),
            (
                1,
                feasible
                    .iter()
                    .map(|node| self.least_allocated(workload, node))
                    .collect(),
            ),
            (1, feasible.iter().map(|node| self.balanced(workload, node)).collect()),
        ];
        let sum = |row: usize| columns.iter().map(|(weight, column)| weight * column[row]).sum();
        (0..feasible.len()).map(sum).collect()
    }

    fn spread_scores(&self, workload: &Workload, feasible: &[Arc<ObservedNode>]) -> Vec<i64> {
        let soft: Vec<&SpreadConstraint> = workload.constraints.spread.iter().filter(|c| !c.strict).collect();
        if soft.is_empty() {
            return vec![0; feasible.len()];
        }
        let complete = |node: &ObservedNode| soft.iter().all(|c| node.labels.get(&c.topology_key).is_some());
        let scored: Vec<&Arc<ObservedNode>> = feasible.iter().filter(|node| complete(node)).collect();
        let cost = |node: &ObservedNode| {
            let each = soft.iter().map(|constraint| {
                let domain = &**node.labels.get(&constraint.topology_key).unwrap();
                let domains: BTreeSet<&str> = scored
                    .iter()
                    .map(|n| &**n.labels.get(&constraint.topology_key).unwrap())
                    .collect();
                let hosts = constraint.topology_key == "kubernetes.io/hostname";
                let size = if hosts { scored.len() } else { domains.len() };
                let pods = if hosts {
                    self.counted_on(constraint, node)
                } else {
                    self.counts(workload, constraint).get(domain).copied().unwrap_or(0)
                };
                pods as f64 * ((size + 2) as f64).ln() + f64::from(constraint.max_skew - 1)
            });
            each.sum::<f64>().round() as i64
        };
        let costs: HashMap<&str, i64> = scored.iter().map(|node| (&*node.name, cost(node))).collect();
        let most = costs.values().copied().max().unwrap_or(0);
        let least = costs.values().copied().min().unwrap_or(0);
        let points = |node: &Arc<ObservedNode>| match costs.get(&*node.name) {
            None => 0,
            Some(_) if most == 0 => 100,
            Some(cost) => 100 * (most + least - cost) / most,
        };
        feasible.iter().map(points).collect()
    }

    fn affinity_scores(workload: &Workload, feasible: &[Arc<ObservedNode>]) -> Vec<i64> {
        let sum = |node: &ObservedNode| -> i64 {
            let preferred = workload.constraints.node_preferred.iter();
            preferred
                .filter(|(_, term)| failing_requirement(node, term).is_none())
                .map(|(weight, _)| weight)
                .sum()
        };
        let sums: Vec<i64> = feasible.iter().map(|node| sum(node)).collect();
        let most = sums.iter().copied().max().unwrap_or(0);
        sums.iter()
            .map(|sum| if most == 0 { 0 } else { 100 * sum / most })
            .collect()
    }

    fn neighbour_scores(&self, workload: &Workload, feasible: &[Arc<ObservedNode>]) -> Vec<i64> {
        let own = |node: &ObservedNode| -> i64 {
            let mut points = 0;
            for (role, term) in held(&workload.constraints) {
                if let Role::Prefers(weight) = role {
                    let near = self.share(&term.topology_key, node);
                    points += weight
                        * i64::try_from(near.filter(|pod| self.has(&term.group, &pod.workload)).count()).unwrap();
                }
            }
            points
        };
        let theirs = |node: &ObservedNode| -> i64 {
            let mut points = 0;
            for pod in &self.pods {
                for (role, term) in held(&pod.workload.constraints).filter(|(_, term)| self.has(&term.group, workload))
                {
                    let there = self
                        .node(&pod.node)
                        .and_then(|there| there.labels.get(&term.topology_key));
                    if there.is_some() && there == node.labels.get(&term.topology_key) {
                        points += match role {
                            Role::Prefers(weight) => weight,
                            Role::Seeks => 1,
                            Role::Repels => 0,
                        };
                    }
                }
            }
            points
        };
        let sums: Vec<i64> = feasible.iter().map(|node| own(node) + theirs(node)).collect();
        let (most, least) = (
            sums.iter().copied().max().unwrap_or(0),
            sums.iter().copied().min().unwrap_or(0),
        );
        let points = |sum: &i64| {
            if most == least {
                0
            } else {
                (100.0 * ((sum - least) as f64 / (most - least) as f64)) as i64
            }
        };
        sums.iter().map(points).collect()
    }

    fn taint_scores(workload: &Workload, feasible: &[Arc<ObservedNode>]) -> Vec<i64> {
        let soft = |node: &ObservedNode| {
            let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
            i64::try_from(soft.filter(|taint| !workload.constraints.tolerates(taint)).count()).unwrap()
        };
        let counts: Vec<i64> = feasible.iter().map(|node| soft(node)).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        counts
            .iter()
            .map(|count| if most == 0 { 100 } else { 100 - 100 * count / most })
            .collect()
    }

    fn least_allocated(&self, workload: &Workload, node: &ObservedNode) -> i64 {
        let (used, more) = (self.used(node), &workload.requests);
        let cpu = used.cpu_millis + used.assumed.cpu_millis + more.cpu_millis + more.assumed.cpu_millis;
        let memory = used.memory + used.assumed.memory + more.memory + more.assumed.memory;
        let (mut sum, mut count) = (0, 0);
        for (has, requested) in [(node.allocatable.cpu_millis, cpu), (node.allocatable.memory, memory)] {
            if has > 0 {
                sum += if requested > has {
                    0
                } else {
                    (has - requested) * 100 / has
                };
                count += 1;
            }
        }
        if count == 0 { 0 } else { sum / count }
    }

    fn balanced(&self, workload: &Workload, node: &ObservedNode) -> i64 {
        let (used, more, has) = (self.used(node), &workload.requests, &node.allocatable);
        if more.cpu_millis == 0 && more.memory == 0 {
            return 0;
        }
        let score = |cpu: i64, memory: i64| {
            let fractions: Vec<f64> = [(cpu, has.cpu_millis), (memory, has.memory)]
                .into_iter()
                .filter(|(_, has)| *has > 0)
                .map(|(requested, has)| (requested as f64 / has as f64).min(1.0))
                .collect();
            let deviation = match fractions.as_slice() {
                [cpu, memory] => ((cpu - memory) / 2.0).abs(),
                _ => 0.0,
            };
            ((1.0 - deviation) * 100.0) as i64
        };
        let with = score(used.cpu_millis + more.cpu_millis, used.memory + more.memory);
        50 + (50 + with - score(used.cpu_millis, used.memory)) / 2
    }
}
