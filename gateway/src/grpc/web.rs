//! gRPC-Web: what browsers can send becomes gRPC, and trailers become the last frame of the body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Version};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::dialect::Dialect;
use super::passing::Passing;
use crate::body::{Body, BoxError, CollectError, collect};
use crate::code::Code;
use crate::state::State;

/// The body that a service gets, and the headers that go with it.
///
/// # Errors
/// What is wrong with the body, or why it is not taken.
pub(super) async fn request(
    state: &State,
    dialect: Dialect,
    version: Version,
    headers: &mut HeaderMap,
    incoming: Incoming,
) -> Result<Body, (Code, &'static str)> {
    if matches!(dialect, Dialect::Native | Dialect::Rest) {
        return Ok(Body::Incoming(incoming));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.remove(CONTENT_LENGTH);
    // Browsers cannot stream requests, so waiting for the end costs nothing. Over HTTP/1 it is needed: a service may answer before the end,
    // and a connection on which the rest of a request was left is closed, without the client knowing.
    if dialect == Dialect::Web && version > Version::HTTP_11 {
        return Ok(Body::Incoming(incoming));
    }
    let limits = &state.config.limits;
    let mut reserved = state.room.reserve();
    let collected = collect(incoming, limits.request_bytes, &mut reserved);
    let (body, _) = tokio::time::timeout(limits.receive, collected)
        .await
        .map_err(|_| (Code::DeadlineExceeded, "the body did not arrive in time"))?
        .map_err(|error| match error {
            CollectError::TooLarge => (Code::ResourceExhausted, "the body is larger than the gateway takes"),
            CollectError::NoRoom => (Code::Unavailable, "the gateway is at its limit of buffered bytes"),
            CollectError::Broken => (Code::InvalidArgument, "the body ended early"),
        })?;
    let body = if dialect == Dialect::WebText {
        untext(&body)?
    } else {
        body
    };
    Ok(Body::Call(body))
}

/// Clients may pad each piece, so it is decoded in groups of four.
fn untext(text: &[u8]) -> Result<Bytes, (Code, &'static str)> {
    let mut out = Vec::with_capacity(text.len());
    for group in text.chunks(4) {
        let piece = STANDARD
            .decode(group)
            .map_err(|_| (Code::InvalidArgument, "the body is not base64"))?;
        out.extend_from_slice(&piece);
    }
    Ok(Bytes::from(out))
}

/// The frames of a reply.
pub(super) fn reply(
    dialect: Dialect,
    mut body: Passing,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    async_stream::stream! {
        while let Some(Ok(frame)) = body.frame().await {
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => trailer_frame(&frame.into_trailers().unwrap_or_default()),
            };
            let data = if dialect == Dialect::WebText {
                Bytes::from(STANDARD.encode(&data))
            } else {
                data
            };
            yield Ok(Frame::data(data));
        }
    }
}

fn trailer_frame(trailers: &HeaderMap) -> Bytes {
    let mut text = Vec::new();
    for (name, value) in trailers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(text.len() + 5);
    frame.put_u8(0x80);
    frame.put_u32(u32::try_from(text.len()).unwrap_or(0));
    frame.extend_from_slice(&text);
    frame.freeze()
}
