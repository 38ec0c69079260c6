//! A panic in a handler is a fault of ours and the answer `INTERNAL`, not a broken connection.

use std::panic::AssertUnwindSafe;

use axum::{extract::Request, middleware::Next, response::Response};
use futures::FutureExt;
use steading_api::error::RpcError;

use super::stack::answer;
use crate::tasks::panic_message;

/// Catches panics up to the answer's head; a stream that panics later breaks off.
pub async fn layer(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            tracing::error!(message = %panic_message(&*panic), "a handler panicked");
            answer(RpcError::internal())
        }
    }
}
