//! What a server is told.

use std::time::Duration;

use crate::{admin::Readiness, auth::Auth, metrics::Metrics};

/// Limits of a server. The defaults hold for every service.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Streams that one connection may have open: a client's watches and calls at once.
    pub streams_per_connection: u32,
    /// Unary calls, and openings of streams, being worked on at once; more are shed.
    pub calls: usize,
    /// Calls and streams whose answer is not fully sent; more are shed. Bounds the watches.
    pub open_calls: usize,
    /// Longest deadline that a unary call gets, and what it gets when the client does not say.
    pub deadline: Duration,
    /// Time for what is in flight when the server drains.
    pub drain: Duration,
    /// Time between keepalive pings on a quiet connection.
    pub keepalive_interval: Duration,
    /// Time in which a ping must be answered.
    pub keepalive_timeout: Duration,
    /// Most bytes of a call's metadata.
    pub metadata_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams_per_connection: 512,
            calls: 512,
            open_calls: 8192,
            deadline: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            metadata_bytes: 16 * 1024,
        }
    }
}

/// What a server is told by its process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
    /// Who may call; denies everybody by default.
    pub auth: Auth,
    /// Its limits.
    pub limits: Limits,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where it says that it is ready.
    pub readiness: Readiness,
}

impl ServerConfig {
    /// Everybody may do everything, on loopback addresses only: for development and tests.
    pub fn dev_mode() -> Self {
        Self {
            auth: Auth::dev_mode(),
            ..Self::default()
        }
    }
}
