//! Simulated drains: where the machines of a node would go if it went away now.

use crate::{
    snapshot::{NodeOrd, Snapshot, SnapshotPod, Workload},
    solve::{Assignment, solve},
};

/// What would become of one machine.
#[derive(Debug, Clone)]
pub struct Move {
    /// The machine's pod as it is now.
    pub pod: SnapshotPod,
    /// Where it would go.
    pub assignment: Assignment,
}

/// Answer of a simulated drain.
#[derive(Debug, Clone)]
pub struct DrainSolution {
    /// A move for each machine of the drained node, in order of the machines' names.
    pub moves: Vec<Move>,
    /// The infra cluster before the drain.
    pub before: Snapshot,
    /// The infra cluster after it.
    pub after: Snapshot,
}

/// Simulates the drain of `drained` while `away` are gone, too. Their machines are placed as well, but only those of
/// `drained` are reported.
pub fn solve_drain(before: &Snapshot, drained: NodeOrd, away: &[NodeOrd]) -> DrainSolution {
    let mut emptied = before.clone();
    let leaves = |ord: NodeOrd| ord == drained || away.contains(&ord);
    for (ord, _) in before.nodes().filter(|(ord, _)| leaves(*ord)) {
        emptied.cordon(ord);
    }
    let mut pods = emptied.remove_where(|pod| pod.machine.is_some() && pod.node.is_some_and(leaves));
    // The largest first: what is hard to place must not find the gaps filled by what is easy to place.
    pods.sort_by(|a, b| {
        let size = |pod: &SnapshotPod| (pod.workload.requests.memory, pod.workload.requests.cpu_millis);
        size(b).cmp(&size(a)).then_with(|| a.machine.cmp(&b.machine))
    });
    let workloads: Vec<Workload> = pods.iter().map(|pod| unpinned(pod.workload.clone())).collect();
    let solution = solve(&emptied, &workloads, &[]);
    let mut moves: Vec<Move> = pods
        .into_iter()
        .zip(solution.assignments)
        .filter(|(pod, _)| pod.node == Some(drained))
        .map(|(pod, assignment)| Move { pod, assignment })
        .collect();
    moves.sort_by(|a, b| a.pod.machine.cmp(&b.pod.machine));
    DrainSolution {
        moves,
        before: before.clone(),
        after: solution.after,
    }
}

/// A launcher that migrated carries affinity terms for that one migration; a new one would not have them.
fn unpinned(mut workload: Workload) -> Workload {
    workload
        .constraints
        .anti_required
        .retain(|term| !is_migration_term(term));
    workload
}

fn is_migration_term(term: &crate::domain::placement::AntiTerm) -> bool {
    use kube::core::Expression;
    let selected_by = term.selector.clone().into_iter();
    selected_by.into_iter().any(|expression| match expression {
        Expression::In(key, _)
        | Expression::NotIn(key, _)
        | Expression::Equal(key, _)
        | Expression::NotEqual(key, _)
        | Expression::Exists(key)
        | Expression::DoesNotExist(key) => key == steading_infra::labels::KUBEVIRT_CREATED_BY,
    })
}
