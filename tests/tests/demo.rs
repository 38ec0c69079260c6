//! The demo's flow with every seed, and with services that die on the way: always the same end.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::time::Duration;

use steading::demo::{
    flow::{self, Pace},
    report::{Report, Summary},
};
use steading_stack::Part;
use steading_tests::stack;
use tokio::sync::mpsc;

/// Runs the demo on a stack of its own; at each of `kills`, a part of the stack is killed without warning and started anew.
async fn demo(seed: u64, kills: &'static [(&'static str, Part)]) -> Summary {
    let mut stack = stack::start(seed).await.expect("the stack starts");
    let (steps, mut reached) = mpsc::channel::<String>(64);
    let report = Report::silent(move |step| {
        // A full channel means that the test has stopped listening.
        let _ = steps.try_send(step.to_owned());
    });
    let url = stack.gateway_url();
    let flow = flow::run(&url, &report, Pace::Fast);
    let killer = async {
        while let Some(step) = reached.recv().await {
            for (_, part) in kills.iter().filter(|(at, _)| *at == step) {
                // In the middle of the step rather than at its first call.
                tokio::time::sleep(Duration::from_millis(150)).await;
                stack.kill_and_restart(*part).await.expect("the part starts again");
            }
        }
        std::future::pending::<()>().await
    };
    let summary = tokio::select! {
        summary = flow => summary.expect("the flow reaches its end"),
        () = killer => unreachable!("it never ends"),
    };
    stack.stop().await;
    summary
}

fn assert_ok(what: &str, summary: &Summary) {
    let failed: Vec<_> = summary.checks.iter().filter(|c| !c.ok).collect();
    assert!(summary.ok && failed.is_empty(), "{what}: {failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_ends_well_with_each_of_20_seeds() {
    for seed in 1..=20 {
        assert_ok(&format!("seed {seed}"), &demo(seed, &[]).await);
    }
}

macro_rules! survives {
    ($($name:ident: $kills:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            assert_ok(stringify!($name), &demo(7, &$kills).await);
        }
    )*};
}

survives! {
    killing_lifecycle_while_the_cluster_is_made: [("cluster", Part::Lifecycle)];
    killing_lifecycle_while_machines_are_made: [("pools", Part::Lifecycle)];
    killing_lifecycle_while_the_load_balancer_gets_its_address: [("loadBalancer", Part::Lifecycle)];
    killing_lifecycle_while_a_node_is_drained: [("drain", Part::Lifecycle)];
    killing_templating_while_templates_and_machines_are_made: [("templates", Part::Templating), ("pools", Part::Templating)];
    killing_scheduling_while_machines_are_made_and_moved: [("pools", Part::Scheduling), ("plan", Part::Scheduling), ("drain", Part::Scheduling)];
    killing_storage_while_a_volume_is_attached_and_its_machine_moved: [("volume", Part::Storage), ("drain", Part::Storage)];
    killing_the_gateway_at_every_turn: [("project", Part::Gateway), ("pools", Part::Gateway), ("drain", Part::Gateway)];
    killing_everything_in_the_middle_of_the_drain: [
        ("drain", Part::Storage), ("drain", Part::Scheduling), ("drain", Part::Templating), ("drain", Part::Lifecycle), ("drain", Part::Gateway)
    ];
}
