//! Configuration of storage.

use std::time::Duration;

use steading_runtime::server::ServerConfig;

/// What the service is told at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Authentication, limits, metrics and readiness of the gRPC server.
    pub server: ServerConfig,
    /// How often everything is looked at although nothing changed: heals what a lost event left behind.
    pub resync: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { server: ServerConfig::default(), resync: Duration::from_secs(300) }
    }
}
