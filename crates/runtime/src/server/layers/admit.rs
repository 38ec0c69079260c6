//! Who calls and until when: makes the [`CallContext`] that handlers live on.
//!
//! A unary call gets the client's deadline, cut to the server's longest; without one it gets the longest. A stream
//! must *begin* within that, and then lives until the deadline that its client set, if it set one.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{Extensions, HeaderMap, header::AUTHORIZATION};
use steading_api::{error::RpcError, types::v1::ErrorReason};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Span;

use super::{
    request_id::RequestId,
    stack::{Stack, answer, is_infrastructure},
};
use crate::{
    auth::Credentials,
    context::CallContext,
    deadline,
    server::{
        body::{CallBody, Cutoff, code_in},
        connections::PeerAddr,
    },
    trace::TraceHeaders,
};

/// Authenticates, sets the deadline and runs the handler within it.
pub async fn layer(State(stack): State<Arc<Stack>>, mut request: Request, next: Next) -> Response {
    if is_infrastructure(request.uri().path()) {
        return next.run(request).await;
    }
    let now = Instant::now();
    let wanted = deadline::parse(request.headers());
    let until = now + wanted.map_or(stack.limits.deadline, |wanted| wanted.min(stack.limits.deadline));
    let answered = timeout_at(until, async {
        let call = match admit(&stack, request.headers(), request.extensions(), until).await {
            Ok(call) => call,
            Err(error) => return answer(error),
        };
        Span::current().record("principal", call.principal().name.as_str());
        request.extensions_mut().insert(call.clone());
        call.scope(next.run(request)).await
    });
    let Ok(response) = answered.await else {
        return answer(exceeded());
    };
    let stream_end = wanted.and_then(|wanted| now.checked_add(wanted));
    match (stream_end, code_in(response.headers())) {
        (Some(end), None) => {
            let cutoff = Cutoff::deadline(sleep_until(end), exceeded());
            response.map(|body| Body::new(CallBody::new(body, None).cutoff(cutoff)))
        }
        _ => response,
    }
}

/// Takes the request's parts, as a body may not be shared between threads.
async fn admit(
    stack: &Stack,
    headers: &HeaderMap,
    extensions: &Extensions,
    until: Instant,
) -> Result<CallContext, RpcError> {
    let peer = extensions.get::<PeerAddr>().map(|peer| peer.0);
    let principal = stack
        .auth
        .authenticator
        .authenticate(Credentials { headers, peer })
        .await?;
    let id = extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    Ok(CallContext::new(principal, id, &stack.auth)
        .with_deadline(Some(until))
        .with_drain(stack.drain.clone())
        .with_incoming(headers.get(AUTHORIZATION).cloned(), TraceHeaders::of(headers)))
}

fn exceeded() -> RpcError {
    RpcError::new(
        ErrorReason::DeadlineExceeded,
        "the deadline passed before the work was done",
    )
}
