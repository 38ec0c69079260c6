//! Examples and properties of the solver.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::TopologySpreadConstraint, apimachinery::pkg::apis::meta::v1::LabelSelector};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{Amounts, Placement, placement::Constraints},
    snapshot::tests::{mk_machine, mk_node, mk_snapshot},
    solve::drain::solve_drain,
};

fn mk_workload(millis: i64, spread: &[(&str, i32, &str)]) -> Workload {
    let labels = BTreeMap::from([("steading.dev/pool".to_owned(), "workers".to_owned())]);
    let placement = Placement {
        topology_spread_constraints: spread
            .iter()
            .map(|(key, max_skew, unsatisfiable)| TopologySpreadConstraint {
                topology_key: (*key).into(),
                max_skew: *max_skew,
                when_unsatisfiable: (*unsatisfiable).into(),
                label_selector: Some(LabelSelector {
                    match_labels: Some(labels.clone()),
                    match_expressions: None,
                }),
                ..TopologySpreadConstraint::default()
            })
            .collect(),
        ..Placement::default()
    };
    Workload {
        namespace: "acme--web".into(),
        constraints: Constraints::compile(&placement, &labels).expect("valid selectors"),
        labels,
        requests: Amounts {
            cpu_millis: millis,
            memory: 1 << 30,
            pods: 1,
            ..Amounts::default()
        },
    }
}

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn three_nodes() -> Vec<Value> {
    vec![
        mk_node("a", "z1", "8"),
        mk_node("b", "z2", "8"),
        mk_node("c", "z3", "8"),
    ]
}

fn per_node(solution: &Solution) -> Vec<usize> {
    solution
        .after
        .nodes()
        .map(|(ord, _)| solution.assignments.iter().filter(|a| a.node() == Some(ord)).count())
        .collect()
}

#[test]
fn six_replicas_over_three_nodes_are_two_on_each() {
    let snapshot = mk_snapshot(three_nodes(), vec![]);
    let workload = mk_workload(500, &[(HOST, 1, "ScheduleAnyway")]);
    assert_eq!(per_node(&solve(&snapshot, &vec![workload; 6], &[])), [2, 2, 2]);
}

#[test]
fn existing_machines_of_the_pool_count_for_the_spread() {
    let snapshot = mk_snapshot(
        three_nodes(),
        vec![mk_machine("m1", "a", "1"), mk_machine("m2", "a", "1")],
    );
    let workload = mk_workload(500, &[(HOST, 1, "ScheduleAnyway")]);
    assert_eq!(per_node(&solve(&snapshot, &vec![workload; 4], &[])), [0, 2, 2]);
}

#[test]
fn a_loose_constraint_gives_way_and_a_strict_one_does_not() {
    let mut nodes = three_nodes();
    nodes[2]["spec"] = json!({"unschedulable": true});
    let snapshot = mk_snapshot(nodes, vec![]);
    let loose = solve(
        &snapshot,
        &vec![mk_workload(100, &[(HOST, 1, "ScheduleAnyway")]); 4],
        &[],
    );
    assert_eq!(per_node(&loose), [2, 2, 0]);
    // Kubernetes counts a cordoned node as a domain unless nodeTaintsPolicy says otherwise.
    let strict = solve(
        &snapshot,
        &vec![mk_workload(100, &[(HOST, 1, "DoNotSchedule")]); 4],
        &[],
    );
    assert_eq!(per_node(&strict), [1, 1, 0]);
    let Assignment::Unplaced(refusals) = &strict.assignments[3] else {
        panic!("must not be placed")
    };
    assert_eq!(
        summarize(3, refusals),
        "0 of 3 infra nodes fit: 2 exceeding the spread constraints, 1 cordoned"
    );
}

#[test]
fn a_full_cluster_says_what_is_missing() {
    let snapshot = mk_snapshot(vec![mk_node("a", "z", "1")], vec![]);
    let solution = solve(&snapshot, &[mk_workload(1500, &[])], &[]);
    let Assignment::Unplaced(refusals) = &solution.assignments[0] else {
        panic!("must not be placed")
    };
    assert_eq!(refusals[0].1.message, "cpu: 1500m wanted, 1000m left");
}

#[test]
fn a_drain_moves_machines_elsewhere_and_reports_those_that_fit_nowhere() {
    let snapshot = mk_snapshot(
        vec![mk_node("a", "z1", "8"), mk_node("b", "z2", "3")],
        vec![
            mk_machine("m1", "a", "2"),
            mk_machine("m2", "a", "2"),
            mk_machine("m3", "b", "500m"),
        ],
    );
    let a = snapshot.find("a").expect("node a");
    let solution = solve_drain(&snapshot, a, &[]);
    let targets: Vec<_> = solution.moves.iter().map(|m| m.assignment.node().is_some()).collect();
    assert_eq!(targets, [true, false], "one fits beside m3, the other does not");
    let alone = solve_drain(&snapshot, a, &[snapshot.find("b").expect("node b")]);
    assert!(alone.moves.iter().all(|m| m.assignment.node().is_none()));
}

