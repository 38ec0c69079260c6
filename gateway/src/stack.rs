//! What every request passes through, in order: [`serve`] is the list.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use steading_transcode::Catalog;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::builtin::Builtins;
use crate::compress::Coding;
use crate::config::Config;
use crate::grpc::{self, Dialect};
use crate::headers::REQUEST_ID;
use crate::metrics::{RequestMetrics, RouteLabel};
use crate::rest::Call;
use crate::retry::Budget;
use crate::upstream::Upstreams;
use crate::{compress, cors, headers, rest};

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) upstreams: Upstreams,
    pub(crate) builtins: Builtins,
    pub(crate) metrics: Option<RequestMetrics>,
    /// What repeated calls may cost the services.
    pub(crate) retries: Budget,
    pub(crate) openapi: Bytes,
    /// Cancelled when streams should end.
    pub(crate) drain: CancellationToken,
}

pub(crate) type State = Arc<Shared>;

/// What later steps need of a request that earlier ones took.
struct Seen {
    method: Method,
    path: String,
    request_id: HeaderValue,
    origin: Option<HeaderValue>,
    coding: Option<Coding>,
    dialect: Dialect,
    started: std::time::Instant,
}

impl Seen {
    fn of(request: &Request<Incoming>) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            request_id: headers::request_id(request.headers()),
            origin: request.headers().get(http::header::ORIGIN).cloned(),
            coding: compress::accepted(request.headers()),
            dialect: Dialect::of(request.headers()),
            started: std::time::Instant::now(),
        }
    }
}

/// Answers one request. The order matters, and says why:
pub(crate) async fn serve(state: State, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    // The id first: everything below may log it.
    let seen = Seen::of(&request);
    // Browsers ask before they call; the question has no credentials and reaches no service.
    let mut response = match cors::preflight(&state.config, &request) {
        Some(answer) => answer,
        // Then what is asked for decides who answers: the gateway itself, a gRPC service as it is, or REST.
        None => dispatch(&state, &seen, request).await,
    };
    // HEAD before compression: it tells the length of what GET would say, uncompressed.
    if seen.method == Method::HEAD {
        drop_body(&mut response);
    }
    // gRPC compresses its own messages; streams must not wait for a compressor's window.
    if let (Some(coding), Dialect::Rest) = (seen.coding, seen.dialect) {
        compress::pack(coding, &mut response);
    }
    // On errors too, else the browser hides them from its page.
    cors::allow(&state.config, seen.origin.as_ref(), &mut response);
    response.headers_mut().insert(REQUEST_ID, seen.request_id.clone());
    // Last, so that it knows how all of the above ended.
    account(&state, &seen, &response);
    Ok(response)
}

async fn dispatch(state: &State, seen: &Seen, request: Request<Incoming>) -> Response<Body> {
    if seen.dialect != Dialect::Rest {
        if let Some(builtin) = state.builtins.of(&seen.path) {
            return builtin.serve(state, seen.dialect, request).await;
        }
        let mut response = grpc::serve(state, seen.dialect, &seen.request_id, request).await;
        response.extensions_mut().insert(RouteLabel("grpc".to_owned()));
        return response;
    }
    if seen.path == "/openapi.json" && matches!(seen.method, Method::GET | Method::HEAD) {
        let mut response = Response::new(Body::Full(state.openapi.clone()));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return response;
    }
    let call = Call {
        state,
        request_id: &seen.request_id,
        started: seen.started,
        template: OnceLock::new(),
    };
    let answered = rest::serve(&call, request).await;
    let mut response = answered.unwrap_or_else(|problem| problem.response());
    if let Some(template) = call.template.get() {
        response.extensions_mut().insert(RouteLabel((*template).to_owned()));
    }
    response
}

fn drop_body(response: &mut Response<Body>) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::Empty;
    *response.version_mut() = Version::HTTP_11;
}

/// Counts and logs what became of a request.
fn account(state: &State, seen: &Seen, response: &Response<Body>) {
    let took = seen.started.elapsed();
    if let Some(metrics) = &state.metrics {
        let route = response.extensions().get::<RouteLabel>();
        metrics.observe(&seen.method, route, response.status(), took);
    }
    tracing::debug!(
        method = %seen.method,
        path = seen.path,
        request_id = seen.request_id.to_str().unwrap_or_default(),
        status = response.status().as_u16(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}
