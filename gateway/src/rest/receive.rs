//! The body of a request, taken whole: type, coding, limits.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use steading_transcode::{Binding, bind};

use super::context::Call;
use crate::body::{CollectError, Upload, collect};
use crate::code::Code;
use crate::problem::Problem;
use crate::room::Reservation;
use crate::{compress, headers};

/// A body, and its content type if it is to be taken as it is.
pub(super) struct Received {
    bytes: Bytes,
    raw: Option<String>,
}

impl Received {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn body(&self) -> bind::Body<'_> {
        match &self.raw {
            _ if self.bytes.is_empty() => bind::Body::Empty,
            Some(content_type) => bind::Body::Raw {
                content_type,
                data: &self.bytes,
            },
            None => bind::Body::Json(&self.bytes),
        }
    }
}

/// How a body is to be read.
pub(super) struct Kind {
    /// Its content type, if it is to be taken as it is.
    pub(super) raw: Option<String>,
    /// It is JSON, as far as its sender says.
    is_json: bool,
    /// JSON values, a line each.
    pub(super) is_lines: bool,
    pub(super) gzipped: bool,
}

impl Kind {
    /// Reads the head of a request.
    pub(super) fn of(call: &Call<'_>, headers: &HeaderMap, binding: &Binding) -> Result<Self, Problem> {
        let raw = binding.takes_raw_body(&call.generation.catalog);
        let essence = headers::essence(headers);
        if essence.is_none() && headers.contains_key(CONTENT_TYPE) {
            return Err(unsupported(call, "the content type cannot be read"));
        }
        if !raw && !headers::is_utf8(headers) {
            return Err(unsupported(call, "the charset must be UTF-8"));
        }
        let is_json = essence.as_deref().is_none_or(|kind| {
            kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
        });
        let is_lines = essence.as_deref().is_some_and(|kind| {
            matches!(
                kind,
                "application/x-ndjson" | "application/ndjson" | "application/jsonl"
            )
        });
        let coding = headers
            .get(CONTENT_ENCODING)
            .map_or("identity", |value| value.to_str().unwrap_or("?"))
            .to_ascii_lowercase();
        let gzipped = matches!(coding.as_str(), "gzip" | "x-gzip");
        if !gzipped && coding != "identity" {
            return Err(unsupported(call, "content encoding must be gzip or identity"));
        }
        let content_type = || {
            let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            value.unwrap_or("application/octet-stream").to_owned()
        };
        Ok(Self {
            raw: raw.then(content_type),
            is_json,
            is_lines,
            gzipped,
        })
    }

    /// A type that the method does not take.
    pub(super) fn check(&self, call: &Call<'_>, streams: bool) -> Result<(), Problem> {
        if self.raw.is_some() || self.is_json || (streams && self.is_lines) {
            return Ok(());
        }
        let text = if streams {
            "content type must be application/x-ndjson or application/json"
        } else {
            "content type must be application/json"
        };
        Err(unsupported(call, text))
    }
}

/// The whole body.
pub(super) async fn whole(
    call: &Call<'_>,
    headers: &HeaderMap,
    binding: &Binding,
    upload: &mut Upload,
    reserved: &mut Reservation,
) -> Result<Received, Problem> {
    let limits = &call.state.config.limits;
    if hyper::body::Body::is_end_stream(upload) {
        return Ok(Received {
            bytes: Bytes::new(),
            raw: None,
        });
    }
    let kind = Kind::of(call, headers, binding)?;
    let collected = tokio::time::timeout(limits.receive, collect(upload, limits.request_bytes, reserved)).await;
    let (mut bytes, _) = collected
        .map_err(|_| too_slow(call))?
        .map_err(|error| not_taken(call, error))?;
    if !bytes.is_empty() {
        kind.check(call, false)?;
        if kind.gzipped {
            bytes = compress::gunzip(&bytes, limits.request_bytes).map_err(|error| match error {
                compress::GunzipError::TooLarge => too_large(call),
                compress::GunzipError::Malformed => call.invalid("", "the body is not gzip"),
            })?;
            reserved.take(bytes.len()).map_err(|_| call.no_room())?;
        }
    }
    Ok(Received { bytes, raw: kind.raw })
}

pub(super) fn too_slow(call: &Call<'_>) -> Problem {
    let text = "the body did not arrive in time";
    call.problem(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text)
        .with_http(StatusCode::REQUEST_TIMEOUT)
}

fn not_taken(call: &Call<'_>, error: CollectError) -> Problem {
    match error {
        CollectError::TooLarge => too_large(call),
        CollectError::NoRoom => call.no_room(),
        CollectError::Broken => call.invalid("", "the body ended early"),
    }
}

pub(super) fn too_large(call: &Call<'_>) -> Problem {
    let text = format!(
        "the body is larger than {} bytes",
        call.state.config.limits.request_bytes
    );
    call.problem(Code::ResourceExhausted, "REQUEST_TOO_LARGE", text)
        .with_http(StatusCode::PAYLOAD_TOO_LARGE)
}

pub(super) fn unsupported(call: &Call<'_>, text: &str) -> Problem {
    call.problem(Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", text)
        .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}
