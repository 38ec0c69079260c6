//! Explanations: what the solver did, said to people. Answers are messages already, as nobody else reads them.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use steading_api::scheduling::v1::{self as proto, predicate_verdict};

use super::convert::{infra_node::resources, placement};
use crate::solve::{
    Assignment,
    drain::DrainSolution,
    filter::{Audience, Predicate},
    overlay::Overlay,
    problem::{NodeOrd, Problem},
    score::Score,
    solve,
    spread::SpreadTable,
    standing::Standing,
    summarize,
};

/// Explains the placement of `replicas` copies of the problem's first workload. `spread` are its spread constraints as they
/// were written, in their order.
pub fn explain(
    problem: &Problem,
    replicas: usize,
    spread: &[TopologySpreadConstraint],
    audience: Audience<'_>,
) -> proto::ExplainPlacementResponse {
    let untouched = Overlay::default();
    let solution = solve(problem, &vec![0; replicas], &[], audience);
    let (Some(before), Some(after)) = (
        Standing::new(problem, 0, &untouched),
        Standing::new(problem, 0, &solution.overlay),
    ) else {
        return proto::ExplainPlacementResponse::default();
    };
    let mut placed = vec![0_usize; problem.node_count()];
    for (_, ord) in solution.overlay.placed() {
        if let Some(count) = placed.get_mut(ord.0) {
            *count += 1;
        }
    }
    let feasible = before.feasible();
    let mut scores = feasible.iter().zip(before.score(&feasible)).peekable();
    let nodes = problem.nodes().map(|(ord, _)| {
        let score = scores
            .next_if(|(feasible, _)| **feasible == ord)
            .map(|(_, score)| score);
        let placed = placed.get(ord.0).copied().unwrap_or_default();
        verdict(problem, &before, ord, score, placed, audience)
    });
    let nodes = nodes.collect();
    let placed = solution.overlay.placed().len();
    let mut replicas = Vec::with_capacity(solution.assignments.len());
    let mut reason: Option<(&Assignment, String)> = None;
    for (ordinal, assignment) in solution.assignments.iter().enumerate() {
        replicas.push(replica(problem, ordinal, assignment, &mut reason));
    }
    proto::ExplainPlacementResponse {
        placed_count: count(placed),
        unplaced_count: count(replicas.len() - placed),
        replicas,
        nodes,
        skews: spread
            .iter()
            .zip(before.spread.tables().iter().zip(after.spread.tables()))
            .map(|(source, (before, after))| skew(source, before, after))
            .collect(),
        ..proto::ExplainPlacementResponse::default()
    }
}

fn verdict(
    problem: &Problem,
    standing: &Standing<'_>,
    ord: NodeOrd,
    score: Option<Score>,
    placed: usize,
    audience: Audience<'_>,
) -> proto::NodeVerdict {
    let untouched = Overlay::default();
    let predicates = Predicate::ALL.into_iter().map(|predicate| {
        let verdict = standing.judge(&untouched, ord, predicate, audience);
        proto::PredicateVerdict {
            predicate: predicate_of(predicate).into(),
            holds: verdict.is_ok(),
            message: verdict.err().unwrap_or_default(),
        }
    });
    proto::NodeVerdict {
        infra_node: name_of(problem, ord),
        zone: zone_of(problem, ord),
        feasible: score.is_some(),
        predicates: predicates.collect(),
        score: score.map(|score| score.total()).unwrap_or_default(),
        score_terms: score
            .iter()
            .flat_map(Score::terms)
            .map(|(name, score)| proto::ScoreTerm {
                name: name.to_owned(),
                score,
            })
            .collect(),
        placed_count: count(placed),
    }
}

fn name_of(problem: &Problem, ord: NodeOrd) -> String {
    problem
        .node(ord)
        .map(|view| format!("infraNodes/{}", view.node.name))
        .unwrap_or_default()
}

fn zone_of(problem: &Problem, ord: NodeOrd) -> String {
    problem.node(ord).map_or("", |view| view.node.zone()).to_owned()
}

/// `said` is the last reason with its assignment: replicas that fail alike share their refusals, and their reason.
fn replica<'a>(
    problem: &Problem,
    ordinal: usize,
    assignment: &'a Assignment,
    said: &mut Option<(&'a Assignment, String)>,
) -> proto::ReplicaVerdict {
    let ordinal = count(ordinal);
    match assignment {
        Assignment::Placed(ord) => proto::ReplicaVerdict {
            ordinal,
            infra_node: name_of(problem, *ord),
            zone: zone_of(problem, *ord),
            reason: String::new(),
        },
        Assignment::Unplaced(refusals) => {
            let same =
                |other: &Assignment| matches!(other, Assignment::Unplaced(r) if std::sync::Arc::ptr_eq(r, refusals));
            let reason = match said {
                Some((other, reason)) if same(other) => reason.clone(),
                _ => summarize(problem.node_count(), refusals),
            };
            *said = Some((assignment, reason.clone()));
            proto::ReplicaVerdict {
                ordinal,
                reason,
                ..proto::ReplicaVerdict::default()
            }
        }
    }
}

