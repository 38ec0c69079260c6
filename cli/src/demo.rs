//! The demonstration: from an empty infra cluster to a drained bare-metal node, then the proof that nothing was lost, and
//! that nothing is left when all of it has been deleted again.
//!
//! ```text
//! project → image, templates, policy → cluster → pools → workload → volume → load balancer → plan → drain → checks → clean-up
//! ```
//!
//! It uses nothing but the public API (and, inside the tenant cluster, that cluster's own API), so it runs against any
//! Steading. Each step may be repeated: after a crash of any service the same calls lead to the same end. Only the last
//! check looks into the infra cluster itself, for what the API would not show.

pub mod api;
pub mod census;
pub mod checks;
pub mod clean_up;
pub mod flow;
mod objects;
pub mod preflight;
pub mod report;
pub mod storage;
pub mod supply;
pub mod tenant;
pub mod witness;

use std::process::ExitCode;

use anyhow::anyhow;
use kube::Client;
use steading_runtime::shutdown;
use steading_stack::{Infra, Stack, StackConfig};

use crate::{
    args::DemoArgs,
    demo::{
        census::Before,
        flow::Pace,
        report::{Report, Summary},
        supply::TenantSupply,
    },
};

/// Runs the demonstration on a stack of its own.
///
/// # Errors
/// When the stack cannot be started or a step cannot be done at all; a failed check shows in the exit code.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let report = Report::new(args.json);
    let mut stack = start(&args, &report).await?;
    let server = stack.gateway_url();
    let infra = stack.infra_client("steading-demo").await?;
    let ok = if args.clean_up {
        let cleaned = clean_up::run(&server, &infra, &report, Before::Anything).await;
        cleaned.map(|check| check.ok)?
    } else {
        demonstrate(&args, &mut stack, &infra, &report).await?
    };
    stack.stop().await;
    report.finish()?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn start(args: &DemoArgs, report: &Report) -> anyhow::Result<Stack> {
    let infra = match &args.kubeconfig {
        Some(path) => {
            report.step("start", "starting four services and the gateway on the infra cluster");
            Infra::Kubeconfig(path.clone())
        }
        None => {
            report.step(
                "start",
                "starting a simulated infra cluster, four services and the gateway",
            );
            Infra::Simulated(args.simulation.config())
        }
    };
    let config = StackConfig {
        infra,
        ..StackConfig::default()
    };
    let stack = Stack::start_telling(config, &|text| report.progress(text)).await?;
    report.done(&format!(
        "gateway on {}; {}",
        stack.gateway_url(),
        stack.prepared().headline()
    ));
    Ok(stack)
}

/// The story, its figures and the clean-up. Whatever the story comes to, what it made is deleted, unless it is to be kept.
async fn demonstrate(args: &DemoArgs, stack: &mut Stack, infra: &Client, report: &Report) -> anyhow::Result<bool> {
    let server = stack.gateway_url();
    preflight::check(&server, report).await?;
    let supply = match &args.tenant_kubeconfig {
        Some(path) => Some(TenantSupply::read(path, infra.clone())?),
        None => None,
    };
    let pace = if args.fast || args.json {
        Pace::Fast
    } else {
        Pace::Readable
    };
    let mut outcome = tokio::select! {
        summary = flow::tell(&server, report, pace, &args.image, supply.as_ref()) => summary,
        error = stack.failed() => Err(error),
        pressed = shutdown::signal() => Err(pressed.map_or_else(Into::into, |signal| anyhow!("interrupted by {signal}"))),
    };
    if let Some(counts) = stack.request_counts() {
        report.figures("infra API requests", &counts);
    }
    if args.keep {
        let ok = conclude(report, &outcome);
        report.note(&format!(
            "still running: STEADING_SERVER={server} steading get machines -p demo -c prod; Ctrl-C ends it"
        ));
        shutdown::signal().await?;
        return Ok(ok);
    }
    // A story that came to its end has left something to delete; a count that finds nothing would be blind.
    let before = if outcome.is_ok() {
        Before::Something
    } else {
        Before::Anything
    };
    if let Err(error) = &outcome {
        report.note(&format!("the demonstration did not get to its end: {error:#}"));
    }
    let cleaned = tokio::select! {
        cleaned = clean_up::run(&server, infra, report, before) => cleaned,
        error = stack.failed() => Err(error),
        _ = shutdown::signal() => Err(anyhow!(
            "interrupted while deleting; `steading demo --kubeconfig … --clean-up` deletes what is left"
        )),
    };
    match (&mut outcome, cleaned) {
        (Ok(summary), Ok(check)) => summary.add(check),
        (Ok(_), Err(error)) => outcome = Err(error),
        (Err(_), Ok(_)) => {}
        (Err(first), Err(error)) => report.note(&format!("{error:#}, after {first:#}")),
    }
    Ok(conclude(report, &outcome))
}

fn conclude(report: &Report, outcome: &anyhow::Result<Summary>) -> bool {
    match outcome {
        Ok(summary) => report.summary(summary),
        Err(error) => report.failure(error),
    }
}
