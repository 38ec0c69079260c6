//! Scoring: which of the nodes that fit is the best. Each judge gives 0 to 100, weighted as Kubernetes does by default.

use kube::core::SelectorExt;

use crate::{
    snapshot::{NodeOrd, Snapshot, SnapshotNode, Workload},
    solve::{
        filter::{failing_requirement, tolerates},
        spread::SpreadState,
    },
};

/// Best score of one judge before weighting.
const FULL: i64 = 100;

/// A judge of nodes with its weight.
struct Judge {
    name: &'static str,
    weight: i64,
    score: fn(&Snapshot, &Workload, &SpreadState, &[&SnapshotNode]) -> Vec<i64>,
}

/// Weights of the default profile of kube-scheduler.
const JUDGES: [Judge; 6] = [
    Judge {
        name: "spread",
        weight: 2,
        score: spread,
    },
    Judge {
        name: "node-affinity",
        weight: 2,
        score: affinity,
    },
    Judge {
        name: "anti-affinity",
        weight: 2,
        score: anti_affinity,
    },
    Judge {
        name: "taints",
        weight: 3,
        score: taints,
    },
    Judge {
        name: "least-allocated",
        weight: 1,
        score: least_allocated,
    },
    Judge {
        name: "balanced-resources",
        weight: 1,
        score: balanced,
    },
];

/// Score of one node: a part by each judge, already weighted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// Name of the judge and points.
    pub terms: Vec<(&'static str, i64)>,
}

impl Score {
    /// Sum of the points.
    pub fn total(&self) -> i64 {
        self.terms.iter().map(|(_, points)| points).sum()
    }
}

/// Scores the nodes, in their order.
pub fn score(snapshot: &Snapshot, workload: &Workload, state: &SpreadState, nodes: &[NodeOrd]) -> Vec<Score> {
    let candidates: Vec<&SnapshotNode> = nodes.iter().filter_map(|ord| snapshot.node(*ord)).collect();
    let mut scores = vec![Score::default(); candidates.len()];
    for judge in &JUDGES {
        let points = (judge.score)(snapshot, workload, state, &candidates);
        for (score, points) in scores.iter_mut().zip(points) {
            score.terms.push((judge.name, points * judge.weight));
        }
    }
    scores
}

/// Fewer matching pods in the domain are better.
fn spread(_: &Snapshot, _: &Workload, state: &SpreadState, nodes: &[&SnapshotNode]) -> Vec<i64> {
    let loose: Vec<_> = state.tables().iter().filter(|t| !t.constraint.strict).collect();
    if loose.is_empty() {
        return vec![0; nodes.len()];
    }
    let cost = |node: &SnapshotNode| -> Option<i64> {
        loose.iter().try_fold(0, |sum, table| {
            let domain = node.labels.get(table.key())?;
            let count = table.counts.get(domain).copied().unwrap_or_default();
            // Few large domains fill faster than many small ones; weigh by the number of domains.
            let domains = i64::try_from(table.counts.len()).unwrap_or(i64::MAX).max(1);
            Some(sum + count * FULL * i64::from(domains.ilog2().max(1)))
        })
    };
    let costs: Vec<Option<i64>> = nodes.iter().map(|node| cost(node)).collect();
    let worst = costs.iter().flatten().max().copied().unwrap_or_default();
    let best = costs.iter().flatten().min().copied().unwrap_or_default();
    // A node without the key is the last resort.
    costs
        .into_iter()
        .map(|cost| {
            cost.map_or(0, |cost| {
                if worst == best {
                    FULL
                } else {
                    FULL * (worst - cost) / (worst - best)
                }
            })
        })
        .collect()
}

fn affinity(_: &Snapshot, workload: &Workload, _: &SpreadState, nodes: &[&SnapshotNode]) -> Vec<i64> {
    let preferred = workload
        .constraints
        .node_affinity
        .as_ref()
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default();
    let points = |node: &SnapshotNode| {
        let matching = preferred
            .iter()
            .filter(|term| failing_requirement(node, &term.preference).is_none());
        matching.map(|term| i64::from(term.weight)).sum()
    };
    upwards(nodes.iter().map(|node| points(node)).collect())
}

fn anti_affinity(snapshot: &Snapshot, workload: &Workload, _: &SpreadState, nodes: &[&SnapshotNode]) -> Vec<i64> {
    let terms = &workload.constraints.anti_preferred;
    let cost = |node: &SnapshotNode| -> i64 {
        terms
            .iter()
            .filter_map(|(weight, term)| Some((weight, term, node.labels.get(&term.topology_key)?)))
            .map(|(weight, term, domain)| {
                let near = snapshot.pods().iter().filter(|pod| {
                    let there = pod.node.and_then(|ord| snapshot.node(ord));
                    term.looks_into(&workload.namespace, &pod.workload.namespace)
                        && there.is_some_and(|n| n.labels.get(&term.topology_key) == Some(domain))
                        && term.selector.matches(&pod.workload.labels)
                });
                weight * i64::try_from(near.count()).unwrap_or(i64::MAX)
            })
            .sum()
    };
    if terms.is_empty() {
        vec![0; nodes.len()]
    } else {
        downwards(nodes.iter().map(|node| cost(node)).collect())
    }
}

fn taints(_: &Snapshot, workload: &Workload, _: &SpreadState, nodes: &[&SnapshotNode]) -> Vec<i64> {
    let untolerated = |node: &SnapshotNode| {
        let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        let count = soft
            .filter(|taint| !workload.constraints.tolerations.iter().any(|t| tolerates(t, taint)))
            .count();
        i64::try_from(count).unwrap_or(i64::MAX)
    };
    downwards(nodes.iter().map(|node| untolerated(node)).collect())
}

fn least_allocated(_: &Snapshot, workload: &Workload, _: &SpreadState, nodes: &[&SnapshotNode]) -> Vec<i64> {
    let points = |node: &&SnapshotNode| {
        let (cpu, memory) = fractions(node, workload);
        FULL - i64::midpoint(cpu, memory)
    };
    nodes.iter().map(points).collect()
}

fn balanced(_: &Snapshot, workload: &Workload, _: &SpreadState, nodes: &[&SnapshotNode]) -> Vec<i64> {
    let points = |node: &&SnapshotNode| {
        let (cpu, memory) = fractions(node, workload);
        FULL - (cpu - memory).abs()
    };
    nodes.iter().map(points).collect()
}

/// Percent of processors and memory that would be requested with the workload on the node.
fn fractions(node: &SnapshotNode, workload: &Workload) -> (i64, i64) {
    let percent = |used: i64, more: i64, all: i64| {
        let used = i128::from(used) + i128::from(more);
        i64::try_from((used * i128::from(FULL) / i128::from(all.max(1))).clamp(0, i128::from(FULL))).unwrap_or(FULL)
    };
    (
        percent(
            node.allocated.cpu_millis,
            workload.requests.cpu_millis,
            node.allocatable.cpu_millis,
        ),
        percent(node.allocated.memory, workload.requests.memory, node.allocatable.memory),
    )
}

/// More is better: the best gets the full score.
fn upwards(points: Vec<i64>) -> Vec<i64> {
    let best = points.iter().max().copied().unwrap_or_default();
    points
        .into_iter()
        .map(|p| if best <= 0 { 0 } else { FULL * p / best })
        .collect()
}

/// Less is better: nothing gets the full score.
fn downwards(points: Vec<i64>) -> Vec<i64> {
    let worst = points.iter().max().copied().unwrap_or_default();
    points
        .into_iter()
        .map(|p| if worst <= 0 { FULL } else { FULL - FULL * p / worst })
        .collect()
}
