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

/// Removes what belongs to one hop: by its name, or because `Connection` names it (RFC 9110, section 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(http::header::CONNECTION) {
        let lists: Vec<HeaderValue> = headers.get_all(http::header::CONNECTION).iter().cloned().collect();
        let names = lists
            .iter()
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','));
        for name in names {
            headers.remove(name.trim());
        }
    }
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

/// Whether `If-None-Match` names this etag, by the weak comparison of RFC 9110, section 8.8.3.2.
pub(crate) fn none_match(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let own = etag.to_str().map(opaque).unwrap_or_default();
    headers
        .get_all(http::header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.trim() == "*" || etags(list).any(|candidate| opaque(candidate) == own))
}

/// The items of a list of etags: they are separated by commas, and may have some between their quotes.
fn etags(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// An etag without the mark of a weak one.
fn opaque(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("W/").unwrap_or(text)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(name: HeaderName, value: &HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(name, value.clone())])
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds_or_what_grpc_says() {
        let asked = |name: &'static str, value: &'static str| {
            client_timeout(&with(HeaderName::from_static(name), &HeaderValue::from_static(value)))
        };
        assert_eq!(
            asked("x-server-timeout", " 1.5 "),
            Ok(Some(Duration::from_millis(1500)))
        );
        assert_eq!(asked("grpc-timeout", "20m"), Ok(Some(Duration::from_millis(20))));
        for wrong in ["", "x", "-1", "NaN", "inf", "1e30", "1s"] {
            assert!(asked("x-server-timeout", wrong).is_err(), "{wrong}");
        }
        assert!(asked("grpc-timeout", "1.5S").is_err());
    }

    #[test]
    fn what_belongs_to_one_hop_goes_no_further() {
        let given = ["connection", "x-mine", "x-other", "keep-alive", "te", "x-stays"];
        let mut headers: HeaderMap = given
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")))
            .into_iter()
            .collect();
        headers.insert("connection", HeaderValue::from_static("close, X-Mine ,"));
        headers.append("connection", HeaderValue::from_static("x-other"));
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-stays"]);
    }

    #[test]
    fn a_condition_is_one_quoted_etag_or_any() {
        let asked = |value: &'static str| if_match(&with(http::header::IF_MATCH, &HeaderValue::from_static(value)));
        assert_eq!(asked("\"a\""), Ok(Some("a".to_owned())));
        assert_eq!(asked("W/\"a\""), Ok(Some("a".to_owned())));
        assert_eq!(asked("*"), Ok(None));
        for wrong in ["a", "\"a", "\"a\", \"b\"", "\"%\"", "\"%zz\"", "\"%ff\""] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_etag_comes_back_as_it_was(text in any::<String>()) {
            let header = etag(&text).ok_or(TestCaseError::fail("no header"))?;
            prop_assert_eq!(if_match(&with(http::header::IF_MATCH, &header)), Ok(Some(text)));
            prop_assert!(none_match(&with(http::header::IF_NONE_MATCH, &header), &header));
        }

        #[test]
        fn no_header_makes_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = if_match(&with(http::header::IF_MATCH, &value));
                let _ = none_match(&with(http::header::IF_NONE_MATCH, &value), &HeaderValue::from_static("\"a\""));
                let _ = client_timeout(&with(SERVER_TIMEOUT, &value));
                let _ = client_timeout(&with(deadline::GRPC_TIMEOUT, &value));
                let _ = essence(&with(CONTENT_TYPE, &value));
                let _ = request_id(&with(REQUEST_ID, &value));
                let _ = crate::compress::accepted(&with(http::header::ACCEPT_ENCODING, &value));
            }
        }
    }
}
