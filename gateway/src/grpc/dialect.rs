//! What a request speaks, and a status in its words.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};

use crate::body::Body;
use crate::code::Code;
use crate::headers;

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

    pub(super) fn content_type(self) -> &'static str {
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
    status(headers, code, message);
    response
}

/// A status as metadata. The message is ASCII without `%`, as all of the gateway's own are.
pub(super) fn status(headers: &mut HeaderMap, code: Code, message: &str) {
    headers.insert("grpc-status", HeaderValue::from(code.number()));
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
}

/// The code of a status in headers or trailers.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    let number = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    Some(Code::from_number(number))
}
