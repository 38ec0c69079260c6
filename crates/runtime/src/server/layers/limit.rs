//! Sheds calls beyond what the server holds at once. Waiting in a queue would only make every call late.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use steading_api::{error::RpcError, types::v1::ErrorReason};

use super::stack::{Stack, answer, is_infrastructure};
use crate::server::body::{CallBody, OnEnd, code_in};

/// When a shed client should come back.
const RETRY: Duration = Duration::from_secs(1);

/// Holds one permit while the handler works and one until the answer is sent.
pub async fn layer(State(stack): State<Arc<Stack>>, request: Request, next: Next) -> Response {
    // A full server is still alive.
    if is_infrastructure(request.uri().path()) {
        return next.run(request).await;
    }
    let (Ok(open), Ok(working)) = (
        Arc::clone(&stack.open_calls).try_acquire_owned(),
        Arc::clone(&stack.calls).try_acquire_owned(),
    ) else {
        let text = "the service has more calls than it can hold";
        return answer(RpcError::new(ErrorReason::RateLimited, text).with_retry_after(RETRY));
    };
    let response = next.run(request).await;
    drop(working);
    let code = code_in(response.headers());
    let release: OnEnd = Box::new(move |_| drop(open));
    response.map(|body| Body::new(CallBody::new(body, code).on_end(release)))
}
