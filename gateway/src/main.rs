//! `steading-gateway`: the gateway as a process of its own.

mod args;
mod files;

use std::time::Duration;

use clap::Parser as _;
use steading_gateway::Gateway;
use steading_runtime::admin::{Admin, Readiness};
use steading_runtime::metrics::Metrics;
use steading_runtime::tasks::TaskGroup;
use steading_runtime::{CancellationToken, process, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = args::Args::parse();
    let telemetry = telemetry::init("steading-gateway", &args.telemetry())?;
    let (listen, admin_listen, drain) = (args.listen, args.admin_listen, args.drain());
    let metrics = Metrics::new();
    let (mut config, files) = args.config()?;
    config.metrics = Some(metrics.clone());
    let gateway = Gateway::new(config)?;
    let watch = files::watch(files, gateway.control(), &metrics)?;
    let (listener, admin_listener) = (process::bind(listen).await?, process::bind(admin_listen).await?);
    tracing::info!(listen = %listener.local_addr()?, admin = %admin_listener.local_addr()?, "starting");

    let cancel = CancellationToken::new();
    let readiness = Readiness::new();
    readiness.gate("gateway").ready();
    let admin = Admin {
        readiness,
        metrics,
        log_filter: Some(telemetry.log_filter()),
    };
    let group = TaskGroup::new("gateway", cancel.clone());
    group.spawn("admin", admin.run(admin_listener, cancel.clone()));
    group.spawn("files", watch.run(cancel.clone()));
    group.spawn("gateway", gateway.run(listener, cancel.clone()));
    let signals = TaskGroup::new("signals", CancellationToken::new());
    signals.spawn_finite("signals", shutdown::on_signal(cancel));
    group.join(drain + Duration::from_secs(5)).await?;
    tracing::info!("ended");
    Ok(())
}
