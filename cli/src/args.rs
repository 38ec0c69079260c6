//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use steading_runtime::telemetry::{LogFormat, TelemetryConfig};
use steading_sim::SimConfig;

use crate::{kinds::Scope, output::Format};

/// Image of the machines where nothing is really imported.
pub const EXAMPLE_IMAGE: &str = "https://images.example.test/ubuntu-24.04.qcow2";

/// Tenant Kubernetes clusters on bare metal through KubeVirt.
#[derive(Debug, Parser)]
#[command(name = "steading", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// Where and how.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Address of the gateway, or of one service.
    #[arg(
        long,
        global = true,
        env = "STEADING_SERVER",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub server: String,
    /// Project id, where a name is not given in full.
    #[arg(long, short = 'p', global = true, env = "STEADING_PROJECT", value_name = "ID")]
    pub project: Option<String>,
    /// Cluster id, where a name is not given in full.
    #[arg(long, short = 'c', global = true, env = "STEADING_CLUSTER", value_name = "ID")]
    pub cluster: Option<String>,
    /// Output format.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

impl Global {
    /// The parents that flags and environment give.
    pub fn scope(&self) -> Scope {
        Scope {
            project: self.project.clone(),
            cluster: self.cluster.clone(),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: services, gateway and, unless a kubeconfig is given, a simulated infra cluster.
    Up(UpArgs),
    /// Watch Steading build a tenant cluster, give it storage and a load balancer, and drain a bare-metal node.
    Demo(DemoArgs),
    /// Serve the simulated infra cluster alone, for services that run as processes of their own.
    Sim(SimArgs),
    /// Create or update resources from files.
    Apply(ApplyArgs),
    /// Show one resource or a list.
    Get(GetArgs),
    /// Show one resource at length.
    Describe(NameArgs),
    /// Delete a resource, or what a file names.
    Delete(DeleteArgs),
    /// Follow the changes of a collection.
    Watch(WatchArgs),
    /// Set the replicas of a machine pool.
    Scale(ScaleArgs),
    /// Show the VirtualMachine that a machine template would make.
    Render(RenderArgs),
    /// Show what a maintenance of an infra node would do with each machine, moving nothing.
    PlanMaintenance(InfraNodeArgs),
    /// Drain an infra node: show the plan, move its machines, follow the progress.
    Drain(DrainArgs),
    /// List maintenances, complete one to give its infra node back, or cancel one.
    Maintenance {
        /// What to do.
        #[command(subcommand)]
        command: MaintenanceCommand,
    },
    /// List the resource kinds and what can be done with them.
    Kinds,
    /// Print the roles that the services need in the infra cluster, for `kubectl apply -f -`.
    Rights(RightsArgs),
}

/// Options of the simulated infra cluster.
#[derive(Debug, Clone, Args)]
pub struct SimulationArgs {
    /// Bare-metal nodes of the simulated infra cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    pub infra_nodes: u32,
    /// Zones that the nodes are spread over.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    pub zones: u32,
    /// Seed of everything that the simulation draws.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub seed: u64,
}

impl SimulationArgs {
    /// The simulation that the arguments describe.
    pub fn config(&self) -> SimConfig {
        SimConfig {
            infra_nodes: self.infra_nodes,
            zones: self.zones,
            seed: self.seed,
            ..SimConfig::default()
        }
    }
}

/// Logs of services that run in this process. They go to standard error.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Filter of log lines, such as `info,steading_storage=debug` [default: RUST_LOG, or info].
    #[arg(long, env = "STEADING_LOG_FILTER", value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// How log lines look.
    #[arg(long, env = "STEADING_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

impl LogArgs {
    /// What telemetry is to do.
    pub fn config(&self) -> TelemetryConfig {
        let filter = self.log_filter.clone().or_else(|| std::env::var("RUST_LOG").ok());
        TelemetryConfig {
            format: self.log_format,
            filter: filter
                .filter(|filter| !filter.is_empty())
                .unwrap_or_else(|| "info".to_owned()),
            otlp_endpoint: None,
        }
    }
}

/// `up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Address of the gateway; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// The simulation's shape.
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Use this infra cluster instead of a simulated one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["infra_nodes", "zones", "seed"])]
    pub kubeconfig: Option<PathBuf>,
    /// Where to write the simulated infra cluster's kubeconfig [default: a file below the temporary directory].
    #[arg(long, value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Print the addresses as one JSON line.
    #[arg(long)]
    pub json: bool,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The simulation's shape.
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Run on this infra cluster instead of a simulated one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["infra_nodes", "zones", "seed"])]
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the tenant cluster that the machines join, where nothing in the infra cluster supplies one.
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    pub tenant_kubeconfig: Option<PathBuf>,
    /// Image of the machines' disks, where the infra cluster really imports it.
    #[arg(long, value_name = "URL", default_value = EXAMPLE_IMAGE)]
    pub image: String,
    /// Only delete what an earlier demonstration has left there.
    #[arg(long, requires = "kubeconfig", conflicts_with = "keep")]
    pub clean_up: bool,
    /// Print one JSON event a line and a last line with the summary.
    #[arg(long)]
    pub json: bool,
    /// Leave everything there and running at the end, until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Do not pause between the steps for the reader's sake, and run the simulation at full speed.
    #[arg(long)]
    pub fast: bool,
}

