//! Configuration of templating.

use steading_runtime::server::ServerConfig;

/// What the service is told at start.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Authentication, limits, metrics and readiness of the gRPC server.
    pub server: ServerConfig,
}
