//! Which headers pass, and in what form.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use steading_runtime::{context, deadline};

/// Identifies a request through all services and logs.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Seconds that a REST client gives the server (as Envoy and Google's front ends know it).
const SERVER_TIMEOUT: HeaderName = HeaderName::from_static("x-server-timeout");
/// Forwarded from REST to the services, besides what the configuration names.
const FORWARDED: [HeaderName; 5] = [
    AUTHORIZATION,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("x-goog-request-params"),
];
/// Replies' metadata that have a meaning in HTTP.
const RETURNED: [&str; 4] = ["etag", "location", "retry-after", "cache-control"];
/// Belong to one hop.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "host",
    "http2-settings",
    "expect",
];

/// The request's id: the client's if it is a modest one, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers
        .get(REQUEST_ID)
        .filter(|value| (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic));
    given
        .cloned()
        .or_else(|| HeaderValue::try_from(context::new_request_id()).ok())
        .unwrap_or(HeaderValue::from_static("-"))
}

/// The headers of a call to a service.
pub(crate) fn upstream(
    incoming: &HeaderMap,
    request_id: &HeaderValue,
    extra: &[HeaderName],
    time: Duration,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    for name in FORWARDED.iter().chain(extra) {
        for value in incoming.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("steading-gateway/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(deadline::GRPC_TIMEOUT, deadline::format(time));
    headers.insert(REQUEST_ID, request_id.clone());
    headers
}

/// Copies what a service says to HTTP clients.
pub(crate) fn returned(from: &HeaderMap, to: &mut HeaderMap) {
    for name in RETURNED {
        if let Some(value) = from.get(name) {
            to.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

/// Removes what belongs to one hop.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The time that a client gives; `Err` if it says so in a form that nobody understands.
pub(crate) fn client_timeout(headers: &HeaderMap) -> Result<Option<Duration>, &'static str> {
    if headers.contains_key(deadline::GRPC_TIMEOUT) {
        return deadline::parse(headers).map(Some).ok_or("grpc-timeout");
    }
    let Some(value) = headers.get(SERVER_TIMEOUT) else {
        return Ok(None);
    };
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map(Some).ok_or("x-server-timeout")
}

/// A content type without parameters, in lower case.
pub(crate) fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// A content type as a service names it; bytes if it names none that can be one.
pub(crate) fn content_type(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// The etag that `If-Match` wants: `Ok(None)` where any will do.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let Some(value) = headers.get(http::header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| "not an etag")?.trim();
    if text == "*" {
        return Ok(None);
    }
    let inner = text
        .strip_prefix("W/")
        .unwrap_or(text)
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let inner = inner
        .filter(|inner| !inner.contains('"'))
        .ok_or("must be one quoted etag")?;
    unescape_etag(inner).map(Some).ok_or("not an etag")
}

/// Whether `If-None-Match` names this etag.
pub(crate) fn none_match(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let weak = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let own = etag.to_str().map(weak).unwrap_or_default();
    headers
        .get_all(http::header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.trim() == "*" || list.split(',').any(|candidate| weak(candidate) == own))
}

/// A resource's etag as a header; what may not stand in one is percent-encoded, so that it comes back as it was.
pub(crate) fn etag(text: &str) -> Option<HeaderValue> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for byte in text.bytes() {
        if matches!(byte, 0x21 | 0x23 | 0x24 | 0x26..=0x7e) {
            quoted.push(char::from(byte));
        } else {
            quoted.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    quoted.push('"');
    HeaderValue::try_from(quoted).ok()
}

fn hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}

fn unescape_etag(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
