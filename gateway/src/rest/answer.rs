//! One reply message as an HTTP response.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use steading_transcode::Binding;
use steading_transcode::bind::{self, SystemParameters};

use super::context::{Call, garbage, hold};
use crate::body::Body;
use crate::problem::Problem;
use crate::room::Reservation;
use crate::{etag, headers};

/// The response, which keeps what it holds reserved until it is sent.
pub(super) fn unary(
    call: &Call<'_>,
    binding: &Binding,
    system: SystemParameters,
    (incoming, method): (&HeaderMap, &Method),
    (metadata, message): (HeaderMap, Bytes),
    mut reserved: Reservation,
) -> Result<Response<Body>, Problem> {
    let catalog = &call.generation.catalog;
    let field = bind::response_etag(catalog, binding, &message);
    if let Some(field) = field
        && let Some(learned) = call.generation.etags(&catalog.method(binding.method).service)
    {
        learned.learn(field);
    }
    let etag = field.and_then(etag::header);
    let mut response = Response::new(Body::Empty);
    headers::returned(&metadata, response.headers_mut());
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, etag);
    }
    // The message's, or one that the service gave in its metadata.
    let etag = response.headers().get(ETAG);
    if *method == Method::GET && etag.is_some_and(|etag| etag::none_match(incoming, etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let (content_type, bytes) = match bind::raw_response(catalog, binding, &message) {
        Some(raw) => (
            headers::content_type(raw.content_type),
            message.slice_ref(if raw.data.is_empty() { &[] } else { raw.data }),
        ),
        None => {
            let mut json = Vec::with_capacity(message.len() * 2 + 64);
            let encode = &call.state.config.encode;
            bind::response(catalog, binding, &message, system, encode, &mut json)
                .map_err(|error| garbage(call, &error))?;
            (HeaderValue::from_static("application/json"), Bytes::from(json))
        }
    };
    hold(&mut reserved, bytes.len());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    *response.body_mut() = Body::Held(bytes, reserved);
    Ok(response)
}
