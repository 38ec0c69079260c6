//! Examples and properties of the solver.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::TopologySpreadConstraint, apimachinery::pkg::apis::meta::v1::LabelSelector};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    filter::{Audience, Refusal},
    naive::{NaivePod, NaiveWorld},
    problem::{NodeOrd, Problem},
    spread::SpreadTable,
    standing::Standing,
    *,
};
use crate::{
    domain::{Amounts, Constraints, Placement, selector::Labels},
    observe::Workload,
    world::{
        World,
        tests::{mk_machine, mk_node, mk_problem, mk_world, observe_node, observe_pod},
    },
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
    let labels = Labels::from(&labels);
    Workload {
        namespace: "acme--web".into(),
        constraints: Constraints::compile(&placement, "acme--web", &labels).into(),
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

fn per_node(problem: &Problem, solution: &Solution) -> Vec<usize> {
    let on = |ord: NodeOrd| solution.assignments.iter().filter(|a| a.node() == Some(ord)).count();
    problem.nodes().map(|(ord, _)| on(ord)).collect()
}

/// Places copies of a workload.
fn place(world: &World, workload: &Workload, replicas: usize) -> (Problem, Solution) {
    let problem = mk_problem(world, workload);
    let solution = solve(&problem, &vec![0; replicas], &[], Audience::Operator);
    (problem, solution)
}

fn spread_of(problem: &Problem, solution: Option<&Solution>) -> SpreadTable {
    let overlay = solution.map(|s| s.overlay.clone()).unwrap_or_default();
    Standing::new(problem, 0, &overlay).expect("one kind").spread.tables()[0].clone()
}

#[test]
fn six_replicas_over_three_nodes_are_two_on_each() {
    let world = mk_world(&three_nodes(), &[]);
    let (problem, solution) = place(&world, &mk_workload(500, &[(HOST, 1, "ScheduleAnyway")]), 6);
    assert_eq!(per_node(&problem, &solution), [2, 2, 2]);
}

#[test]
fn existing_machines_of_the_pool_count_for_the_spread() {
    let world = mk_world(
        &three_nodes(),
        &[mk_machine("m1", "a", "1"), mk_machine("m2", "a", "1")],
    );
    let (problem, solution) = place(&world, &mk_workload(500, &[(HOST, 1, "ScheduleAnyway")]), 4);
    assert_eq!(per_node(&problem, &solution), [0, 2, 2]);
}

#[test]
fn a_loose_constraint_gives_way_and_a_strict_one_does_not() {
    let mut nodes = three_nodes();
    nodes[2]["spec"] = json!({"unschedulable": true});
    let world = mk_world(&nodes, &[]);
    let (problem, loose) = place(&world, &mk_workload(100, &[(HOST, 1, "ScheduleAnyway")]), 4);
    assert_eq!(per_node(&problem, &loose), [2, 2, 0]);
    // Kubernetes counts a cordoned node as a domain unless nodeTaintsPolicy says otherwise.
    let (problem, strict) = place(&world, &mk_workload(100, &[(HOST, 1, "DoNotSchedule")]), 4);
    assert_eq!(per_node(&problem, &strict), [1, 1, 0]);
    let Assignment::Unplaced(refusals) = &strict.assignments[3] else {
        panic!("must not be placed")
    };
    assert_eq!(
        summarize(3, refusals),
        "0 of 3 infra nodes fit: 2 exceeding the spread constraints, 1 cordoned"
    );
}

#[test]
fn who_tolerates_the_taint_of_cordoned_nodes_may_go_there() {
    let mut node = mk_node("a", "z", "8");
    node["spec"] = json!({"unschedulable": true});
    let mut workload = mk_workload(100, &[]);
    assert!(
        place(&mk_world(&[node.clone()], &[]), &workload, 1).1.assignments[0]
            .node()
            .is_none()
    );
    let mut constraints = Constraints::clone(&workload.constraints);
    constraints.tolerations.push(crate::domain::constraints::Toleration {
        key: "node.kubernetes.io/unschedulable".into(),
        exists: true,
        ..Default::default()
    });
    workload.constraints = constraints.into();
    assert!(
        place(&mk_world(&[node], &[]), &workload, 1).1.assignments[0]
            .node()
            .is_some()
    );
}

#[test]
fn a_full_cluster_says_what_is_missing() {
    let world = mk_world(&[mk_node("a", "z", "1")], &[]);
    let (_, solution) = place(&world, &mk_workload(1500, &[]), 1);
    let Assignment::Unplaced(refusals) = &solution.assignments[0] else {
        panic!("must not be placed")
    };
    assert_eq!(refusals[0].1.message, "cpu: 1500m requested, 1000m left");
}

#[test]
fn a_drain_moves_machines_elsewhere_and_reports_those_that_fit_nowhere() {
    let nodes = [mk_node("a", "z1", "8"), mk_node("b", "z2", "3")];
    let pods = [
        mk_machine("m1", "a", "2"),
        mk_machine("m2", "a", "2"),
        mk_machine("m3", "b", "500m"),
    ];
    let world = mk_world(&nodes, &pods);
    let solution = world.drain(&"a".into(), []).solve();
    let targets: Vec<_> = solution.moves.iter().map(|m| m.assignment.node().is_some()).collect();
    assert_eq!(targets, [true, false], "one fits beside m3, the other does not");
    let alone = world.drain(&"a".into(), ["b".into()]).solve();
    assert!(alone.moves.iter().all(|m| m.assignment.node().is_none()));
}

fn loner(name: &str, namespace: &str, node: &str) -> Value {
    let term = json!({"topologyKey": ZONE, "namespaceSelector": {}, "labelSelector": {"matchLabels": {"steading.dev/pool": "workers"}}});
    let mut loner = mk_machine(name, node, "1");
    loner["metadata"]["namespace"] = json!(namespace);
    loner["metadata"]["labels"]["steading.dev/project"] = json!(namespace.split("--").next().unwrap());
    loner["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    loner
}

#[test]
fn required_anti_affinity_binds_both_ways() {
    let nodes = [
        mk_node("a", "z1", "8"),
        mk_node("b", "z1", "8"),
        mk_node("c", "z2", "8"),
    ];
    let world = mk_world(&nodes, &[loner("m1", "acme--web", "a")]);
    let (problem, solution) = place(&world, &mk_workload(100, &[]), 1);
    assert_eq!(solution.assignments[0].node(), problem.find("c"));
}

#[test]
fn a_refusal_names_no_machine_of_another_project() {
    let world = mk_world(&[mk_node("a", "z1", "8")], &[loner("secret", "rival--web", "a")]);
    let problem = mk_problem(&world, &mk_workload(100, &[]));
    let said = |audience: Audience<'_>| {
        let solution = solve(&problem, &[0], &[], audience);
        let Assignment::Unplaced(refusals) = &solution.assignments[0] else {
            panic!("must not be placed")
        };
        refusals[0].1.clone()
    };
    let acme = steading_model::ids::Id::parse("acme").expect("an id");
    let rival = steading_model::ids::Id::parse("rival").expect("an id");
    let Refusal { message, .. } = said(Audience::Project(&acme));
    assert_eq!(
        message,
        format!("a machine of another project keeps it out of its {ZONE}")
    );
    assert!(said(Audience::Project(&rival)).message.contains("machines/secret"));
    assert!(said(Audience::Operator).message.contains("machines/secret"));
}

#[test]
fn capacity_honours_anti_affinity() {
    let nodes = [
        mk_node("a", "z1", "8"),
        mk_node("b", "z1", "8"),
        mk_node("c", "z2", "8"),
    ];
    let world = mk_world(&nodes, &[]);
    let mut workload = mk_workload(1000, &[(HOST, 1, "DoNotSchedule")]);
    let free = capacity::counted(workload.clone());
    assert_eq!(capacity::solve_capacity(&mk_problem(&world, &free), 0), 24);
    let term: k8s_openapi::api::core::v1::PodAffinityTerm = serde_json::from_value(
        json!({"topologyKey": ZONE, "labelSelector": {"matchLabels": {"steading.dev/pool": "workers"}}}),
    )
    .expect("a term");
    let placement = Placement {
        pod_anti_affinity: Some(k8s_openapi::api::core::v1::PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..Default::default()
        }),
        ..Placement::default()
    };
    workload.constraints = Constraints::compile(&placement, "acme--web", &workload.labels).into();
    let alone = mk_problem(&world, &capacity::counted(workload));
    assert_eq!(capacity::solve_capacity(&alone, 0), 2, "once in each zone");
    assert_eq!(
        capacity::solve_capacity(&alone.only(|view| view.node.zone() == "z1"), 0),
        1
    );
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
    fn world(&self) -> World {
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
        mk_world(&nodes.collect::<Vec<_>>(), &pods.collect::<Vec<_>>())
    }

    fn workload(&self) -> Workload {
        let spread = [(ZONE, self.strict_skew, "DoNotSchedule"), (HOST, 1, "ScheduleAnyway")];
        mk_workload(self.millis, &spread)
    }
}

/// A random cluster with all that constraints can say, and workloads of several kinds.
#[derive(Debug, Clone)]
struct Wild {
    nodes: Vec<Value>,
    pods: Vec<Value>,
    wanted: Vec<Value>,
}

fn wild_term() -> impl Strategy<Value = Value> {
    (any::<bool>(), 0..4u8, 0..4u8).prop_map(|(host, pool, reach)| {
        let mut term = json!({"topologyKey": if host { HOST } else { ZONE }});
        match pool {
            0 => {}
            1 => term["labelSelector"] = json!({}),
            n => term["labelSelector"] = json!({"matchLabels": {"pool": format!("p{n}")}}),
        }
        match reach {
            0 => term["namespaces"] = json!(["n0", "n1"]),
            1 => term["namespaceSelector"] = json!({}),
            2 => term["namespaceSelector"] = json!({"matchLabels": {"team": "n1"}}),
            _ => {}
        }
        term
    })
}

fn wild_pod() -> impl Strategy<Value = Value> {
    let spread = (
        any::<bool>(),
        any::<bool>(),
        1..3i32,
        1..4u8,
        any::<bool>(),
        any::<bool>(),
        0..4i32,
    );
    let affinity = (
        proptest::option::weighted(0.2, wild_term()),
        proptest::option::weighted(0.3, (1..100i32, wild_term())),
        proptest::option::weighted(0.2, wild_term()),
        proptest::option::weighted(0.3, (1..100i32, wild_term())),
    );
    let plain = (
        0..2u8,
        2..4u8,
        1..30u16,
        0..20u16,
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.2),
    );
    (plain, proptest::collection::vec(spread, 0..3), affinity).prop_map(|(plain, spreads, affinity)| {
        let (namespace, pool, cpu, memory, tolerant, picky) = plain;
        let mut requests = json!({"cpu": format!("{}m", u32::from(cpu) * 100)});
        if memory > 0 {
            requests["memory"] = json!(format!("{}Mi", u32::from(memory) * 300));
        }
        let mut pod = json!({"metadata": {"namespace": format!("n{namespace}"), "labels": {"pool": format!("p{pool}")}},
            "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
        if tolerant {
            pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        }
        if picky {
            pod["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        }
        let mut keys = std::collections::BTreeSet::new();
        let constraints: Vec<Value> = spreads
            .into_iter()
            .filter(|(host, strict, ..)| keys.insert((*host, *strict)))
            .map(|(host, strict, skew, pool, ignore, honor, least)| {
                let mut constraint = json!({"topologyKey": if host { HOST } else { ZONE }, "maxSkew": skew,
                    "whenUnsatisfiable": if strict { "DoNotSchedule" } else { "ScheduleAnyway" },
                    "labelSelector": if pool == 1 { json!({}) } else { json!({"matchLabels": {"pool": format!("p{pool}")}}) }});
                if ignore {
                    constraint["nodeAffinityPolicy"] = json!("Ignore");
                }
                if honor {
                    constraint["nodeTaintsPolicy"] = json!("Honor");
                }
                if strict && least > 0 {
                    constraint["minDomains"] = json!(least);
                }
                constraint
            })
            .collect();
        pod["spec"]["topologySpreadConstraints"] = json!(constraints);
        let (anti, rather_not, near, rather) = affinity;
        let preferred = |(weight, term): (i32, Value)| json!([{"weight": weight, "podAffinityTerm": term}]);
        pod["spec"]["affinity"] = json!({
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": anti.into_iter().collect::<Vec<_>>(),
                "preferredDuringSchedulingIgnoredDuringExecution": rather_not.map(preferred).unwrap_or(json!([]))},
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": near.into_iter().collect::<Vec<_>>(),
                "preferredDuringSchedulingIgnoredDuringExecution": rather.map(preferred).unwrap_or(json!([]))}});
        pod
    })
}

fn wild() -> impl Strategy<Value = Wild> {
    let node = (
        0..4u8,
        2..9u8,
        proptest::bool::weighted(0.15),
        proptest::bool::weighted(0.2),
        any::<bool>(),
        proptest::bool::weighted(0.2),
    );
    let nodes = proptest::collection::vec(node, 1..7);
    let pods = proptest::collection::vec((wild_pod(), 0..7usize, proptest::bool::weighted(0.15)), 0..10);
    let wanted = proptest::collection::vec((wild_pod(), 1..4usize), 1..4);
    (nodes, pods, wanted).prop_map(|(nodes, pods, wanted)| {
        let count = nodes.len();
        let node = |(index, (zone, cpu, cordoned, tainted, ssd, soft)): (usize, (u8, u8, bool, bool, bool, bool))| {
            let mut node = mk_node(&format!("n{index}"), &format!("z{zone}"), &cpu.to_string());
            if zone == 3 {
                node["metadata"]["labels"].as_object_mut().unwrap().remove(ZONE);
            }
            if ssd {
                node["metadata"]["labels"]["disk"] = json!("ssd");
            }
            let mut taints = vec![];
            if tainted {
                taints.push(json!({"key": "t", "effect": "NoSchedule"}));
            }
            if soft {
                taints.push(json!({"key": "s", "effect": "PreferNoSchedule"}));
            }
            node["spec"] = json!({"unschedulable": cordoned, "taints": taints});
            node
        };
        let pod = |(index, (mut pod, node, terminating)): (usize, (Value, usize, bool))| {
            pod["metadata"]["name"] = json!(format!("e{index}"));
            pod["spec"]["nodeName"] = json!(format!("n{}", node % count));
            if terminating {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            pod
        };
        let want = |(mut pod, times): (Value, usize)| {
            pod["metadata"]["name"] = json!("w");
            pod["spec"]["nodeName"] = json!("nowhere");
            vec![pod; times]
        };
        Wild {
            nodes: nodes.into_iter().enumerate().map(node).collect(),
            pods: pods.into_iter().enumerate().map(pod).collect(),
            wanted: wanted.into_iter().flat_map(want).collect(),
        }
    })
}

impl Wild {
    fn workloads(&self) -> Vec<Workload> {
        self.wanted
            .iter()
            .map(|pod| observe_pod(pod).expect("has a node").workload())
            .collect()
    }

    fn problem(&self) -> Problem {
        let mut world = mk_world(&self.nodes, &self.pods);
        for name in ["n0", "n1"] {
            let labels = BTreeMap::from([("team".to_owned(), name.to_owned())]);
            world.put_namespace(&name.into(), Labels::from(&labels));
        }
        let wanted: Vec<problem::Wanted> = self
            .workloads()
            .into_iter()
            .map(|workload| problem::Wanted {
                workload: workload.into(),
                claims: Vec::new(),
            })
            .collect();
        world.problem(&wanted, &std::collections::HashSet::new())
    }

    fn naive(&self) -> NaiveWorld {
        let mut nodes: Vec<_> = self.nodes.iter().map(observe_node).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let pods = self.pods.iter().filter_map(observe_pod).map(|pod| NaivePod {
            workload: pod.workload(),
            node: pod.node.to_string(),
            terminating: pod.terminating,
        });
        let namespaces = ["n0", "n1"].map(|name| {
            let labels = BTreeMap::from([("team".to_owned(), name.to_owned())]);
            (name.to_owned(), Labels::from(&labels))
        });
        NaiveWorld {
            nodes,
            pods: pods.collect(),
            namespaces: namespaces.into(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_indexed_solver_agrees_with_a_naive_reading_of_the_rules(wild in wild()) {
        let problem = wild.problem();
        let demand: Vec<usize> = (0..wild.wanted.len()).collect();
        let solution = solve(&problem, &demand, &[], Audience::Operator);
        let name = |ord: NodeOrd| problem.node(ord).map(|view| view.node.name.to_string());
        let ours: Vec<Option<String>> = solution.assignments.iter().map(|a| a.node().and_then(name)).collect();
        let mut naive = wild.naive();
        let theirs: Vec<Option<String>> = wild.workloads().iter().map(|workload| naive.place(workload)).collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn an_answer_given_back_stays_as_it_is(wild in wild()) {
        let problem = wild.problem();
        let demand: Vec<usize> = (0..wild.wanted.len()).collect();
        let first = solve(&problem, &demand, &[], Audience::Operator);
        let nodes: Vec<_> = first.assignments.iter().map(Assignment::node).collect();
        let second = solve(&problem, &demand, &nodes, Audience::Operator);
        prop_assert_eq!(first.assignments, second.assignments);
    }
}

proptest! {
    #[test]
    fn its_own_answer_does_not_change(case in case()) {
        let (problem, first) = place(&case.world(), &case.workload(), case.replicas);
        let nodes: Vec<_> = first.assignments.iter().map(Assignment::node).collect();
        let second = solve(&problem, &vec![0; case.replicas], &nodes, Audience::Operator);
        prop_assert_eq!(first.assignments, second.assignments);
    }

    #[test]
    fn every_target_is_ready_uncordoned_and_large_enough(case in case()) {
        let (problem, solution) = place(&case.world(), &case.workload(), case.replicas);
        for (_, ord) in solution.overlay.placed() {
            let view = problem.node(*ord).expect("a node");
            prop_assert!(view.node.schedulable());
            let used = solution.overlay.allocated(&problem, *ord).expect("a node");
            prop_assert!(used.cpu_millis <= view.node.allocatable.cpu_millis);
            prop_assert!(used.memory <= view.node.allocatable.memory);
        }
    }

    #[test]
    fn no_placement_makes_a_strict_skew_worse_than_allowed(case in case()) {
        let (problem, solution) = place(&case.world(), &case.workload(), case.replicas);
        let (before, after) = (spread_of(&problem, None), spread_of(&problem, Some(&solution)));
        let lowest = after.rows().iter().map(|(_, count, _)| *count).min().unwrap_or_default();
        for ((domain, count, _), (_, earlier, _)) in after.rows().into_iter().zip(before.rows()) {
            if count > earlier {
                prop_assert!(count - lowest <= i64::from(case.strict_skew), "{domain}: {count} over {lowest}");
            }
        }
    }

    #[test]
    fn unplaced_means_that_every_node_refused(case in case()) {
        let (problem, solution) = place(&case.world(), &case.workload(), case.replicas);
        for assignment in solution.assignments {
            if let Assignment::Unplaced(refusals) = assignment {
                prop_assert_eq!(refusals.len(), problem.node_count());
            }
        }
    }

    #[test]
    fn a_drain_never_targets_the_drained_node(case in case()) {
        let world = case.world();
        for (_, view) in mk_problem(&world, &case.workload()).nodes() {
            let name = view.node.name.clone();
            let solution = world.drain(&name, []).solve();
            prop_assert_eq!(solution.moves.len(), world.machines_on(&name).len());
            let drained = solution.problem.find(&name);
            prop_assert!(solution.moves.iter().all(|m| m.assignment.node() != drained));
        }
    }
}