/// `sim`.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// Address of the simulated API server.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Server address to put into kubeconfigs, where others reach this one by another name.
    #[arg(long, value_name = "URL")]
    pub advertise: Option<String>,
    /// The simulation's shape.
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Where to write the kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub write_kubeconfig: PathBuf,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Waiting for the services.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Wait until the services have done what was asked; exit code 3 if that fails.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as `90s`, `10m` or `1h30m`; exit code 4 after that.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration, requires = "wait")]
    pub timeout: Duration,
}

/// A duration as people write it.
fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| "must be like 90s, 10m or 1h30m".to_owned())?;
    Duration::try_from(span).map_err(|_| "must not be negative".to_owned())
}

/// `apply`.
#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    /// YAML or JSON documents; `-` reads standard input.
    #[arg(long, short = 'f', required = true, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// Validate the request without changing anything.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until each resource has settled.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `get`.
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// Kind: singular, collection or short form.
    pub kind: String,
    /// Id or full name; without it, the collection, or the only one there is.
    pub name: Option<String>,
    /// List only what matches, for example `state=RUNNING AND labels.tier=web`.
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Collection of this parent instead of --project and --cluster.
    #[arg(long, value_name = "NAME")]
    pub parent: Option<String>,
    /// Order, where the kind offers one.
    #[arg(long, value_name = "FIELDS")]
    pub order_by: Option<String>,
}

/// A kind and a name.
#[derive(Debug, Clone, Args)]
pub struct NameArgs {
    /// Kind: singular, collection or short form.
    pub kind: String,
    /// Id or full name; not needed where there is only one.
    pub name: Option<String>,
}

/// `delete`.
#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    /// Kind: singular, collection or short form.
    #[arg(required_unless_present = "filename", requires = "name")]
    pub kind: Option<String>,
    /// Id or full name.
    pub name: Option<String>,
    /// Delete what these documents name, last first.
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "kind")]
    pub filename: Vec<PathBuf>,
    /// Delete the children too.
    #[arg(long)]
    pub force: bool,
    /// Succeed if it does not exist.
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Validate the request without changing anything.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until it is gone.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Kind: singular, collection or short form.
    pub kind: String,
    /// Watch only what matches.
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Collection of this parent instead of --project and --cluster.
    #[arg(long, value_name = "NAME")]
    pub parent: Option<String>,
}

/// `scale`.
#[derive(Debug, Clone, Args)]
pub struct ScaleArgs {
    /// Machine pool: id or full name.
    pub pool: String,
    /// How many machines.
    #[arg(long, value_name = "N")]
    pub replicas: i32,
    /// Validate the request without changing anything.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until the machines are ready.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `render`.
#[derive(Debug, Clone, Args)]
pub struct RenderArgs {
    /// Machine template: id or full name.
    pub template: String,
    /// Revision instead of the newest.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
}

/// An infra node.
#[derive(Debug, Clone, Args)]
pub struct InfraNodeArgs {
    /// Infra node: id or full name.
    pub infra_node: String,
}

/// `drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    /// Infra node: id or full name.
    pub infra_node: String,
    /// Do not ask for confirmation.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Id of the maintenance [default: made from the infra node's].
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Return as soon as the maintenance has started.
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait, such as `90s`, `10m` or `1h30m`; exit code 4 after that.
    #[arg(long, value_name = "DURATION", default_value = "4h", value_parser = duration, conflicts_with = "no_wait")]
    pub timeout: Duration,
}

/// `maintenance`.
#[derive(Debug, Clone, Subcommand)]
pub enum MaintenanceCommand {
    /// List all maintenances.
    List,
    /// Give a drained infra node back: it becomes schedulable again.
    Complete(MaintenanceArgs),
    /// Begin no further moves, let those that have begun end, and give the infra node back.
    Cancel(MaintenanceArgs),
}

/// A maintenance.
#[derive(Debug, Clone, Args)]
pub struct MaintenanceArgs {
    /// Maintenance: id or full name.
    pub maintenance: String,
    /// Wait until it has ended.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `rights`.
#[derive(Debug, Clone, Args)]
pub struct RightsArgs {
    /// User to bind the roles to: the common name of its certificate or the subject of its token.
    #[arg(long, value_name = "NAME")]
    pub user: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "x", "10", "-5m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
