//! Configuration of templating.

use std::time::Duration;

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
    /// How often everything is looked at although nothing changed: heals what a lost event left behind.
    pub resync: Duration,
    /// How kinds are watched: timeouts and pauses. Selectors are the service's own.
    pub source: SourceConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::default(),
            lease: LeaseConfig::new(labels::SYSTEM_NAMESPACE, labels::TEMPLATING_MANAGER),
            resync: Duration::from_secs(300),
            source: SourceConfig::default(),
        }
    }
}
