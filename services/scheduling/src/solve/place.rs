//! Placing workloads one after the other.

use crate::solve::{
    filter::{Audience, Predicate, Refusal, Refusals},
    overlay::Overlay,
    problem::{NodeOrd, Problem},
    standing::Standing,
};

/// What became of one workload.
#[derive(Debug, Clone, PartialEq)]
pub enum Assignment {
    /// It goes to that node.
    Placed(NodeOrd),
    /// It fits nowhere; the first refusal of each node. Replicas that fail alike share one list.
    Unplaced(Refusals),
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
    /// Everything that was placed.
    pub overlay: Overlay,
}

/// Places workloads in their order, each named by its kind. Where `previous` names a node that still fits, the workload
/// stays there.
pub fn solve(problem: &Problem, demand: &[usize], previous: &[Option<NodeOrd>], audience: Audience<'_>) -> Solution {
    let mut overlay = Overlay::default();
    let mut assignments: Vec<Assignment> = Vec::with_capacity(demand.len());
    let mut run: Option<(usize, Standing<'_>)> = None;
    let mut failed: Option<(usize, Refusals)> = None;
    for (index, class) in demand.iter().copied().enumerate() {
        // Nothing has been placed since the same kind failed.
        if let Some((_, refusals)) = failed.as_ref().filter(|(same, _)| *same == class) {
            assignments.push(Assignment::Unplaced(refusals.clone()));
            continue;
        }
        let standing = match run.take() {
            Some((same, standing)) if same == class => Some(standing),
            _ => Standing::new(problem, class, &overlay),
        };
        let Some(mut standing) = standing else {
            assignments.push(Assignment::Unplaced(Refusals::default()));
            continue;
        };
        let kept = previous
            .get(index)
            .copied()
            .flatten()
            .filter(|ord| standing.allows(*ord));
        if let Some(ord) = kept.or_else(|| standing.best()) {
            overlay.place(problem, class, ord);
            standing.follow(&overlay, class, ord);
            assignments.push(Assignment::Placed(ord));
            failed = None;
        } else {
            let refusals = standing.refusals(&overlay, audience);
            failed = Some((class, refusals.clone()));
            assignments.push(Assignment::Unplaced(refusals));
        }
        run = Some((class, standing));
    }
    Solution { assignments, overlay }
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
