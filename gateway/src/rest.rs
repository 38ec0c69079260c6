//! A REST request: match, decode, call, answer.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPECT, IF_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use steading_transcode::bind::{self, Parts, SystemParameters};
use steading_transcode::codec::DecodeOptions;
use steading_transcode::{Binding, InvalidRequest, Matched, RouteError};

use crate::body::{Body, CollectError, Upload, collect};
use crate::code::Code;
use crate::problem::Problem;
use crate::stack::State;
use crate::stream::Format;
use crate::{compress, frame, headers, retry, stream};

/// How much of a refused body is read so that its sender gets to read the answer. Nothing of it is kept; a sender of more is cut off.
const DISCARD_BYTES: u64 = 64 << 20;

/// What every step of a REST call knows.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a State,
    pub(crate) request_id: &'a HeaderValue,
    /// When the request came; deadlines count from here.
    pub(crate) started: Instant,
    /// The template that the path fits, once it is known.
    pub(crate) template: OnceLock<&'a str>,
}

impl Call<'_> {
    pub(crate) fn problem(&self, code: Code, reason: &str, message: impl Into<String>) -> Problem {
        Problem::new(code, reason, message, &self.state.config.error_domain)
    }

    pub(crate) fn invalid(&self, field: &str, description: &str) -> Problem {
        Problem::invalid(
            &InvalidRequest::new(field, description),
            &self.state.config.error_domain,
        )
    }
}

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
    // Set once a call, so it cannot be taken.
    let _ = call.template.set(&binding.rule.template);
    let time = deadline(call, &parts.headers, binding)?;
    let if_match = precondition(call, &parts.headers, &method, binding)?;

    let (content_type, body) = receive(call, &parts.headers, binding, upload).await?;
    let input = Parts {
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        body: match &content_type {
            _ if body.is_empty() => bind::Body::Empty,
            Some(content_type) => bind::Body::Raw {
                content_type,
                data: &body,
            },
            None => bind::Body::Json(&body),
        },
        if_match: if_match.as_deref(),
        resume: parts.headers.get("last-event-id").and_then(|value| value.to_str().ok()),
    };
    let mut message = frame::open(body.len());
    let system = bind::request(
        &call.state.catalog,
        &matched,
        &input,
        &DecodeOptions::default(),
        &mut message,
    )
    .map_err(|error| Problem::invalid(&error, &call.state.config.error_domain))?;

    let rpc = call.state.catalog.method(binding.method);
    if rpc.client_streaming {
        let text = "this method takes a stream of requests: use gRPC";
        return Err(call.problem(Code::Unimplemented, "NOT_IMPLEMENTED", text));
    }
    let message = frame::seal(message);
    let attempt = || {
        // What receiving and earlier attempts took is the client's time, too.
        let left = time.saturating_sub(call.started.elapsed());
        if left.is_zero() {
            return Err(too_late(call));
        }
        let request = outgoing(call, &parts.headers, &rpc.service, &rpc.path, left, message.clone())?;
        Ok((request, left))
    };
    if rpc.server_streaming {
        let (outgoing, left) = attempt()?;
        let format = Format::of(parts.headers.get(ACCEPT));
        return stream::serve(call, binding, system, format, outgoing, left, &rpc.service).await;
    }
    call.state.retries.earn();
    let mut repeated = 0;
    let reply = loop {
        let (outgoing, left) = attempt()?;
        let reply = tokio::time::timeout(left, unary(call, outgoing, &rpc.service)).await;
        let problem = match reply {
            Ok(Ok(reply)) => break reply,
            Ok(Err(problem)) => problem,
            Err(_) => {
                let text = "the service did not answer in time";
                return Err(call.problem(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text));
            }
        };
        let worthwhile = retry::is_worthwhile(rpc.idempotent, problem.code, problem.asks_to_wait(), repeated);
        if !worthwhile || !call.state.retries.spend() {
            return Err(problem);
        }
        tokio::time::sleep(retry::pause(repeated, rand::random())).await;
        repeated += 1;
    };
    answer(call, binding, system, &parts.headers, &method, reply)
}

fn route<'c>(call: &Call<'c>, method: &Method, path: &str) -> Result<Matched<'c>, Problem> {
    call.state.catalog.route(method, path).map_err(|error| match error {
        RouteError::NotFound => call.problem(Code::NotFound, "ROUTE_NOT_FOUND", "no such path"),
        RouteError::MethodNotAllowed { allow } => Problem::method_not_allowed(&allow, &call.state.config.error_domain),
        RouteError::Malformed => call.invalid("", "malformed percent escape in the path"),
    })
}

