//! The gRPC server of every service.
//!
//! ```text
//!  accept ─► connection (HTTP/2, keepalive, stream limit)
//!              └► request id ─► trace ─► measure ─► explain ─► catch panic ─► limit ─► admit ─► handler
//! ```
//!
//! | layer | what it does | why at this height |
//! |---|---|---|
//! | [`layers::request_id`] | takes or makes `x-request-id`, answers with it | everything below logs under it |
//! | [`layers::trace`] | span of the call, child of the caller's W3C context | everything below is inside the span |
//! | [`layers::measure`] | duration by method and code, open calls, access log; ends streams on drain | sees every answer, also refusals |
//! | [`layers::explain`] | gives errors that tonic made a reason and details | no error without `ErrorInfo` leaves |
//! | [`layers::catch_panic`] | a panic is `INTERNAL` | above all of our code |
//! | [`layers::limit`] | sheds what is more than the server can hold | before any work |
//! | [`layers::admit`] | who calls, deadline, [`CallContext`](crate::CallContext) | last: handlers need it |
//!
//! Shutdown: not ready and `NOT_SERVING` → listener closed → connections told to go away, streams ended → calls in
//! flight finish → after the drain's deadline what is left is cut off. Dropping the future of [`GrpcServer::run`] cuts off
//! everything at once, as a crash would.

use std::{collections::HashSet, convert::Infallible, sync::Arc};

use http::Request;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, server::NamedService, service::Routes, service::RoutesBuilder};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service;

use crate::auth::Reach;

mod body;
mod config;
mod connections;
pub mod layers;

pub use config::{Limits, ServerConfig};

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Dev mode on an address that others can reach.
    #[error("dev mode lets everybody do everything, so it serves on loopback addresses only, not on {0}")]
    NotLoopback(std::net::SocketAddr),
    /// The listener does not tell its address.
    #[error("listener is not usable")]
    Listener(#[source] std::io::Error),
    /// The contracts do not decode.
    #[error("descriptor set cannot be read")]
    Descriptors(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Builds and runs one gRPC server; see the module.
pub struct GrpcServer {
    name: String,
    config: ServerConfig,
    descriptors: Vec<u8>,
    services: Vec<&'static str>,
    routes: RoutesBuilder,
    health: HealthReporter,
}

impl GrpcServer {
    /// A server called `name` in logs and metrics, with health checks and nothing else yet. It denies every call
    /// until [`Self::config`] says otherwise.
    pub fn builder(name: impl Into<String>) -> Self {
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut routes = Routes::builder();
        routes.add_service(health_service);
        Self {
            name: name.into(),
            config: ServerConfig::default(),
            descriptors: steading_api::FILE_DESCRIPTOR_SET.to_vec(),
            services: Vec::new(),
            routes,
            health,
        }
    }

    /// Sets authentication, limits, metrics and readiness.
    #[must_use]
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Replaces the contracts that reflection tells of; an encoded `FileDescriptorSet`. Steading's own by default.
    #[must_use]
    pub fn descriptors(mut self, encoded: &[u8]) -> Self {
        self.descriptors = encoded.to_vec();
        self
    }

    /// Adds a generated service. Its health stands under its full name.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Serves until `cancel` is cancelled, then drains.
    ///
    /// # Errors
    /// If serving cannot begin; nothing that happens to a single connection ends the server.
    pub async fn run(mut self, listener: TcpListener, cancel: CancellationToken) -> Result<(), ServerError> {
        let address = listener.local_addr().map_err(ServerError::Listener)?;
        if self.config.auth.reach() == Reach::Loopback && !address.ip().is_loopback() {
            return Err(ServerError::NotLoopback(address));
        }
        self.add_reflection()?;
        let gate = self.config.readiness.gate(&self.name);
        let stack = Arc::new(layers::stack::Stack::new(
            self.name.clone(),
            &self.config,
            self.methods()?,
            cancel.child_token(),
        ));
        let service = layers::wrap(std::mem::take(&mut self.routes).routes().prepare(), stack);
        self.set_health(ServingStatus::Serving).await;
        gate.ready();
        tracing::info!(server = %self.name, %address, "serving");

        let connections = connections::Connections::new(self.config.limits.clone());
        connections.accept(listener, service, cancel.cancelled()).await;

        gate.not_ready("draining");
        self.set_health(ServingStatus::NotServing).await;
        tracing::info!(server = %self.name, "draining");
        let left = connections.drain(self.config.limits.drain).await;
        if left > 0 {
            tracing::warn!(server = %self.name, connections = left, "cut off what did not end in time");
        }
        Ok(())
    }

    async fn set_health(&self, status: ServingStatus) {
        for service in self.services.iter().copied().chain([""]) {
            self.health.set_service_status(service, status).await;
        }
    }

    fn add_reflection(&mut self) -> Result<(), ServerError> {
        let builder = || {
            let mut builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(&self.descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // Clients such as grpcurl look up what the details of errors are.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health")
                .with_service_name("grpc.reflection.v1.ServerReflection")
                .with_service_name("grpc.reflection.v1alpha.ServerReflection");
            for service in &self.services {
                builder = builder.with_service_name(*service);
            }
            builder
        };
        let v1 = builder().build_v1().map_err(|e| ServerError::Descriptors(e.into()))?;
        let v1alpha = builder()
            .build_v1alpha()
            .map_err(|e| ServerError::Descriptors(e.into()))?;
        self.routes.add_service(v1).add_service(v1alpha);
        Ok(())
    }

    /// The methods that metrics may name: a client must not be able to make up series.
    fn methods(&self) -> Result<HashSet<String>, ServerError> {
        let set = prost_types::FileDescriptorSet::decode(self.descriptors.as_slice())
            .map_err(|e| ServerError::Descriptors(e.into()))?;
        let mut methods = HashSet::new();
        for file in &set.file {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| format!("{full}/{}", method.name())));
            }
        }
        Ok(methods)
    }
}

impl std::fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcServer")
            .field("name", &self.name)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
