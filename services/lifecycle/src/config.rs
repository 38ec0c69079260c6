//! What the service can be told.

use std::time::Duration;

use steading_controller::SourceConfig;
use steading_infra::labels;
use steading_runtime::{lease::LeaseConfig, server::ServerConfig};

use crate::plan::load_balancer::allowances::Allowances;

/// Arguments of the process.
#[derive(Debug, clap::Parser)]
#[command(name = "steading-lifecycle", about = "Runs tenant clusters, pools and machines.")]
pub struct Args {
    /// What all processes have.
    #[command(flatten)]
    pub common: steading_runtime::args::CommonArgs,
    /// Where the other services are.
    #[command(flatten)]
    pub peers: PeerArgs,
    /// What tenants' load balancers may ask of the infra cluster.
    #[command(flatten)]
    pub load_balancers: Allowances,
}

/// Where the other services are.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerArgs {
    /// Address of templating.
    #[arg(long, env = "STEADING_TEMPLATING", default_value = "http://127.0.0.1:7441")]
    pub templating: String,
    /// Address of scheduling.
    #[arg(long, env = "STEADING_SCHEDULING", default_value = "http://127.0.0.1:7442")]
    pub scheduling: String,
    /// Address of storage.
    #[arg(long, env = "STEADING_STORAGE", default_value = "http://127.0.0.1:7443")]
    pub storage: String,
}

/// How the service runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gRPC server.
    pub server: ServerConfig,
    /// Which lease makes a replica the one that reconciles.
    pub lease: LeaseConfig,
    /// Reconciliations at once. Each is a handful of requests; this keeps a burst below the API server's fair share.
    pub concurrency: usize,
    /// What tenants' load balancers may ask of the infra cluster.
    pub load_balancers: Allowances,
    /// How often everything is looked at again without a signal.
    pub resync: Duration,
    /// How kinds of the infra cluster are watched: timeouts and pauses. Selectors are the service's own.
    pub source: SourceConfig,
    /// Time for background tasks to end.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::default(),
            lease: LeaseConfig::new(labels::SYSTEM_NAMESPACE, labels::LIFECYCLE_MANAGER),
            concurrency: 32,
            load_balancers: Allowances::default(),
            resync: Duration::from_secs(300),
            source: SourceConfig::default(),
            drain: Duration::from_secs(10),
        }
    }
}
