//! `steading up`.

use std::{io::IsTerminal, net::Ipv4Addr, time::Instant};

use anyhow::bail;
use serde_json::{Map, Value, json};
use steading_runtime::{
    CancellationToken,
    admin::{Admin, Readiness},
    metrics::Metrics,
    process::bind,
    shutdown,
};

use super::{Infra, Part, Stack, StackConfig, simulation};
use crate::{args::UpArgs, commands::progress::spinner};

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
    let infra = match &args.kubeconfig {
        Some(path) => Infra::Kubeconfig(path.clone()),
        None => Infra::Simulated(simulation(&args.simulation)),
    };
    let started = Instant::now();
    let bar = spinner("starting");
    let config = StackConfig {
        listen: args.listen,
        infra,
        write_kubeconfig: args.write_kubeconfig.clone(),
    };
    let mut stack = Stack::start(config).await?;
    let cancel = CancellationToken::new();
    let admin_listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let admin_address = admin_listener.local_addr()?;
    let readiness = Readiness::new();
    readiness.gate("stack").ready();
    let admin = Admin {
        readiness,
        metrics: Metrics::new(),
        log_filter: None,
    };
    let mut admin_task = tokio::task::JoinSet::new();
    admin_task.spawn(admin.run(admin_listener, cancel.clone()));
    bar.finish_and_clear();

    announce(&stack, &admin_address.to_string(), args.json, started);
    let outcome = tokio::select! {
        signal = shutdown::signal() => signal.map(|_| ()).map_err(Into::into),
        error = stack.failed() => Err(error),
    };
    if !args.json && std::io::stdout().is_terminal() {
        println!("draining; Ctrl-C again ends at once");
    }
    tokio::select! {
        () = stack.stop() => {}
        _ = shutdown::signal() => {}
    }
    cancel.cancel();
    admin_task.join_all().await;
    outcome
}

fn announce(stack: &Stack, admin: &str, as_json: bool, started: Instant) {
    let services = Part::ALL.into_iter().filter(|p| *p != Part::Gateway);
    let seconds = started.elapsed().as_secs_f64();
    if as_json {
        let services: Map<String, Value> = services
            .map(|p| (p.name().to_owned(), Value::from(stack.address(p).to_string())))
            .collect();
        let line = json!({
            "gateway": stack.gateway().to_string(), "services": services, "admin": admin,
            "kubeconfig": stack.kubeconfig(), "simulated": stack.sim().is_some(), "seconds": seconds,
        });
        println!("{line}");
        return;
    }
    println!("Steading is up after {seconds:.1}s. DEVELOPMENT MODE: everybody on this machine may do everything.\n");
    println!(
        "  gateway      {}   REST, gRPC, gRPC-Web; /openapi.json",
        stack.gateway_url()
    );
    for part in services {
        println!("  {:<12} http://{}", part.name(), stack.address(part));
    }
    println!("  admin        http://{admin}   /readyz, /metrics");
    println!(
        "  infra        kubectl --kubeconfig {} get nodes",
        stack.kubeconfig().display()
    );
    let server = if stack.gateway().port() == 8080 {
        String::new()
    } else {
        format!("STEADING_SERVER={} ", stack.gateway_url())
    };
    println!("\nNext: {server}steading apply -f examples/01-catalogue.yaml. Ctrl-C ends it.");
}