#[test]
fn required_anti_affinity_binds_both_ways() {
    let term = json!({"topologyKey": ZONE, "labelSelector": {"matchLabels": {"steading.dev/pool": "workers"}}});
    let mut loner = mk_machine("m1", "a", "1");
    loner["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let snapshot = mk_snapshot(
        vec![
            mk_node("a", "z1", "8"),
            mk_node("b", "z1", "8"),
            mk_node("c", "z2", "8"),
        ],
        vec![loner],
    );
    let solution = solve(&snapshot, &[mk_workload(100, &[])], &[]);
    assert_eq!(solution.assignments[0].node(), snapshot.find("c"));
}

#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<(u8, u8, bool, bool)>,
    pods: Vec<(usize, u16)>,
    replicas: usize,
    millis: i64,
    strict_skew: i32,
}

fn case() -> impl Strategy<Value = Case> {
    (
        proptest::collection::vec((0..3u8, 1..8u8, any::<bool>(), proptest::bool::weighted(0.9)), 1..7),
        proptest::collection::vec((0..7usize, 100..900u16), 0..10),
        1..12usize,
        100..2000i64,
        1..4i32,
    )
        .prop_map(|(nodes, pods, replicas, millis, strict_skew)| Case {
            nodes,
            pods,
            replicas,
            millis,
            strict_skew,
        })
}

impl Case {
    fn snapshot(&self) -> Snapshot {
        let nodes = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, (zone, cpu, cordoned, ready))| {
                let mut node = mk_node(&format!("n{index}"), &format!("z{zone}"), &cpu.to_string());
                node["spec"] = json!({"unschedulable": *cordoned && index != 0});
                node["status"]["conditions"][0]["status"] = json!(if *ready { "True" } else { "False" });
                node
            });
        let pods = self.pods.iter().enumerate().map(|(index, (node, millis))| {
            mk_machine(
                &format!("m{index}"),
                &format!("n{}", node % self.nodes.len()),
                &format!("{millis}m"),
            )
        });
        mk_snapshot(nodes.collect(), pods.collect())
    }

    fn workloads(&self) -> Vec<Workload> {
        let spread = [(ZONE, self.strict_skew, "DoNotSchedule"), (HOST, 1, "ScheduleAnyway")];
        vec![mk_workload(self.millis, &spread); self.replicas]
    }
}

proptest! {
    #[test]
    fn its_own_answer_does_not_change(case in case()) {
        let (snapshot, workloads) = (case.snapshot(), case.workloads());
        let first = solve(&snapshot, &workloads, &[]);
        let nodes: Vec<_> = first.assignments.iter().map(Assignment::node).collect();
        let second = solve(&snapshot, &workloads, &nodes);
        prop_assert_eq!(first.assignments, second.assignments);
    }

    #[test]
    fn every_target_is_ready_uncordoned_and_large_enough(case in case()) {
        let snapshot = case.snapshot();
        let solution = solve(&snapshot, &case.workloads(), &[]);
        for assignment in &solution.assignments {
            if let Some(node) = assignment.node().and_then(|ord| solution.after.node(ord)) {
                prop_assert!(node.schedulable());
            }
        }
        for ((_, before), (_, after)) in snapshot.nodes().zip(solution.after.nodes()) {
            if after.allocated != before.allocated {
                prop_assert_eq!(after.allocatable.minus(&after.allocated).first_shortage(&Amounts { cpu_millis: 0, ..Amounts::default() }), None);
                prop_assert!(after.allocated.cpu_millis <= after.allocatable.cpu_millis);
            }
        }
    }

    #[test]
    fn no_placement_makes_a_strict_skew_worse_than_allowed(case in case()) {
        let snapshot = case.snapshot();
        let workloads = case.workloads();
        let solution = solve(&snapshot, &workloads, &[]);
        let before = SpreadState::count(&snapshot, &workloads[0]);
        let after = SpreadState::count(&solution.after, &workloads[0]);
        let (before, after) = (&before.tables()[0], &after.tables()[0]);
        let lowest = after.counts.values().min().copied().unwrap_or_default();
        for (domain, count) in &after.counts {
            if count > &before.counts[domain] {
                prop_assert!(count - lowest <= i64::from(case.strict_skew), "{domain}: {count} over {lowest}");
            }
        }
    }

    #[test]
    fn unplaced_means_that_every_node_refused(case in case()) {
        let snapshot = case.snapshot();
        for assignment in solve(&snapshot, &case.workloads(), &[]).assignments {
            if let Assignment::Unplaced(refusals) = assignment {
                prop_assert_eq!(refusals.len(), snapshot.node_count());
            }
        }
    }

    #[test]
    fn a_drain_never_targets_the_drained_node(case in case()) {
        let snapshot = case.snapshot();
        for (ord, _) in snapshot.nodes() {
            let solution = solve_drain(&snapshot, ord, &[]);
            prop_assert_eq!(solution.moves.len(), snapshot.machines_on(ord).count());
            prop_assert!(solution.moves.iter().all(|m| m.assignment.node() != Some(ord)));
        }
    }
}
