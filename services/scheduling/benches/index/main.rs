//! What the scheduling index costs at 1,000 infra nodes and 10,000 machines, beside the goals of the design. One core.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking, and prints what it found"
)]

mod world;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use steading_model::ids::Id;
use steading_scheduling::{
    api::explain::explain,
    domain::interner::Interner,
    observe::{ObservedNode, ObservedPod, Workload},
    solve::{filter::Audience, problem::Wanted},
    world::World,
};

const NODES: usize = 1_000;
const MACHINES: usize = 10_000;
const REPLICAS: usize = 1_000;
const ROUNDS: usize = 7;

fn main() {
    let mut interner = Interner::default();
    let nodes: Vec<Arc<ObservedNode>> = world::mk_nodes(NODES)
        .iter()
        .map(|node| Arc::new(ObservedNode::of(node, &mut interner)))
        .collect();
    let objects = world::mk_machines(MACHINES, NODES);
    let begun = Instant::now();
    let pods: Vec<Arc<ObservedPod>> = objects
        .iter()
        .filter_map(|pod| ObservedPod::of(pod, &mut interner))
        .map(Arc::new)
        .collect();
    let projecting = begun.elapsed();
    let begun = Instant::now();
    let mut index = World::default();
    for node in &nodes {
        index.put_node(node.clone());
    }
    for pod in &pods {
        index.put_pod(pod.clone());
    }
    println!("{NODES} nodes, {MACHINES} machines, {} counters", index.group_count());
    row(
        "project a pod",
        projecting / u32::try_from(MACHINES).expect("small"),
        None,
    );
    row("fill the index", begun.elapsed(), None);
    let (update, worst) = updates(&mut index, &pods);
    row("update of the index, mean", update, Some(Duration::from_micros(20)));
    row("update of the index, 99 of 100", worst, Some(Duration::from_micros(20)));
    let project = Id::parse("acme").expect("an id");
    let workload = workload(&objects, &mut interner);
    let took = median(|| {
        let wanted = Wanted {
            workload: workload.clone(),
            claims: Vec::new(),
        };
        let problem = index.problem(&[wanted], &HashSet::new());
        let answer = explain(&problem, REPLICAS, &[], Audience::Project(&project));
        assert_eq!(answer.placed_count, i32::try_from(REPLICAS).expect("small"));
    });
    row("explain 1,000 replicas", took, Some(Duration::from_millis(50)));
    let took = median(|| {
        let drained = index.drain(&nodes[0].name, []).solve();
        assert!(drained.moves.iter().all(|step| step.assignment.node().is_some()));
    });
    row("simulate the drain of a node", took, None);
}

/// A change of each of some pods: the mean, and what 99 of 100 stay below.
fn updates(index: &mut World, pods: &[Arc<ObservedPod>]) -> (Duration, Duration) {
    let mut all = Vec::with_capacity(pods.len());
    for pod in pods {
        let mut changed = ObservedPod::clone(pod);
        changed.terminating = true;
        let (changed, begun) = (Arc::new(changed), Instant::now());
        index.put_pod(changed);
        all.push(begun.elapsed());
        let begun = Instant::now();
        index.put_pod(pod.clone());
        all.push(begun.elapsed());
    }
    all.sort();
    let mean = all.iter().sum::<Duration>() / u32::try_from(all.len()).expect("small");
    (mean, all[all.len() * 99 / 100])
}

fn workload(objects: &[Pod], interner: &mut Interner) -> Arc<Workload> {
    let pod = ObservedPod::of(&objects[0], interner).expect("has a node");
    Arc::new(pod.workload())
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut all: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    all.sort();
    all[ROUNDS / 2]
}

fn row(what: &str, took: Duration, goal: Option<Duration>) {
    let goal = goal.map_or_else(String::new, |goal| {
        let verdict = if took < goal { "met" } else { "MISSED" };
        format!("goal {goal:?}: {verdict}")
    });
    println!("{what:<34} {took:>14.2?}   {goal}");
}
