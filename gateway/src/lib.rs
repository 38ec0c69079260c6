//! The API gateway: REST with JSON in front of gRPC services, by their descriptors alone.
//!
//! It knows no service at build time. [`Gateway::new`] compiles descriptor sets into routes (an ambiguous or
//! unroutable HTTP rule stops it, by name), [`Gateway::run`] serves on one port, HTTP/1.1 and HTTP/2 with prior
//! knowledge:
//!
//! ```text
//! connection ─ stack::serve ─┬─ reflection, overall health      builtin
//!  server                    ├─ native gRPC, gRPC-Web           grpc      ─┐
//!                            ├─ /openapi.json                              ├─ upstream ─► services
//!                            └─ REST: route, decode, call       rest      ─┤
//!                                └─ replies one by one          stream    ─┘
//! ```
//!
//! Invariants:
//! - A request that cannot be right never reaches a service, and is never answered with a 5xx.
//! - Every REST error has one shape, whoever made it.
//! - Every body, message, header section, wait and connection count has a limit in [`Limits`].
//! - Descriptors and certificates may change while it runs ([`Control`]); no request notices.
//! - Only calls of methods that are marked idempotent are made again, and only a share of all calls (`retry`).
//! - The gateway authenticates nobody: it forwards credentials, and services decide.

mod accept;
mod access;
mod body;
mod builtin;
mod code;
mod compress;
mod config;
mod cors;
mod error;
mod etag;
mod frame;
mod generation;
mod grpc;
mod headers;
mod hex;
mod metrics;
mod pace;
mod problem;
mod rate;
mod reflection;
mod rest;
mod retry;
mod room;
mod sanity;
mod scope;
mod server;
mod stack;
mod state;
mod stream;
mod tls;
mod upstream;

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use generation::Generation;

pub use code::Code;
pub use config::{Config, Limits, Route};
pub use error::Error;
pub use rate::{Rate, RateLimit, Whose};
pub use tls::{Identity, Tls, TlsError};
pub use upstream::UpstreamError;

/// A gateway that is ready to run.
pub struct Gateway {
    state: state::State,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.state.config)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Compiles everything; connects to nothing.
    ///
    /// # Errors
    /// The descriptors or upstreams cannot be served.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self {
            state: Arc::new(state::Shared::new(config)?),
        })
    }

    /// A handle that changes the gateway while it runs.
    pub fn control(&self) -> Control {
        Control {
            state: self.state.clone(),
        }
    }

    /// The OpenAPI document that `/openapi.json` serves.
    pub fn openapi(&self) -> Bytes {
        self.state.generation.load().openapi.text.clone()
    }

    /// Serves until `cancel` is cancelled, and returns when what was in flight has ended or its time is up.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) {
        server::run(listener, self.state, cancel).await;
    }
}

/// Changes a gateway while it runs. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    state: state::State,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Serves other descriptors from the next request on. Requests under way end with those that they began with.
    ///
    /// # Errors
    /// The descriptors cannot be served; the present ones stay.
    pub fn replace_descriptors(&self, sets: &[Bytes]) -> Result<(), Error> {
        let next = Generation::compile(&self.state.config, sets, &self.state.upstreams)?;
        self.state.generation.store(Arc::new(next));
        Ok(())
    }

    /// Shows clients another certificate from the next connection on. Where the port is in plaintext it stays so.
    ///
    /// # Errors
    /// It cannot be used; the present one stays.
    pub fn replace_identity(&self, identity: &Identity) -> Result<(), Error> {
        if let Some(present) = &self.state.identity {
            present.store(identity.server()?);
        }
        Ok(())
    }

    /// Connects to `https` upstreams with other certificates from the next call on. Calls under way end on the connections that they have.
    ///
    /// # Errors
    /// The certificates cannot be used; the present ones stay.
    pub fn replace_tls(&self, tls: &Tls) -> Result<(), Error> {
        self.state.upstreams.replace_tls(tls).map_err(UpstreamError::from)?;
        Ok(())
    }
}
