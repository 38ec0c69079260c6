//! The span of a call, a child of the caller's.

use axum::{extract::Request, middleware::Next, response::Response};
use tracing::{Instrument, field::Empty};

use super::{request_id::RequestId, stack::is_infrastructure};
use crate::trace::adopt;

/// Runs the call in its span. Health checks and reflection have none: they would drown the rest.
pub async fn layer(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if is_infrastructure(path) {
        return next.run(request).await;
    }
    let method = path.strip_prefix('/').unwrap_or(path);
    let id = request
        .extensions()
        .get::<RequestId>()
        .map(|id| id.0.as_str())
        .unwrap_or_default();
    let span = tracing::info_span!(
        "call",
        otel.name = method,
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        otel.status_code = Empty,
        request_id = id,
        principal = Empty,
    );
    adopt(&span, request.headers());
    next.run(request).instrument(span).await
}