fn skew(source: &TopologySpreadConstraint, before: &SpreadTable, after: &SpreadTable) -> proto::SkewTable {
    let number = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
    let domains = before
        .rows()
        .into_iter()
        .zip(after.rows())
        .map(|((value, old, nodes), (_, new, _))| proto::SkewDomain {
            value: value.to_owned(),
            count_before: number(old),
            count_after: number(new),
            node_count: number(nodes),
        });
    proto::SkewTable {
        constraint: Some(placement::spread(source)),
        domains: domains.collect(),
        skew_before: number(before.skew()),
        skew_after: number(after.skew()),
        satisfied: after.satisfied(),
    }
}

/// A simulated drain; `migratable` says whether KubeVirt can migrate a machine, by namespace and name of its VMI.
pub fn drain(
    node: &str,
    solution: &DrainSolution,
    migratable: impl Fn(&str, &str) -> bool,
) -> proto::SimulateDrainResponse {
    let problem = &solution.problem;
    let mut moves = Vec::new();
    for step in &solution.moves {
        let Some(machine) = &step.pod.machine else { continue };
        let (reason, refusals) = match &step.assignment {
            Assignment::Placed(_) => (String::new(), Vec::new()),
            Assignment::Unplaced(refusals) => {
                let each = refusals.iter().map(|(ord, refusal)| proto::NodeRefusal {
                    infra_node: name_of(problem, *ord),
                    predicate: predicate_of(refusal.predicate).into(),
                    message: refusal.message.clone(),
                });
                (summarize(problem.node_count(), refusals), each.collect())
            }
        };
        moves.push(proto::MachineMove {
            machine: machine.name.to_string(),
            cluster: machine.name.cluster.to_string(),
            pool: machine.pool.clone(),
            source: format!("infraNodes/{}", step.pod.node),
            target: step
                .assignment
                .node()
                .map(|ord| name_of(problem, ord))
                .unwrap_or_default(),
            live_migratable: migratable(&step.pod.key.namespace, &machine.name.object_name()),
            reason,
            refusals,
        });
    }
    let placeable = moves.iter().filter(|m| !m.target.is_empty()).count();
    let remaining = problem
        .nodes()
        .filter(|(_, view)| !solution.away.contains(&view.node.name));
    let placed = |ord: NodeOrd| {
        solution
            .moves
            .iter()
            .filter(|m| m.assignment.node() == Some(ord))
            .count()
    };
    let nodes = remaining.map(|(ord, view)| {
        let after = solution.overlay.allocated(problem, ord).unwrap_or(&view.allocated);
        proto::NodeLoad {
            infra_node: format!("infraNodes/{}", view.node.name),
            zone: view.node.zone().to_owned(),
            allocatable: Some(resources(&view.node.allocatable)),
            allocated_before: Some(resources(&view.allocated)),
            allocated_after: Some(resources(after)),
            machine_count_before: count(view.machines),
            machine_count_after: count(view.machines + placed(ord)),
        }
    });
    proto::SimulateDrainResponse {
        infra_node: format!("infraNodes/{node}"),
        placeable_count: count(placeable),
        blocked_count: count(moves.len() - placeable),
        nodes: nodes.collect(),
        moves,
        ..proto::SimulateDrainResponse::default()
    }
}

fn predicate_of(predicate: Predicate) -> predicate_verdict::Predicate {
    match predicate {
        Predicate::Ready => predicate_verdict::Predicate::Ready,
        Predicate::NotCordoned => predicate_verdict::Predicate::NotCordoned,
        Predicate::Virtualization => predicate_verdict::Predicate::Virtualization,
        Predicate::Taints => predicate_verdict::Predicate::Taints,
        Predicate::NodeSelector => predicate_verdict::Predicate::NodeSelector,
        Predicate::NodeAffinity => predicate_verdict::Predicate::NodeAffinity,
        Predicate::Resources => predicate_verdict::Predicate::Resources,
        Predicate::Volumes => predicate_verdict::Predicate::Volumes,
        Predicate::TopologySpread => predicate_verdict::Predicate::TopologySpread,
        Predicate::PodAffinity => predicate_verdict::Predicate::PodAffinity,
        Predicate::PodAntiAffinity => predicate_verdict::Predicate::PodAntiAffinity,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
