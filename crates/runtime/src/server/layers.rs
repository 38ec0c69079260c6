//! The layers between a connection and a handler, a file each; their order is [`wrap`]'s.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    response::Response,
};
use steading_api::error::RpcError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};

use super::{Limits, ServerConfig};
use crate::{auth::Auth, metrics::Metrics};

pub mod admit;
pub mod catch_panic;
pub mod explain;
pub mod limit;
pub mod measure;
pub mod request_id;
pub mod trace;

/// What the layers of one server share.
#[derive(Debug)]
pub struct Stack {
    name: String,
    auth: Auth,
    limits: Limits,
    metrics: Metrics,
    methods: HashSet<String>,
    drain: CancellationToken,
    calls: Arc<Semaphore>,
    open_calls: Arc<Semaphore>,
}

impl Stack {
    pub(super) fn new(name: String, config: &ServerConfig, methods: HashSet<String>, drain: CancellationToken) -> Self {
        Self {
            name,
            auth: config.auth.clone(),
            calls: Arc::new(Semaphore::new(config.limits.calls)),
            open_calls: Arc::new(Semaphore::new(config.limits.open_calls)),
            limits: config.limits.clone(),
            metrics: config.metrics.clone(),
            methods,
            drain,
        }
    }

    /// The method of a path as metrics may name it.
    fn method<'a>(&self, path: &'a str) -> &'a str {
        let method = path.strip_prefix('/').unwrap_or(path);
        if self.methods.contains(method) || is_infrastructure(path) {
            method
        } else {
            "other"
        }
    }
}

/// Health and reflection: they need no identity and are not logged.
fn is_infrastructure(path: &str) -> bool {
    const METHODS: [&str; 4] = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    METHODS.contains(&path)
}

/// Puts the layers around the services. Each goes around those before it: the last line is the outermost.
pub(super) fn wrap(routes: Routes, stack: Arc<Stack>) -> Router {
    routes
        .into_axum_router()
        .layer(from_fn_with_state(Arc::clone(&stack), admit::layer))
        .layer(from_fn_with_state(Arc::clone(&stack), limit::layer))
        .layer(from_fn(catch_panic::layer))
        .layer(from_fn(explain::layer))
        .layer(from_fn_with_state(stack, measure::layer))
        .layer(from_fn(trace::layer))
        .layer(from_fn(request_id::layer))
}

/// An error as the whole answer.
fn answer(error: RpcError) -> Response {
    Status::from(error).into_http()
}
