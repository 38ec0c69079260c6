//! Configuration of scheduling.

use steading_controller::SourceConfig;
use steading_infra::labels;
use steading_runtime::{lease::LeaseConfig, server::ServerConfig};

/// What the service is told at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Authentication, limits, metrics and readiness of the gRPC server.
    pub server: ServerConfig,
    /// Which lease makes a replica the one that reconciles.
    pub lease: LeaseConfig,
    /// How the infra cluster is watched.
    pub sources: SourceConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::default(),
            lease: LeaseConfig::new(labels::SYSTEM_NAMESPACE, labels::SCHEDULING_MANAGER),
            sources: SourceConfig::default(),
        }
    }
}
