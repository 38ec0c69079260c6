//! Native gRPC and gRPC-Web: passed on by the service's name, unread.

pub(crate) mod dialect;
mod passing;
mod web;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use steading_runtime::deadline;
use steading_runtime::tasks::Chain;
use steading_transcode::{Method, wire};

use crate::body::Body;
use crate::code::Code;
use crate::headers::{self, REQUEST_ID};
use crate::pace;
use crate::rate::Caller;
use crate::state::State;
use crate::upstream::Pace;
use dialect::{Dialect, code_in, trailers_only};
use passing::{OnEnd, Passing};

/// A call that is passed on.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a State,
    /// `None` if the descriptors do not have it; its service may all the same.
    pub(crate) method: Option<&'a Method>,
    pub(crate) dialect: Dialect,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) address: IpAddr,
    /// When the request came; deadlines count from here.
    pub(crate) started: Instant,
}

impl Call<'_> {
    /// What metrics call it.
    fn route(&self) -> &str {
        self.method.map_or("grpc", |method| &method.path)
    }
}

/// Passes a call on.
pub(crate) async fn serve(call: &Call<'_>, request: Request<Incoming>) -> Response<Body> {
    let method = request.uri().path().trim_start_matches('/');
    let caller = Caller::of(
        request.headers(),
        call.state.config.caller_header.as_ref(),
        call.address,
    );
    let verdict = call.state.rates.check(method, &caller);
    let mut response = match verdict.as_ref().and_then(|verdict| verdict.wait) {
        Some(wait) => over_limit(call.dialect, wait),
        None => passed(call, request).await,
    };
    if let Some(verdict) = verdict {
        verdict.tell(response.headers_mut());
    }
    // An answer that is all head has its code there; that of the others comes with their trailers.
    if let (Some(metrics), Some(code)) = (&call.state.metrics, code_in(response.headers())) {
        metrics.call_ended(call.route(), code);
    }
    response
}

/// A rate limit refuses the call for now.
fn over_limit(dialect: Dialect, wait: Duration) -> Response<Body> {
    let message = "too many calls: a rate limit is reached";
    let mut response = trailers_only(dialect, Code::ResourceExhausted, message);
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(retry_status(message, wait));
    if let Ok(details) = HeaderValue::try_from(details) {
        response.headers_mut().insert("grpc-status-details-bin", details);
    }
    response
}

/// A `google.rpc.Status` with a `google.rpc.RetryInfo`.
fn retry_status(message: &str, wait: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_tag(&mut out, 1, 0);
    wire::put_varint(&mut out, Code::ResourceExhausted.number() as u64);
    wire::put_bytes(&mut out, 2, message.as_bytes());
    let any = wire::open(&mut out, 3);
    wire::put_bytes(&mut out, 1, b"type.googleapis.com/google.rpc.RetryInfo");
    let info = wire::open(&mut out, 2);
    let delay = wire::open(&mut out, 1);
    for (number, value) in [(1, wait.as_secs()), (2, u64::from(wait.subsec_nanos()))] {
        wire::put_tag(&mut out, number, 0);
        wire::put_varint(&mut out, value);
    }
    wire::close(&mut out, delay);
    wire::close(&mut out, info);
    wire::close(&mut out, any);
    out
}

async fn passed(call: &Call<'_>, request: Request<Incoming>) -> Response<Body> {
    let (state, dialect) = (call.state, call.dialect);
    let path = request.uri().path();
    let service = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .map(|(service, _)| service.to_owned());
    let Some(upstream) = service.as_deref().and_then(|service| state.upstreams.of(service)) else {
        return trailers_only(dialect, Code::Unimplemented, "unknown service");
    };
    let (mut parts, incoming) = request.into_parts();
    let Some(uri) = parts.uri.path_and_query().cloned().and_then(|path| upstream.uri(path)) else {
        return trailers_only(dialect, Code::Unimplemented, "unknown method");
    };
    let version = std::mem::replace(&mut parts.version, Version::HTTP_2);
    parts.uri = uri;
    parts.extensions = http::Extensions::new();
    let Some(left) = left(call, &parts.headers) else {
        return trailers_only(dialect, Code::InvalidArgument, "grpc-timeout is not a timeout");
    };
    if left.is_zero() {
        return late(dialect);
    }
    let until = tokio::time::Instant::now() + left;
    headers::strip_hop_by_hop(&mut parts.headers);
    if dialect == Dialect::Native {
        parts.headers.insert(REQUEST_ID, call.request_id.clone());
        parts.headers.insert(deadline::GRPC_TIMEOUT, deadline::format(left));
        parts.headers.insert("te", HeaderValue::from_static("trailers"));
    } else {
        // A browser adds headers that nobody asked it for, cookies among them.
        parts.headers = headers::web(&parts.headers, call.request_id, &state.config.forward_headers, left);
    }
    if state.config.traces {
        steading_runtime::trace::inject(&mut parts.headers, None);
    }
    let body = match web::request(state, dialect, version, &mut parts.headers, incoming).await {
        Ok(body) => body,
        Err((code, message)) => return trailers_only(dialect, code, message),
    };
    match tokio::time::timeout_at(until, upstream.send(Request::from_parts(parts, body), Pace::Client)).await {
        Ok(Ok((response, ticket))) => {
            answer(call, response, until).map(|body| pace::limited(body.keeping(ticket), state.config.limits.send))
        }
        Ok(Err(error)) => {
            tracing::warn!(service, error = %Chain(&error), "call to a service failed");
            trailers_only(dialect, Code::Unavailable, "service cannot be reached")
        }
        Err(_) => late(dialect),
    }
}

fn late(dialect: Dialect) -> Response<Body> {
    trailers_only(dialect, Code::DeadlineExceeded, "the deadline has passed")
}

/// What is left of the call's time; `None` if the client says it in a form that nobody understands. A method that is not known may be a
/// stream.
fn left(call: &Call<'_>, headers: &HeaderMap) -> Option<Duration> {
    let asked = if headers.contains_key(deadline::GRPC_TIMEOUT) {
        Some(deadline::parse(headers)?)
    } else {
        None
    };
    let streaming = call
        .method
        .is_none_or(|method| method.client_streaming || method.server_streaming);
    let time = call.state.config.limits.time(asked, streaming);
    Some(time.saturating_sub(call.started.elapsed()))
}

fn answer(call: &Call<'_>, response: Response<Incoming>, until: tokio::time::Instant) -> Response<Body> {
    let dialect = call.dialect;
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    let is_grpc = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        return Response::from_parts(parts, Body::Incoming(body));
    }
    let streams = call.method.is_some_and(|method| method.server_streaming);
    let drain = streams.then(|| call.state.drain.clone().cancelled_owned());
    let on_end = || -> Option<OnEnd> {
        let (metrics, route) = (call.state.metrics.clone()?, call.route().to_owned());
        Some(Box::new(move |code| metrics.call_ended(&route, code)))
    };
    let is_over = parts.headers.contains_key("grpc-status");
    let body = Passing::new(body, until, drain, if is_over { None } else { on_end() });
    if matches!(dialect, Dialect::Native | Dialect::Rest) {
        return Response::from_parts(parts, Body::boxed(body));
    }
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(dialect.content_type()));
    parts.headers.remove(http::header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::stream(web::reply(dialect, body)))
}
