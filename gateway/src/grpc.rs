//! Native gRPC and gRPC-Web: passed on by the service's name, unread.

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::body::{Body, BoxError, collect};
use crate::code::Code;
use crate::headers::{self, REQUEST_ID};
use crate::stack::State;

/// What a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Neither.
    Rest,
    /// `application/grpc`.
    Native,
    /// `application/grpc-web`: trailers come as a last frame of the body.
    Web,
    /// `application/grpc-web-text`: the same in base64.
    WebText,
}

impl Dialect {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers::essence(headers).as_deref() {
            Some("application/grpc-web-text" | "application/grpc-web-text+proto") => Self::WebText,
            Some(kind) if kind.starts_with("application/grpc-web") => Self::Web,
            Some("application/grpc") => Self::Native,
            Some(kind) if kind.starts_with("application/grpc+") => Self::Native,
            _ => Self::Rest,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Web => "application/grpc-web+proto",
            Self::WebText => "application/grpc-web-text+proto",
            Self::Native | Self::Rest => "application/grpc",
        }
    }
}

/// An answer without messages.
pub(crate) fn trailers_only(dialect: Dialect, code: Code, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(dialect.content_type()));
    headers.insert("grpc-status", HeaderValue::from(code.number()));
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
    response
}

/// Passes a call on.
pub(crate) async fn serve(
    state: &State,
    dialect: Dialect,
    id: &HeaderValue,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path();
    let service = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .map(|(service, _)| service.to_owned());
    let Some(upstream) = service.as_deref().and_then(|service| state.upstreams.of(service)) else {
        return trailers_only(dialect, Code::Unimplemented, "unknown service");
    };
    let (mut parts, incoming) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    let uri = path.map(|path| {
        http::Uri::builder()
            .scheme("http")
            .authority(upstream.authority.clone())
            .path_and_query(path)
            .build()
    });
    let Some(Ok(uri)) = uri else {
        return trailers_only(dialect, Code::Unimplemented, "unknown method");
    };
    (parts.uri, parts.version) = (uri, Version::HTTP_2);
    parts.extensions = http::Extensions::new();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.headers.insert(REQUEST_ID, id.clone());
    let body = match dialect {
        Dialect::Native | Dialect::Rest => Body::Incoming(incoming),
        Dialect::Web | Dialect::WebText => {
            parts
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            parts.headers.insert("te", HeaderValue::from_static("trailers"));
            parts.headers.remove(http::header::CONTENT_LENGTH);
            match dialect {
                Dialect::Web => Body::Incoming(incoming),
                _ => match untext(state, incoming).await {
                    Ok(body) => Body::Full(body),
                    Err(message) => return trailers_only(dialect, Code::InvalidArgument, message),
                },
            }
        }
    };
    match upstream.send(Request::from_parts(parts, body)).await {
        Ok(response) => answer(dialect, response),
        Err(error) => {
            tracing::warn!(service, error = %steading_runtime::tasks::Chain(&error), "call to a service failed");
            trailers_only(dialect, Code::Unavailable, "service cannot be reached")
        }
    }
}

fn answer(dialect: Dialect, response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    let is_grpc = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if matches!(dialect, Dialect::Native | Dialect::Rest) || !is_grpc {
        return Response::from_parts(parts, Body::Incoming(body));
    }
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(dialect.content_type()));
    Response::from_parts(parts, Body::stream(web_frames(dialect, body)))
}

/// The frames of a gRPC-Web reply.
fn web_frames(
    dialect: Dialect,
    mut body: Incoming,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    async_stream::stream! {
        while let Some(frame) = body.frame().await {
            match frame {
                Err(error) => {
                    yield Err(error.into());
                    return;
                }
                Ok(frame) => {
                    let data = match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => trailer_frame(&frame.into_trailers().unwrap_or_default()),
                    };
                    let data = if dialect == Dialect::WebText {
                        Bytes::from(base64::engine::general_purpose::STANDARD.encode(&data))
                    } else {
                        data
                    };
                    yield Ok(Frame::data(data));
                }
            }
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

/// A base64 body, whole; clients may pad each piece, so it is decoded in groups of four.
async fn untext(state: &State, incoming: Incoming) -> Result<Bytes, &'static str> {
    let limits = &state.config.limits;
    let collected = tokio::time::timeout(limits.receive, collect(incoming, limits.request_bytes)).await;
    let (text, _) = collected
        .map_err(|_| "the body did not arrive in time")?
        .map_err(|_| "the body is too large or broken")?;
    let mut out = Vec::with_capacity(text.len());
    for group in text.chunks(4) {
        let piece = base64::engine::general_purpose::STANDARD
            .decode(group)
            .map_err(|_| "the body is not base64")?;
        out.extend_from_slice(&piece);
    }
    Ok(Bytes::from(out))
}
