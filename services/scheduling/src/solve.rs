//! The solver: where would these workloads go, and why not elsewhere?
//!
//! It follows the default scheduler of Kubernetes, one pod after the other: filter the nodes, score what is left, take
//! the best, the first by name among equals. It is pure: a snapshot and workloads in, assignments out.
//!
//! Post-conditions, held by the property tests below: no target is cordoned, not ready or too small; a strict
//! spread constraint is never broken by a placement; `solve` given its own answer returns it unchanged.

use crate::snapshot::{NodeOrd, Snapshot, Workload};

pub mod drain;
pub mod filter;
pub mod score;
pub mod spread;

use filter::{Predicate, Refusal};
use spread::SpreadState;

/// What became of one workload.
#[derive(Debug, Clone, PartialEq)]
pub enum Assignment {
    /// It goes to that node.
    Placed(NodeOrd),
    /// It fits nowhere; the first refusal of each node, in order of the nodes.
    Unplaced(Vec<(NodeOrd, Refusal)>),
}

impl Assignment {
    /// The node, if it was placed.
    pub fn node(&self) -> Option<NodeOrd> {
        match self {
            Self::Placed(node) => Some(*node),
            Self::Unplaced(_) => None,
        }
    }
}

/// Answer of the solver.
#[derive(Debug, Clone)]
pub struct Solution {
    /// What became of each workload, in their order.
    pub assignments: Vec<Assignment>,
    /// The snapshot with everything placed.
    pub after: Snapshot,
}

/// Places `workloads` in their order. Where `previous` names a node that still fits, the workload stays there.
pub fn solve(snapshot: &Snapshot, workloads: &[Workload], previous: &[Option<NodeOrd>]) -> Solution {
    let mut after = snapshot.clone();
    let mut assignments = Vec::with_capacity(workloads.len());
    let mut run: Option<(&Workload, SpreadState)> = None;
    for (index, workload) in workloads.iter().enumerate() {
        // Replicas are alike, and counting anew for each would be quadratic.
        let mut state = match run.take() {
            Some((same, state)) if same == workload => state,
            _ => SpreadState::count(&after, workload),
        };
        let kept = previous.get(index).copied().flatten();
        let assignment = solve_one(&after, workload, &state, kept);
        if let Some(node) = assignment.node() {
            after.place(workload.clone(), node);
            state.add(&after, workload, node);
        }
        assignments.push(assignment);
        run = Some((workload, state));
    }
    Solution { assignments, after }
}

fn solve_one(snapshot: &Snapshot, workload: &Workload, state: &SpreadState, kept: Option<NodeOrd>) -> Assignment {
    if let Some(node) = kept
        && filter::first_refusal(snapshot, workload, state, node).is_none()
    {
        return Assignment::Placed(node);
    }
    let mut feasible = Vec::new();
    let mut refusals = Vec::new();
    for (ord, _) in snapshot.nodes() {
        match filter::first_refusal(snapshot, workload, state, ord) {
            None => feasible.push(ord),
            Some(refusal) => refusals.push((ord, refusal)),
        }
    }
    let scores = score::score(snapshot, workload, state, &feasible);
    let best = feasible
        .iter()
        .zip(&scores)
        .max_by_key(|(ord, score)| (score.total(), std::cmp::Reverse(**ord)));
    match best {
        Some((node, _)) => Assignment::Placed(*node),
        None => Assignment::Unplaced(refusals),
    }
}

/// Refusals in one sentence, as `kubectl describe pod` would say it.
pub fn summarize(node_count: usize, refusals: &[(NodeOrd, Refusal)]) -> String {
    let mut counts: Vec<(Predicate, usize)> = Vec::new();
    for (_, refusal) in refusals {
        match counts.iter_mut().find(|(predicate, _)| *predicate == refusal.predicate) {
            Some((_, count)) => *count += 1,
            None => counts.push((refusal.predicate, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let parts: Vec<String> = counts
        .iter()
        .map(|(predicate, count)| format!("{count} {}", predicate.phrase()))
        .collect();
    format!("0 of {node_count} infra nodes fit: {}", parts.join(", "))
}

#[cfg(test)]
mod tests;
