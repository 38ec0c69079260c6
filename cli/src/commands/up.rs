//! `steading up`.

use std::{io::IsTerminal, net::Ipv4Addr, time::Instant};

use anyhow::bail;
use serde_json::{Map, Value, json};
use steading_infra::install::InstallOutcome;
use steading_runtime::{CancellationToken, admin::Admin, process::bind, shutdown, telemetry};
use steading_stack::{Infra, Part, Stack, StackConfig};

use crate::{
    args::UpArgs,
    output::out::{self, OutputError},
};

/// Starts everything, says where it is, and runs until Ctrl-C or SIGTERM.
///
/// # Errors
/// When it cannot start, or a part ends by itself.
pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    if !args.listen.ip().is_loopback() {
        bail!(
            "--listen {}: everybody may do everything here, so only loopback addresses are served; try 127.0.0.1:{}",
            args.listen,
            args.listen.port()
        );
    }
    let telemetry = telemetry::init("steading", &args.log.config())?;
    let infra = match &args.kubeconfig {
        Some(path) => Infra::Kubeconfig(path.clone()),
        None => Infra::Simulated(args.simulation.config()),
    };
    let started = Instant::now();
    let config = StackConfig {
        listen: args.listen,
        infra,
        write_kubeconfig: args.write_kubeconfig.clone(),
    };
    let last = std::sync::Mutex::new(String::new());
    let tell = |text: &str| {
        // Each new kind of wait is a line; counting down is not news.
        let news = text.split(',').next().unwrap_or(text).to_owned();
        if let Ok(mut last) = last.lock()
            && !args.json
            && *last != news
        {
            out::note(text);
            *last = news;
        }
    };
    let mut stack = Stack::start_telling(config, &tell).await?;
    let cancel = CancellationToken::new();
    let admin_listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let admin_address = admin_listener.local_addr()?;
    let admin = Admin {
        readiness: stack.readiness(),
        metrics: stack.metrics(),
        log_filter: Some(telemetry.log_filter()),
    };
    let mut admin_task = tokio::task::JoinSet::new();
    admin_task.spawn(admin.run(admin_listener, cancel.clone()));
    announce(&stack, &admin_address.to_string(), args.json, started)?;
    let outcome = tokio::select! {
        signal = shutdown::signal() => signal.map(|_| ()).map_err(Into::into),
        error = stack.failed() => Err(error),
    };
    if !args.json && std::io::stdout().is_terminal() {
        out::note("draining; Ctrl-C again ends at once");
    }
    tokio::select! {
        () = stack.stop() => {}
        _ = shutdown::signal() => {}
    }
    cancel.cancel();
    admin_task.join_all().await;
    outcome
}

const OUTCOMES: [(InstallOutcome, &str); 3] = [
    (InstallOutcome::Installed, "installed"),
    (InstallOutcome::Upgraded, "upgraded"),
    (InstallOutcome::Unchanged, "unchanged"),
];

/// What was found in the infra cluster and done to it, for scripts.
fn infra_of(stack: &Stack) -> Value {
    let prepared = stack.prepared();
    let found = &prepared.capabilities;
    let kinds: Map<String, Value> = OUTCOMES
        .iter()
        .map(|(outcome, word)| ((*word).to_owned(), json!(prepared.kinds_that_were(*outcome))))
        .collect();
    json!({
        "kubernetes": found.kubernetes_version,
        "kubevirt": found.kubevirt.present().and_then(|k| k.version.clone()),
        "cdi": found.cdi.present().and_then(|c| c.version.clone()),
        "kinds": kinds,
        "warnings": prepared.shortcomings(),
    })
}

fn announce(stack: &Stack, admin: &str, as_json: bool, started: Instant) -> Result<(), OutputError> {
    let services = Part::ALL.into_iter().filter(|p| *p != Part::Gateway);
    let seconds = started.elapsed().as_secs_f64();
    if as_json {
        let services: Map<String, Value> = services
            .map(|p| (p.name().to_owned(), Value::from(stack.address(p).to_string())))
            .collect();
        let line = json!({
            "gateway": stack.gateway().to_string(), "services": services, "admin": admin,
            "kubeconfig": stack.kubeconfig(), "simulated": stack.sim().is_some(), "seconds": seconds,
            "infra": infra_of(stack),
        });
        return out::line(line);
    }
    out::line(format_args!(
        "Steading is up after {seconds:.1}s. DEVELOPMENT MODE: everybody on this machine may do everything.\n"
    ))?;
    out::line(format_args!(
        "  gateway      {}   REST, gRPC, gRPC-Web; /openapi.json",
        stack.gateway_url()
    ))?;
    for part in services {
        out::line(format_args!("  {:<12} http://{}", part.name(), stack.address(part)))?;
    }
    out::line(format_args!(
        "  admin        http://{admin}   /readyz, /metrics, /log-level"
    ))?;
    out::line(format_args!(
        "  infra        kubectl --kubeconfig {} get nodes",
        stack.kubeconfig().display()
    ))?;
    out::line(format_args!("               {}", stack.prepared().headline()))?;
    for (outcome, word) in OUTCOMES {
        let kinds = stack.prepared().kinds_that_were(outcome);
        if outcome != InstallOutcome::Unchanged && !kinds.is_empty() {
            out::line(format_args!("               {word}: {}", kinds.join(", ")))?;
        }
    }
    for line in stack.prepared().shortcomings() {
        out::line(format_args!("  warning      {line}"))?;
    }
    let server = if stack.gateway().port() == 8080 {
        String::new()
    } else {
        format!("STEADING_SERVER={} ", stack.gateway_url())
    };
    out::line(format_args!(
        "\nNext: {server}steading apply -f examples/01-catalogue.yaml. Ctrl-C ends it."
    ))
}