/// How long the call may take: what the client asks for, within the limits.
fn deadline(call: &Call<'_>, headers: &HeaderMap, binding: &Binding) -> Result<Duration, Problem> {
    let limits = &call.state.config.limits;
    let asked = headers::client_timeout(headers).map_err(|name| call.invalid(name, "not a timeout"))?;
    let streaming = call.state.catalog.method(binding.method).server_streaming;
    let (default, most) = if streaming {
        (limits.max_stream, limits.max_stream)
    } else {
        (limits.default_deadline, limits.max_deadline)
    };
    let time = asked.unwrap_or(default).min(most);
    if time.is_zero() {
        return Err(too_late(call));
    }
    Ok(time)
}

fn too_late(call: &Call<'_>) -> Problem {
    call.problem(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline has passed")
}

/// The etag of `If-Match`. A condition that the method cannot check is refused rather than ignored.
fn precondition(
    call: &Call<'_>,
    headers: &HeaderMap,
    method: &Method,
    binding: &Binding,
) -> Result<Option<String>, Problem> {
    if *method == Method::GET || !headers.contains_key(IF_MATCH) {
        return Ok(None);
    }
    let etag = headers::if_match(headers).map_err(|problem| call.invalid("If-Match", problem))?;
    if etag.is_some() && !binding.takes_etag() {
        return Err(call.invalid("If-Match", "this method has no etag"));
    }
    Ok(etag)
}

/// The request's body, and its content type if it is to be taken as it is.
async fn receive(
    call: &Call<'_>,
    headers: &HeaderMap,
    binding: &Binding,
    upload: &mut Upload,
) -> Result<(Option<String>, Bytes), Problem> {
    let limits = &call.state.config.limits;
    if hyper::body::Body::is_end_stream(upload) {
        return Ok((None, Bytes::new()));
    }
    let raw = binding.takes_raw_body(&call.state.catalog);
    let kind = headers::essence(headers);
    let is_json = kind
        .as_deref()
        .is_none_or(|kind| kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")));
    let coding = headers
        .get(CONTENT_ENCODING)
        .map_or("identity", |value| value.to_str().unwrap_or("?"))
        .to_ascii_lowercase();
    let gzipped = matches!(coding.as_str(), "gzip" | "x-gzip");
    if !gzipped && coding != "identity" {
        let problem = call.problem(
            Code::InvalidArgument,
            "UNSUPPORTED_MEDIA_TYPE",
            "content encoding must be gzip or identity",
        );
        return Err(problem.with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let collected = tokio::time::timeout(limits.receive, collect(upload, limits.request_bytes)).await;
    let (mut body, _) = collected
        .map_err(|_| {
            call.problem(
                Code::DeadlineExceeded,
                "DEADLINE_EXCEEDED",
                "the body did not arrive in time",
            )
            .with_http(StatusCode::REQUEST_TIMEOUT)
        })?
        .map_err(|error| match error {
            CollectError::TooLarge => too_large(call),
            CollectError::Broken => call.invalid("", "the body ended early"),
        })?;
    if body.is_empty() {
        return Ok((None, body));
    }
    if !raw && !is_json {
        let problem = call.problem(
            Code::InvalidArgument,
            "UNSUPPORTED_MEDIA_TYPE",
            "content type must be application/json",
        );
        return Err(problem.with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if gzipped {
        body = compress::gunzip(&body, limits.request_bytes).map_err(|error| match error {
            compress::GunzipError::TooLarge => too_large(call),
            compress::GunzipError::Malformed => call.invalid("", "the body is not gzip"),
        })?;
    }
    let content_type = || {
        let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        value.unwrap_or("application/octet-stream").to_owned()
    };
    Ok((raw.then(content_type), body))
}

fn too_large(call: &Call<'_>) -> Problem {
    let text = format!(
        "the body is larger than {} bytes",
        call.state.config.limits.request_bytes
    );
    call.problem(Code::ResourceExhausted, "REQUEST_TOO_LARGE", text)
        .with_http(StatusCode::PAYLOAD_TOO_LARGE)
}

/// The call to the service.
pub(crate) fn outgoing(
    call: &Call<'_>,
    incoming: &HeaderMap,
    service: &str,
    path: &str,
    time: Duration,
    message: Bytes,
) -> Result<Request<Body>, Problem> {
    let internal = || call.problem(Code::Internal, "INTERNAL", "the call could not be built");
    let upstream = call.state.upstreams.of(service).ok_or_else(internal)?;
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(upstream.authority.clone())
        .path_and_query(path);
    let mut request = Request::new(Body::Full(message));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.build().map_err(|_| internal())?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers::upstream(incoming, call.request_id, &call.state.config.forward_headers, time);
    Ok(request)
}

/// Sends a call and looks at the head of the reply; an error that comes instead of a reply is the problem.
pub(crate) async fn head(
    call: &Call<'_>,
    request: Request<Body>,
    service: &str,
) -> Result<Response<Incoming>, Problem> {
    let domain = &call.state.config.error_domain;
    let unavailable = || {
        call.problem(
            Code::Unavailable,
            "PEER_UNAVAILABLE",
            format!("service {service} cannot be reached"),
        )
    };
    let upstream = call.state.upstreams.of(service).ok_or_else(unavailable)?;
    let response = upstream.send(request).await.map_err(|error| {
        tracing::warn!(service, error = %steading_runtime::tasks::Chain(&error), "call to a service failed");
        unavailable()
    })?;
    if response.status() != StatusCode::OK {
        let code = Code::from_http(response.status());
        return Err(call.problem(
            code,
            "PEER_UNAVAILABLE",
            format!("service {service} answered HTTP {}", response.status()),
        ));
    }
    if response.headers().contains_key("grpc-status")
        && let Some(problem) = Problem::from_trailers(call.state.catalog.schema(), response.headers(), domain)
    {
        return Err(problem);
    }
    Ok(response)
}

async fn unary(call: &Call<'_>, request: Request<Body>, service: &str) -> Result<(HeaderMap, Bytes), Problem> {
    let limit = call.state.config.limits.reply_bytes;
    let response = head(call, request, service).await?;
    let (parts, body) = response.into_parts();
    let (body, trailers) = collect(body, limit.saturating_add(frame::PREFIX))
        .await
        .map_err(|error| match error {
            CollectError::TooLarge => call
                .problem(
                    Code::ResourceExhausted,
                    "REPLY_TOO_LARGE",
                    format!("the reply is larger than {limit} bytes"),
                )
                .with_http(StatusCode::INTERNAL_SERVER_ERROR),
            CollectError::Broken => call.problem(
                Code::Unavailable,
                "PEER_UNAVAILABLE",
                format!("service {service} broke off its reply"),
            ),
        })?;
    let domain = &call.state.config.error_domain;
    let trailers = trailers.unwrap_or_default();
    if let Some(problem) = Problem::from_trailers(call.state.catalog.schema(), &trailers, domain) {
        return Err(problem);
    }
    let message = frame::single(body).map_err(|error| garbage(call, &error))?;
    Ok((parts.headers, message))
}

/// A reply that is not what the descriptors promise.
pub(crate) fn garbage(call: &Call<'_>, error: &dyn std::error::Error) -> Problem {
    tracing::warn!(%error, "a service sent a reply that cannot be read");
    call.problem(
        Code::Internal,
        "INTERNAL",
        "the service sent a reply that cannot be read",
    )
    .with_http(StatusCode::BAD_GATEWAY)
}

fn answer(
    call: &Call<'_>,
    binding: &Binding,
    system: SystemParameters,
    incoming: &HeaderMap,
    method: &Method,
    (metadata, message): (HeaderMap, Bytes),
) -> Result<Response<Body>, Problem> {
    let catalog = &call.state.catalog;
    let etag = bind::response_etag(catalog, binding, &message).and_then(headers::etag);
    let mut response = Response::new(Body::Empty);
    headers::returned(&metadata, response.headers_mut());
    if let Some(etag) = etag {
        let fresh = *method == Method::GET && headers::none_match(incoming, &etag);
        response.headers_mut().insert(ETAG, etag);
        if fresh {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
    }
    if let Some(raw) = bind::raw_response(catalog, binding, &message) {
        let content_type =
            HeaderValue::try_from(raw.content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        *response.body_mut() = Body::Full(message.slice_ref(if raw.data.is_empty() { &[] } else { raw.data }));
        return Ok(response);
    }
    let mut json = Vec::with_capacity(message.len() * 2 + 64);
    bind::response(catalog, binding, &message, system, &call.state.config.encode, &mut json)
        .map_err(|error| garbage(call, &error))?;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::Full(Bytes::from(json));
    Ok(response)
}
