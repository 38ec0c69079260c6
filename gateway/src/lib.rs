//! The API gateway: REST with JSON in front of gRPC services, by their descriptors alone.
//!
//! It knows no service at build time. [`Gateway::new`] compiles descriptor sets into routes (an ambiguous or
//! unroutable HTTP rule stops it, by name), [`Gateway::run`] serves on one port, HTTP/1.1 and HTTP/2 with prior
//! knowledge:
//!
//! ```text
//! connection ─ stack::serve ─┬─ reflection, overall health      builtin
//!                            ├─ native gRPC, gRPC-Web           grpc      ─┐
//!                            ├─ /openapi.json                              ├─ upstream ─► services
//!                            └─ REST: route, decode, call       rest      ─┤
//!                                └─ replies one by one          stream    ─┘
//! ```
//!
//! Invariants:
//! - A request that cannot be right never reaches a service, and is never answered with a 5xx.
//! - Every REST error has one shape, whoever made it.
//! - Every body, message, header section, wait and connection count has a limit in [`Limits`].
//! - Only calls of methods that are marked idempotent are made again, and only a share of all calls (`retry`).
//! - The gateway authenticates nobody: it forwards credentials, and services decide.

mod body;
mod builtin;
mod code;
mod compress;
mod config;
mod cors;
mod frame;
mod grpc;
mod headers;
mod metrics;
mod problem;
mod rest;
mod retry;
mod server;
mod stack;
mod stream;
mod upstream;

use std::sync::Arc;

use bytes::Bytes;
use steading_transcode::{Catalog, CatalogError, openapi};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use code::Code;
pub use config::{Config, Limits, Route};
pub use upstream::UpstreamError;

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptor sets cannot be served.
    #[error("descriptors cannot be served")]
    Catalog(#[from] CatalogError),
    /// An upstream cannot be used.
    #[error("upstream cannot be used")]
    Upstream(#[from] UpstreamError),
    /// Reflection cannot serve the descriptors.
    #[error("descriptors cannot be reflected")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A gateway that is ready to run.
pub struct Gateway {
    catalog: Catalog,
    config: Config,
    upstreams: upstream::Upstreams,
    builtins: builtin::Builtins,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Compiles everything; connects to nothing.
    ///
    /// # Errors
    /// The descriptors or upstreams cannot be served.
    pub fn new(config: Config) -> Result<Self, Error> {
        let upstreams = upstream::Upstreams::new(&config.upstreams, &config.limits)?;
        let sets: Vec<&[u8]> = config.descriptor_sets.iter().map(Bytes::as_ref).collect();
        // Error details must be readable whether or not the services' descriptors mention them.
        let library = [tonic_types::pb::FILE_DESCRIPTOR_SET];
        let catalog = Catalog::new(&sets, &library, |service| upstreams.of(service).is_some())?;
        let builtins = builtin::Builtins::new(catalog.pool())?;
        Ok(Self {
            catalog,
            config,
            upstreams,
            builtins,
        })
    }

    /// What is served, for those who want to look.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The OpenAPI document that `/openapi.json` serves.
    pub fn openapi(&self) -> String {
        let options = openapi::Options {
            title: self.config.title.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..openapi::Options::default()
        };
        openapi::document_of(&self.catalog, &options).to_string()
    }

    /// Serves until `cancel` is cancelled, and returns when what was in flight has ended or its time is up.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) {
        let openapi = Bytes::from(self.openapi());
        let metrics = self.config.metrics.as_ref().map(metrics::RequestMetrics::register);
        let state = Arc::new(stack::Shared {
            config: self.config,
            catalog: self.catalog,
            upstreams: self.upstreams,
            builtins: self.builtins,
            metrics,
            retries: retry::Budget::default(),
            openapi,
            drain: CancellationToken::new(),
        });
        server::run(listener, state, cancel).await;
    }
}
