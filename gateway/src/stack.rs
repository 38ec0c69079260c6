//! What every request passes through, in order: [`serve`] is the list.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tracing::Instrument as _;

use crate::access::{self, Entry};
use crate::body::Body;
use crate::builtin::Builtin;
use crate::code::Code;
use crate::compress::Coding;
use crate::generation::{Document, Generation};
use crate::grpc;
use crate::grpc::dialect::{Dialect, trailers_only};
use crate::headers::REQUEST_ID;
use crate::metrics::{RequestMetrics, Route};
use crate::problem::Problem;
use crate::rest::Call;
use crate::state::State;
use crate::{compress, cors, etag, headers, rest, sanity};

/// What later steps need of a request that earlier ones took.
struct Seen {
    method: Method,
    path: String,
    request_id: HeaderValue,
    address: IpAddr,
    origin: Option<HeaderValue>,
    coding: Option<Coding>,
    dialect: Dialect,
    started: Instant,
}

impl Seen {
    fn of(request: &Request<Incoming>, address: IpAddr) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            request_id: headers::request_id(request.headers()),
            address,
            origin: request.headers().get(http::header::ORIGIN).cloned(),
            coding: compress::accepted(request.headers()),
            dialect: Dialect::of(request.headers()),
            started: Instant::now(),
        }
    }
}

/// Answers one request. The order matters, and says why:
pub(crate) async fn serve(
    state: State,
    address: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    // The id first: everything below may log it.
    let seen = Seen::of(&request, address);
    let agent = request.headers().get(http::header::USER_AGENT).cloned();
    let generation = state.generation.load_full();
    let (mut response, route) = match cors::preflight(&state.config, &request) {
        // Browsers ask before they call; the question has no credentials and reaches no service.
        Some(answer) => (answer, Route::Preflight),
        // A span around all that calls services, so that they are its children.
        None if state.config.traces => {
            let span = span(&generation, &seen);
            steading_runtime::trace::adopt(&span, request.headers());
            let answered = dispatch(&state, &generation, &seen, request).instrument(span.clone());
            let (response, route) = answered.await;
            finish(&span, response.status());
            (response, route)
        }
        // Then what is asked for decides who answers: the gateway itself, a gRPC service as it is, or REST.
        None => dispatch(&state, &generation, &seen, request).await,
    };
    // HEAD before compression: it tells the length of what GET would say, uncompressed.
    if seen.method == Method::HEAD {
        drop_body(&mut response);
    }
    // gRPC compresses its own messages; streams must not wait for a compressor's window.
    if seen.dialect == Dialect::Rest {
        compress::pack(seen.coding, &mut response);
    }
    // On errors too, else the browser hides them from its page.
    cors::allow(&state.config, seen.origin.as_ref(), &mut response);
    response.headers_mut().insert(REQUEST_ID, seen.request_id.clone());
    // Last, so that they know how all of the above ended.
    if let Some(metrics) = &state.metrics {
        metrics.observe(&seen.method, &route, response.status(), seen.started.elapsed());
    }
    if access::is_wanted() {
        let entry = Entry {
            method: seen.method,
            path: seen.path,
            request_id: seen.request_id,
            address,
            agent,
            started: seen.started,
        };
        response = access::log(entry, route.label().to_owned(), response);
    }
    Ok(response)
}

/// The span of a request. Its name cannot change once it has begun, so the route is looked up before.
fn span(generation: &Generation, seen: &Seen) -> tracing::Span {
    let route = match seen.dialect {
        Dialect::Rest => generation.catalog.route(&seen.method, &seen.path).ok(),
        _ => None,
    };
    let rest = route.as_ref().map(|matched| matched.binding.rule.template.as_str());
    let rpc = || {
        generation
            .catalog
            .method_by_path(&seen.path)
            .map(|method| &*method.path)
    };
    let route = rest.or_else(rpc).unwrap_or_default();
    tracing::info_span!(
        "request",
        otel.name = format!("{} {route}", seen.method).trim_end(),
        otel.kind = "server",
        http.request.method = %seen.method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
        request_id = seen.request_id.to_str().unwrap_or_default(),
    )
}

