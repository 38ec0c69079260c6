//! `steading sim`: the simulated infra cluster alone.

use std::time::Duration;

use anyhow::Context as _;
use steading_infra::{apply::FieldManager, install};
use steading_runtime::{shutdown, telemetry};
use steading_sim::Sim;

use crate::{args::SimArgs, output::out};

/// Serves it until Ctrl-C or SIGTERM, with Steading's kinds installed.
///
/// # Errors
/// When the address cannot be bound or the kubeconfig cannot be written.
pub async fn run(args: SimArgs) -> anyhow::Result<()> {
    let _telemetry = telemetry::init("steading-sim", &args.log.config())?;
    let mut config = args.simulation.config();
    config.listen = args.listen;
    config.advertise = args.advertise;
    let sim = Sim::start(config).await?;
    let client = sim.client();
    install::install_crds(&client, FieldManager::Lifecycle, Duration::from_secs(30)).await?;
    install::ensure_system_namespace(&client, FieldManager::Lifecycle).await?;
    std::fs::write(&args.write_kubeconfig, sim.kubeconfig())
        .with_context(|| format!("cannot write {}", args.write_kubeconfig.display()))?;
    out::line(format_args!(
        "simulated infra cluster on {}; kubeconfig in {}",
        sim.address(),
        args.write_kubeconfig.display()
    ))?;
    shutdown::signal().await?;
    sim.stop().await;
    Ok(())
}
