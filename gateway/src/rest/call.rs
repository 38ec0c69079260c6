//! Calls to services: one attempt, and attempts until one is answered.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use steading_runtime::tasks::Chain;

use super::context::{Ask, Call, garbage};
use crate::body::{Body, CollectError, collect};
use crate::code::Code;
use crate::problem::Problem;
use crate::room::Reservation;
use crate::upstream::{Pace, Ticket};
use crate::{frame, headers, retry};

/// What is left of the time. What receiving and earlier attempts took is the client's, too.
pub(super) fn left(call: &Call<'_>, time: Duration) -> Result<Duration, Problem> {
    let left = time.saturating_sub(call.started.elapsed());
    if left.is_zero() { Err(call.too_late()) } else { Ok(left) }
}

/// The request that a service gets.
pub(super) fn outgoing(call: &Call<'_>, ask: &Ask<'_>, left: Duration, body: Body) -> Result<Request<Body>, Problem> {
    let internal = || call.problem(Code::Internal, "INTERNAL", "the call could not be built");
    let upstream = call.state.upstreams.of(&ask.rpc.service).ok_or_else(internal)?;
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = upstream.uri(&*ask.rpc.path).ok_or_else(internal)?;
    *request.version_mut() = Version::HTTP_2;
    let config = &call.state.config;
    *request.headers_mut() = headers::upstream(ask.headers, call.request_id, &config.forward_headers, left);
    if config.traces {
        steading_runtime::trace::inject(request.headers_mut(), None);
    }
    Ok(request)
}

/// Calls a unary method until it answers, where and as long as repeating makes sense.
pub(super) async fn repeated(
    call: &Call<'_>,
    ask: &Ask<'_>,
    message: Bytes,
    reserved: &mut Reservation,
) -> Result<(HeaderMap, Bytes), Problem> {
    call.state.retries.earn();
    let mut times = 0;
    loop {
        let left = left(call, ask.time)?;
        let request = outgoing(call, ask, left, Body::Call(message.clone()))?;
        let attempt = tokio::time::timeout(left, unary(call, request, &ask.rpc.service, Pace::Gateway, reserved)).await;
        let problem = match attempt {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(problem)) => problem,
            Err(_) => {
                let text = "the service did not answer in time";
                return Err(call.problem(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text));
            }
        };
        let pause = retry::pause(times, rand::random());
        let in_time = call.started.elapsed() + pause < ask.time;
        let worthwhile = retry::is_worthwhile(ask.rpc.idempotent, problem.code, problem.asks_to_wait(), times);
        if !worthwhile || !in_time || !call.state.retries.spend() {
            return Err(problem);
        }
        tokio::time::sleep(pause).await;
        times += 1;
    }
}

/// Sends a call and looks at the head of the reply; an error that comes instead of a reply is the problem. The ticket is to be kept until the
/// reply has ended.
pub(crate) async fn head(
    call: &Call<'_>,
    request: Request<Body>,
    service: &str,
    pace: Pace,
) -> Result<(Response<Incoming>, Option<Ticket>), Problem> {
    let unavailable = || {
        let text = format!("service {service} cannot be reached");
        call.problem(Code::Unavailable, "PEER_UNAVAILABLE", text)
    };
    let upstream = call.state.upstreams.of(service).ok_or_else(unavailable)?;
    let (response, ticket) = upstream.send(request, pace).await.map_err(|error| {
        tracing::warn!(service, error = %Chain(&error), "call to a service failed");
        unavailable()
    })?;
    if response.status() != StatusCode::OK {
        let code = Code::from_http(response.status());
        let text = format!("service {service} answered HTTP {}", response.status());
        return Err(call.problem(code, "PEER_UNAVAILABLE", text));
    }
    let domain = &call.state.config.error_domain;
    if response.headers().contains_key("grpc-status")
        && let Some(problem) = Problem::from_trailers(call.generation.catalog.schema(), response.headers(), domain)
    {
        return Err(problem);
    }
    Ok((response, ticket))
}

/// One attempt at a method with one reply: its metadata and its message.
pub(super) async fn unary(
    call: &Call<'_>,
    request: Request<Body>,
    service: &str,
    pace: Pace,
    reserved: &mut Reservation,
) -> Result<(HeaderMap, Bytes), Problem> {
    let limit = call.state.config.limits.reply_bytes;
    let (response, _ticket) = head(call, request, service, pace).await?;
    let (parts, body) = response.into_parts();
    let collected = collect(body, limit.saturating_add(frame::PREFIX), reserved).await;
    let (body, trailers) = collected.map_err(|error| match error {
        CollectError::TooLarge => {
            let text = format!("the reply is larger than {limit} bytes");
            call.problem(Code::ResourceExhausted, "REPLY_TOO_LARGE", text)
                .with_http(StatusCode::INTERNAL_SERVER_ERROR)
        }
        CollectError::NoRoom => call.no_room(),
        CollectError::Broken => {
            let text = format!("service {service} broke off its reply");
            call.problem(Code::Unavailable, "PEER_UNAVAILABLE", text)
        }
    })?;
    let domain = &call.state.config.error_domain;
    // A reply of no message at all may have its status in the head.
    let trailers = trailers.as_ref().unwrap_or(&parts.headers);
    if let Some(problem) = Problem::from_trailers(call.generation.catalog.schema(), trailers, domain) {
        return Err(problem);
    }
    let message = frame::single(body).map_err(|error| garbage(call, &error))?;
    Ok((parts.headers, message))
}
