//! Explanations: what the solver did, said to people. Answers are messages already, as nobody else reads them.

use steading_api::scheduling::v1::{self as proto, predicate_verdict};

use crate::{
    api::convert::{infra_node::resources, placement},
    snapshot::{NodeOrd, Snapshot, Workload},
    solve::{
        Assignment, drain::DrainSolution, filter, filter::Predicate, score, solve, spread::SpreadState, summarize,
    },
};

/// Where replicas would go and why.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The answer without the placement, which the caller knows.
    pub response: proto::ExplainPlacementResponse,
}

/// Explains the placement of `replicas` copies of a workload.
pub fn explain(snapshot: &Snapshot, workload: &Workload, replicas: usize) -> Explanation {
    let before = SpreadState::count(snapshot, workload);
    let solution = solve(snapshot, &vec![workload.clone(); replicas], &[]);
    let after = SpreadState::count(&solution.after, workload);
    let placed_on = |ord: NodeOrd| solution.assignments.iter().filter(|a| a.node() == Some(ord)).count();
    let feasible: Vec<NodeOrd> = snapshot
        .nodes()
        .map(|(ord, _)| ord)
        .filter(|ord| filter::first_refusal(snapshot, workload, &before, *ord).is_none())
        .collect();
    let scores = score::score(snapshot, workload, &before, &feasible);
    let nodes = snapshot.nodes().map(|(ord, node)| {
        let predicates = Predicate::ALL.into_iter().map(|predicate| {
            let verdict = filter::judge(snapshot, workload, &before, ord, predicate);
            proto::PredicateVerdict {
                predicate: predicate_of(predicate).into(),
                holds: verdict.is_ok(),
                message: verdict.err().unwrap_or_default(),
            }
        });
        let score = feasible
            .iter()
            .position(|f| *f == ord)
            .and_then(|index| scores.get(index));
        proto::NodeVerdict {
            infra_node: format!("infraNodes/{}", node.name),
            zone: node.zone().to_owned(),
            feasible: score.is_some(),
            predicates: predicates.collect(),
            score: score.map(score::Score::total).unwrap_or_default(),
            score_terms: score
                .into_iter()
                .flat_map(|s| &s.terms)
                .map(|(name, score)| proto::ScoreTerm {
                    name: (*name).to_owned(),
                    score: *score,
                })
                .collect(),
            placed_count: count(placed_on(ord)),
        }
    });
    let placed = solution.assignments.iter().filter(|a| a.node().is_some()).count();
    let response = proto::ExplainPlacementResponse {
        placement: None,
        replicas: solution
            .assignments
            .iter()
            .enumerate()
            .map(|(i, a)| replica(snapshot, i, a))
            .collect(),
        placed_count: count(placed),
        unplaced_count: count(replicas - placed),
        nodes: nodes.collect(),
        skews: skews(&before, &after),
    };
    Explanation { response }
}

fn replica(snapshot: &Snapshot, ordinal: usize, assignment: &Assignment) -> proto::ReplicaVerdict {
    let (infra_node, zone, reason) = match assignment {
        Assignment::Placed(ord) => {
            let node = snapshot.node(*ord);
            let name = node.map(|n| format!("infraNodes/{}", n.name)).unwrap_or_default();
            (name, node.map_or("", |n| n.zone()).to_owned(), String::new())
        }
        Assignment::Unplaced(refusals) => (String::new(), String::new(), summarize(snapshot.node_count(), refusals)),
    };
    proto::ReplicaVerdict {
        ordinal: count(ordinal),
        infra_node,
        zone,
        reason,
    }
}

fn skews(before: &SpreadState, after: &SpreadState) -> Vec<proto::SkewTable> {
    let number = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
    let table = |(before, after): (&crate::solve::spread::SpreadTable, &crate::solve::spread::SpreadTable)| {
        let domains = before.counts.iter().map(|(value, old)| proto::SkewDomain {
            value: value.clone(),
            count_before: number(*old),
            count_after: number(after.counts.get(value).copied().unwrap_or_default()),
            node_count: number(before.nodes.get(value).copied().unwrap_or_default()),
        });
        proto::SkewTable {
            constraint: Some(placement::spread(&before.constraint.source)),
            domains: domains.collect(),
            skew_before: number(before.skew()),
            skew_after: number(after.skew()),
            satisfied: after.skew() <= i64::from(after.constraint.source.max_skew),
        }
    };
    before.tables().iter().zip(after.tables()).map(table).collect()
}

/// A simulated drain; `migratable` says whether KubeVirt can migrate a machine, by namespace and name of its VMI.
pub fn drain(
    node: &str,
    solution: &DrainSolution,
    drained: &[NodeOrd],
    migratable: impl Fn(&str, &str) -> bool,
) -> proto::SimulateDrainResponse {
    let before = &solution.before;
    let name_of = |ord: NodeOrd| {
        before
            .node(ord)
            .map(|n| format!("infraNodes/{}", n.name))
            .unwrap_or_default()
    };
    let mut moves = Vec::new();
    for step in &solution.moves {
        let Some(machine) = &step.pod.machine else { continue };
        let (reason, refusals) = match &step.assignment {
            Assignment::Placed(_) => (String::new(), Vec::new()),
            Assignment::Unplaced(refusals) => {
                let each = refusals.iter().map(|(ord, refusal)| proto::NodeRefusal {
                    infra_node: name_of(*ord),
                    predicate: predicate_of(refusal.predicate).into(),
                    message: refusal.message.clone(),
                });
                (summarize(before.node_count(), refusals), each.collect())
            }
        };
        moves.push(proto::MachineMove {
            machine: machine.name.to_string(),
            cluster: machine.name.cluster.to_string(),
            pool: machine.pool.clone(),
            source: step.pod.node.map(name_of).unwrap_or_default(),
            target: step.assignment.node().map(name_of).unwrap_or_default(),
            live_migratable: migratable(&step.pod.workload.namespace, &machine.name.object_name()),
            reason,
            refusals,
        });
    }
    let placeable = moves.iter().filter(|m| !m.target.is_empty()).count();
    let loads = before
        .nodes()
        .zip(solution.after.nodes())
        .filter(|((ord, _), _)| !drained.contains(ord));
    let placed = |ord: NodeOrd| {
        solution
            .moves
            .iter()
            .filter(|m| m.assignment.node() == Some(ord))
            .count()
    };
    proto::SimulateDrainResponse {
        infra_node: format!("infraNodes/{node}"),
        placeable_count: count(placeable),
        blocked_count: count(moves.len() - placeable),
        moves,
        nodes: loads
            .map(|((ord, old), (_, new))| proto::NodeLoad {
                infra_node: format!("infraNodes/{}", old.name),
                zone: old.zone().to_owned(),
                allocatable: Some(resources(&old.allocatable)),
                allocated_before: Some(resources(&old.allocated)),
                allocated_after: Some(resources(&new.allocated)),
                machine_count_before: count(before.machines_on(ord).count()),
                machine_count_after: count(before.machines_on(ord).count() + placed(ord)),
            })
            .collect(),
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
        Predicate::PodAntiAffinity => predicate_verdict::Predicate::PodAntiAffinity,
        Predicate::TopologySpread => predicate_verdict::Predicate::TopologySpread,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
