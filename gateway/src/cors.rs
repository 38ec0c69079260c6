//! Cross-origin calls: denied unless the origin is configured.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::config::Config;

/// Response headers that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "etag, location, retry-after, x-request-id, grpc-status, grpc-message, grpc-status-details-bin, \
     ratelimit-limit, ratelimit-remaining, ratelimit-reset, ratelimit-policy",
);

fn allowed(config: &Config, origin: &HeaderValue) -> bool {
    config.cors_origins.iter().any(|known| known == "*" || known == origin)
}

/// The answer to a preflight of an allowed origin.
pub(crate) fn preflight<B>(config: &Config, request: &Request<B>) -> Option<Response<Body>> {
    let (headers, origin) = (request.headers(), request.headers().get(ORIGIN)?);
    let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if *request.method() != Method::OPTIONS || !allowed(config, origin) {
        return None;
    }
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let out = response.headers_mut();
    out.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        out.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Some(response)
}

/// Lets an allowed origin read the response. Caches learn that it depends on the origin, whatever that is: else they would give the answer to
/// one to others.
pub(crate) fn allow(config: &Config, origin: Option<&HeaderValue>, response: &mut Response<Body>) {
    if !config.cors_origins.is_empty() {
        response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
    }
    let Some(origin) = origin.filter(|origin| allowed(config, origin)) else {
        return;
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