fn finish(span: &tracing::Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

async fn dispatch(
    state: &State,
    generation: &Arc<Generation>,
    seen: &Seen,
    request: Request<Incoming>,
) -> (Response<Body>, Route) {
    let Ok(place) = state.places.clone().try_acquire_owned() else {
        return (full(state, seen.dialect), Route::Unmatched);
    };
    let kept = (place, state.metrics.as_ref().map(RequestMetrics::open));
    let (response, route) = answer(state, generation, seen, request).await;
    // What is known at once is as good as sent; a stream keeps its place.
    (response.map(|body| body.keeping(kept)), route)
}

/// The answer to a request that there is no place for.
fn full(state: &State, dialect: Dialect) -> Response<Body> {
    let text = "the gateway is at its request limit";
    if dialect != Dialect::Rest {
        return trailers_only(dialect, Code::Unavailable, text);
    }
    Problem::overloaded(text, &state.config.error_domain).response(false)
}

async fn answer(
    state: &State,
    generation: &Arc<Generation>,
    seen: &Seen,
    request: Request<Incoming>,
) -> (Response<Body>, Route) {
    if let Err(problem) = sanity::check(&state.config, seen.dialect == Dialect::Native, &request) {
        let mut response = problem.response(false);
        // Whoever sends such a request may mean something else by what follows it.
        if request.version() <= Version::HTTP_11 {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        return (response, Route::Unmatched);
    }
    if seen.dialect != Dialect::Rest {
        return native(state, generation, seen, request).await;
    }
    if seen.path == "/openapi.json" && matches!(seen.method, Method::GET | Method::HEAD) {
        return (document(&generation.openapi, &request), Route::Document);
    }
    let call = Call {
        state,
        generation,
        request_id: &seen.request_id,
        address: seen.address,
        started: seen.started,
        template: OnceLock::new(),
        verdict: OnceLock::new(),
    };
    let has_credential = request.headers().contains_key(AUTHORIZATION);
    let answered = rest::serve(&call, request).await;
    let mut response = answered.unwrap_or_else(|problem| problem.response(has_credential));
    if let Some(verdict) = call.verdict.get() {
        verdict.tell(response.headers_mut());
    }
    let route = call
        .template
        .get()
        .map_or(Route::Unmatched, |template| Route::Rest((*template).to_owned()));
    (response, route)
}

async fn native(
    state: &State,
    generation: &Arc<Generation>,
    seen: &Seen,
    request: Request<Incoming>,
) -> (Response<Body>, Route) {
    if let Some(builtin) = Builtin::of(&seen.path) {
        if seen.dialect != Dialect::Native {
            let text = "served to native gRPC clients only";
            return (trailers_only(seen.dialect, Code::Unimplemented, text), Route::Builtin);
        }
        return (builtin.serve(state, generation, request).await, Route::Builtin);
    }
    let method = generation.catalog.method_by_path(&seen.path);
    let call = grpc::Call {
        state,
        method,
        dialect: seen.dialect,
        request_id: &seen.request_id,
        address: seen.address,
        started: seen.started,
    };
    let route = method.map_or(Route::UnknownRpc, |method| Route::Rpc(method.path.to_string()));
    (grpc::serve(&call, request).await, route)
}

fn document(document: &Document, request: &Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    if let Some(etag) = etag::header(&document.etag) {
        let fresh = etag::none_match(request.headers(), &etag);
        response.headers_mut().insert(ETAG, etag);
        if fresh {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    *response.body_mut() = Body::Full(document.text.clone());
    response
}

fn drop_body(response: &mut Response<Body>) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::Empty;
    *response.version_mut() = Version::HTTP_11;
}
