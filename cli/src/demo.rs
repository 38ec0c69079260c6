//! The demonstration: from an empty infra cluster to a drained bare-metal node, then the proof that nothing was lost.
//!
//! ```text
//! project → image, templates, policy → cluster → pools → workload → volume → load balancer → plan → drain → checks
//! ```
//!
//! It uses nothing but the public API (and, inside the tenant cluster, that cluster's own API), so it runs against any
//! Steading. Each step may be repeated: after a crash of any service the same calls lead to the same end.

pub mod api;
pub mod checks;
pub mod flow;
pub mod report;
pub mod tenant;
pub mod witness;

use std::process::ExitCode;

use crate::{
    args::DemoArgs,
    demo::{flow::Pace, report::Report},
    stack::{Infra, Stack, StackConfig},
};

/// Runs the demonstration on a stack of its own.
///
/// # Errors
/// When the stack cannot be started or a step cannot be done at all; a failed check is told by the exit code.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let report = Report::new(args.json);
    report.step(
        "start",
        "starting a simulated infra cluster, four services and the gateway",
    );
    let simulation = crate::stack::simulation(&args.simulation);
    let stack = Stack::start(StackConfig {
        infra: Infra::Simulated(simulation),
        ..StackConfig::default()
    })
    .await?;
    report.done(&format!("gateway on {}", stack.gateway_url()));

    let pace = if args.fast || args.json {
        Pace::Fast
    } else {
        Pace::Readable
    };
    let outcome = flow::run(&stack.gateway_url(), &report, pace).await;
    if let Some(counts) = stack.request_counts() {
        report.figures("infra API requests", &counts);
    }
    let ok = match &outcome {
        Ok(summary) => report.summary(summary),
        Err(error) => report.failure(error),
    };
    if args.keep {
        report.note(&format!(
            "still running: STEADING_SERVER={} steading get machines -p demo -c prod; Ctrl-C ends it",
            stack.gateway_url()
        ));
        tokio::signal::ctrl_c().await?;
    }
    stack.stop().await;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
