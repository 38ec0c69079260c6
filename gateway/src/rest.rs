//! A REST request: match, admit, decode, call, answer.

mod answer;
mod call;
mod context;
mod receive;
mod upload;

use std::time::Duration;

use http::header::{EXPECT, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use steading_transcode::bind::{self, Parts};
use steading_transcode::{Binding, Matched, RouteError};

use crate::accept::Refused;
use crate::body::{Body, Upload};
use crate::code::Code;
use crate::etag::{Form, LearnedForm};
use crate::problem::Problem;
use crate::rate::Caller;
use crate::stream::{self, Format};
use crate::{etag, frame, headers};

pub(crate) use call::head;
use context::{Ask, DISCARD_BYTES};
pub(crate) use context::{Call, Feed};

/// Answers a request that is neither gRPC nor the gateway's own.
pub(crate) async fn serve(call: &Call<'_>, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    let (parts, incoming) = request.into_parts();
    let mut upload = Upload::new(incoming);
    let answered = serve_upload(call, &parts, &mut upload).await;
    // A connection of HTTP/1 that is closed while its client still writes is reset, and takes the answer with it.
    let waits = parts.headers.contains_key(EXPECT);
    if answered.is_err() && parts.version <= Version::HTTP_11 && upload.is_left(waits) {
        // Whether it ends or the time does, the answer is next.
        let _ = tokio::time::timeout(call.state.config.limits.receive, upload.discard(DISCARD_BYTES)).await;
    }
    answered
}

async fn serve_upload(
    call: &Call<'_>,
    parts: &http::request::Parts,
    upload: &mut Upload,
) -> Result<Response<Body>, Problem> {
    let method = if parts.method == Method::HEAD {
        Method::GET
    } else {
        parts.method.clone()
    };
    let matched = route(call, &method, parts.uri.path())?;
    let binding = matched.binding;
    let catalog = &call.generation.catalog;
    let rpc = catalog.method(binding.method);
    // Set once a call, so it cannot be taken.
    let _ = call.template.set(&binding.rule.template);
    admit(call, &parts.headers, &rpc.path)?;
    let time = deadline(call, &parts.headers, rpc.client_streaming || rpc.server_streaming)?;
    let if_match = precondition(call, &parts.headers, &method, binding)?;
    let mut input = Parts {
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        body: bind::Body::Empty,
        if_match: if_match.as_deref(),
        resume: parts.headers.get("last-event-id").and_then(|value| value.to_str().ok()),
    };
    let format = if rpc.server_streaming {
        Format::of(&parts.headers).map_err(|Refused| not_acceptable(call))?
    } else {
        Format::Lines
    };
    let ask = Ask {
        headers: &parts.headers,
        rpc,
        time,
    };
    if rpc.client_streaming {
        // Boxed, as are streams of replies: most requests are neither, and need not carry their size.
        return Box::pin(upload::serve(call, &matched, &method, input, &ask, format, upload)).await;
    }

    let mut reserved = call.state.room.reserve();
    let received = receive::whole(call, &parts.headers, binding, upload, &mut reserved).await?;
    input.body = received.body();
    let mut message = frame::open(received.len());
    let options = &call.state.config.decode;
    let system =
        bind::request(catalog, &matched, &input, options, &mut message).map_err(|error| call.refused(&error))?;
    let message = frame::seal(message);
    if rpc.server_streaming {
        let left = call::left(call, time)?;
        let outgoing = call::outgoing(call, &ask, left, Body::Call(message))?;
        let streamed = stream::serve(call, binding, system, format, (outgoing, None), left, &rpc.service);
        return Box::pin(streamed).await;
    }
    let reply = call::repeated(call, &ask, message, &mut reserved).await?;
    answer::unary(call, binding, system, (&parts.headers, &method), reply, reserved)
}

fn route<'c>(call: &Call<'c>, method: &Method, path: &str) -> Result<Matched<'c>, Problem> {
    call.generation
        .catalog
        .route(method, path)
        .map_err(|error| match error {
            RouteError::NotFound => call.problem(Code::NotFound, "ROUTE_NOT_FOUND", "no such path"),
            RouteError::MethodNotAllowed { allow } => {
                Problem::method_not_allowed(&allow, &call.state.config.error_domain)
            }
            RouteError::Malformed => call.invalid("", "malformed percent escape in the path"),
        })
}

/// Asks the rate limits, before anything of the body is read.
fn admit(call: &Call<'_>, headers: &HeaderMap, path: &str) -> Result<(), Problem> {
    let config = &call.state.config;
    let caller = Caller::of(headers, config.caller_header.as_ref(), call.address);
    let Some(verdict) = call.state.rates.check(path.trim_start_matches('/'), &caller) else {
        return Ok(());
    };
    let refused = verdict
        .wait
        .map(|wait| Problem::over_limit(&verdict.scope, wait, &config.error_domain));
    // Set once a call, so it cannot be taken.
    let _ = call.verdict.set(verdict);
    refused.map_or(Ok(()), Err)
}

/// How long the call may take: what the client asks for, within the limits.
fn deadline(call: &Call<'_>, headers: &HeaderMap, streaming: bool) -> Result<Duration, Problem> {
    let asked = headers::client_timeout(headers).map_err(|name| call.invalid(name, "not a timeout"))?;
    let time = call.state.config.limits.time(asked, streaming);
    if time.is_zero() {
        return Err(call.too_late());
    }
    Ok(time)
}

/// The etag of `If-Match`. A condition that the method cannot check is refused rather than ignored.
fn precondition(
    call: &Call<'_>,
    headers: &HeaderMap,
    method: &Method,
    binding: &Binding,
) -> Result<Option<String>, Problem> {
    if *method == Method::GET {
        if headers.contains_key(IF_MATCH) {
            return Err(call.invalid("If-Match", "not served for reads; use If-None-Match"));
        }
        return Ok(None);
    }
    if headers.contains_key(IF_NONE_MATCH) {
        return Err(call.invalid("If-None-Match", "served for reads only"));
    }
    let service = &call.generation.catalog.method(binding.method).service;
    let form = call.generation.etags(service).map_or(Form::Bare, LearnedForm::get);
    let etag = etag::if_match(headers, form).map_err(|problem| call.invalid("If-Match", problem))?;
    if etag.is_some() && !binding.takes_etag() {
        return Err(call.invalid("If-Match", "this method has no etag"));
    }
    Ok(etag)
}

/// A client that takes none of the formats of a stream.
fn not_acceptable(call: &Call<'_>) -> Problem {
    let formats = [Format::Lines, Format::Events, Format::Array].map(Format::content_type);
    let text = format!("this method answers with one of {}", formats.join(", "));
    call.problem(Code::InvalidArgument, "NOT_ACCEPTABLE", text)
        .with_http(http::StatusCode::NOT_ACCEPTABLE)
}
