//! Simulated drains: where the machines of a node would go if it went away now.

use std::{collections::HashSet, sync::Arc};

use steading_infra::labels;

use crate::{
    domain::{Constraints, constraints::Term, selector::Selector},
    observe::{ObservedPod, PodKey, Workload},
    solve::{
        filter::Audience,
        overlay::Overlay,
        place::{Assignment, solve},
        problem::{Problem, Wanted},
    },
};

/// What would become of one machine.
#[derive(Debug, Clone)]
pub struct Move {
    /// The machine's pod as it is now.
    pub pod: Arc<ObservedPod>,
    /// Where it would go.
    pub assignment: Assignment,
}

/// A drain to be simulated: taken out of the index.
#[derive(Debug, Clone)]
pub struct DrainProblem {
    drained: Arc<str>,
    away: HashSet<Arc<str>>,
    pods: Vec<Arc<ObservedPod>>,
    problem: Problem,
}

/// Answer of a simulated drain.
#[derive(Debug, Clone)]
pub struct DrainSolution {
    /// A move for each machine of the drained node, in order of the machines' names.
    pub moves: Vec<Move>,
    /// The other infra nodes, without the machines that leave.
    pub problem: Problem,
    /// What would be placed on them.
    pub overlay: Overlay,
    /// The nodes that are away.
    pub away: HashSet<Arc<str>>,
}

impl DrainProblem {
    /// The drain of `drained` while all of `away` are gone; `pods` are their machines, and `problem` is to place those in
    /// their order.
    pub fn new(drained: Arc<str>, away: HashSet<Arc<str>>, pods: Vec<Arc<ObservedPod>>, problem: Problem) -> Self {
        Self {
            drained,
            away,
            pods,
            problem,
        }
    }

    /// Simulates it. The machines of all nodes that are away are placed, but only those of the drained one are reported.
    pub fn solve(self) -> DrainSolution {
        let demand: Vec<usize> = (0..self.pods.len()).collect();
        let solution = solve(&self.problem, &demand, &[], Audience::Operator);
        let mut moves: Vec<Move> = self
            .pods
            .into_iter()
            .zip(solution.assignments)
            .filter(|(pod, _)| pod.node == self.drained)
            .map(|(pod, assignment)| Move { pod, assignment })
            .collect();
        moves.sort_by(|a, b| a.pod.machine.cmp(&b.pod.machine));
        DrainSolution {
            moves,
            problem: self.problem,
            overlay: solution.overlay,
            away: self.away,
        }
    }
}

/// Orders machines for placement: the largest first, as what is hard to place must not find the gaps filled by what is easy
/// to place.
pub fn order(pods: &mut [Arc<ObservedPod>]) {
    pods.sort_by(|a, b| {
        let size = |pod: &ObservedPod| (pod.requests.memory, pod.requests.cpu_millis);
        size(b).cmp(&size(a)).then_with(|| a.machine.cmp(&b.machine))
    });
}

/// A machine's pod as something to be placed elsewhere.
pub fn wanted(pod: &ObservedPod) -> Wanted {
    let claim = |name: &Arc<str>| PodKey {
        namespace: pod.key.namespace.clone(),
        name: name.clone(),
    };
    Wanted {
        workload: Arc::new(Workload {
            constraints: unpinned(&pod.constraints),
            ..pod.workload()
        }),
        claims: pod.claims.iter().map(claim).collect(),
    }
}

/// A launcher that migrated carries affinity terms for that one migration; a new one would not have them.
fn unpinned(constraints: &Arc<Constraints>) -> Arc<Constraints> {
    if !constraints.anti_required.iter().any(is_migration_term) {
        return constraints.clone();
    }
    let mut constraints = Constraints::clone(constraints);
    constraints.anti_required.retain(|term| !is_migration_term(term));
    Arc::new(constraints)
}

fn is_migration_term(term: &Term) -> bool {
    match &term.group.selector {
        Selector::Nothing => false,
        Selector::All(all) => all
            .iter()
            .any(|requirement| requirement.key == labels::KUBEVIRT_CREATED_BY),
    }
}
