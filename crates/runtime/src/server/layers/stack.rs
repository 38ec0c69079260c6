//! What the layers of one server share.

use std::{collections::HashSet, sync::Arc};

use axum::response::Response;
use steading_api::error::RpcError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    auth::Auth,
    metrics::Metrics,
    server::config::{Limits, ServerConfig},
};

/// What the layers of one server share.
#[derive(Debug)]
pub struct Stack {
    pub(super) name: String,
    pub(super) auth: Auth,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    pub(super) methods: HashSet<String>,
    pub(super) drain: CancellationToken,
    pub(super) calls: Arc<Semaphore>,
    pub(super) open_calls: Arc<Semaphore>,
}

impl Stack {
    pub(in crate::server) fn new(
        name: String,
        config: &ServerConfig,
        methods: HashSet<String>,
        drain: CancellationToken,
    ) -> Self {
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
    pub(super) fn method<'a>(&self, path: &'a str) -> &'a str {
        let method = path.strip_prefix('/').unwrap_or(path);
        if self.methods.contains(method) || is_infrastructure(path) {
            method
        } else {
            "other"
        }
    }
}

/// Health and reflection: they need no identity and are not logged.
pub(super) fn is_infrastructure(path: &str) -> bool {
    const METHODS: [&str; 4] = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    METHODS.contains(&path)
}

/// An error as the whole answer.
pub(super) fn answer(error: RpcError) -> Response {
    Status::from(error).into_http()
}
