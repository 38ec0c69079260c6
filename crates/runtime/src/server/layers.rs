//! The layers between a connection and a handler, a file each; their order is [`wrap`]'s.

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use tonic::service::Routes;

use self::stack::Stack;

pub mod admit;
pub mod catch_panic;
pub mod explain;
pub mod limit;
pub mod measure;
pub mod request_id;
pub mod stack;
pub mod trace;

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
