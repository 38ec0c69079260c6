//! The test bed of this process, and the product on it.

use std::{path::PathBuf, sync::OnceLock};

use steading::demo::{
    census::Before,
    clean_up,
    flow::{self, Pace},
    report::{Report, Summary},
};
use steading_stack::{Infra, Part, Stack, StackConfig};
use steading_testbed::{
    home::home,
    progress::Progress,
    state::Shape,
    testbed::{Lifetime, Testbed},
};
use tokio::sync::mpsc;

/// `steading-testbed`, as cargo built it for this test.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_steading-testbed"))
}

/// A folder that no other run has.
pub(crate) fn fresh_dir(what: &str) -> PathBuf {
    home()
        .expect("a home")
        .join("runs")
        .join(format!("{what}-{}", std::process::id()))
}

/// The test bed that all tests share.
pub(crate) fn shared() -> &'static Testbed {
    static BED: OnceLock<Testbed> = OnceLock::new();
    BED.get_or_init(|| {
        let shape = Shape::default();
        Testbed::start(
            &program(),
            &fresh_dir("real"),
            &shape,
            Lifetime::Owned,
            &Progress::new(),
        )
        .expect("the test bed comes up")
    })
}

/// What is to die.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Victim {
    /// A process of the test bed.
    Process(&'static str),
    /// A part of Steading.
    Part(Part),
}

/// The demonstration on the test bed, and its clean-up; at each of `kills`, something is killed without warning and started anew.
pub(crate) async fn demonstrate(kills: &[(&str, Victim)]) -> anyhow::Result<Summary> {
    let bed = shared();
    let mut stack = start().await?;
    let infra = stack.infra_client("steading-demo").await?;
    let (steps, mut reached) = mpsc::channel::<String>(64);
    let report = Report::silent(move |step| {
        // A full channel means that the test has stopped listening.
        let _ = steps.try_send(step.to_owned());
    });
    let url = stack.gateway_url();
    let story = async {
        let mut summary = flow::run(&url, &report, Pace::Fast).await?;
        summary.add(clean_up::run(&url, &infra, &report, Before::Something).await?);
        anyhow::Ok(summary)
    };
    let killer = async {
        while let Some(step) = reached.recv().await {
            for (_, victim) in kills.iter().filter(|(at, _)| *at == step) {
                // In the middle of the step rather than at its first call.
                tokio::time::sleep(std::time::Duration::from_millis(400)).await;
                println!("at {step}: {victim:?} dies");
                match victim {
                    Victim::Process(name) => {
                        bed.kill(name)?;
                    }
                    Victim::Part(part) => stack.kill_and_restart(*part).await?,
                }
            }
        }
        std::future::pending::<anyhow::Result<Summary>>().await
    };
    let outcome = tokio::select! {
        summary = story => summary,
        failed = killer => failed,
    };
    stack.stop().await;
    outcome
}

/// Steading on the test bed.
pub(crate) async fn start() -> anyhow::Result<Stack> {
    Stack::start(StackConfig {
        infra: Infra::Kubeconfig(shared().state()?.kubeconfig),
        ..StackConfig::default()
    })
    .await
}

/// Every check of the demonstration held.
pub(crate) fn assert_ok(what: &str, outcome: anyhow::Result<Summary>) {
    let summary = outcome.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    let failed: Vec<_> = summary.checks.iter().filter(|check| !check.ok).collect();
    assert!(summary.ok && failed.is_empty(), "{what}: {failed:?}");
}
