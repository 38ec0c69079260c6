//! Configuration of templating.

use steading_infra::labels;
use steading_runtime::{lease::LeaseConfig, server::ServerConfig};

/// What the service is told at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Authentication, limits, metrics and readiness of the gRPC server.
    pub server: ServerConfig,
    /// Which lease makes a replica the one that reconciles.
    pub lease: LeaseConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::default(),
            lease: LeaseConfig::new(labels::SYSTEM_NAMESPACE, labels::TEMPLATING_MANAGER),
        }
    }
}
