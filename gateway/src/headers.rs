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

/// The headers of a call that comes from a browser as gRPC-Web: what REST may pass, and what belongs to gRPC.
pub(crate) fn web(incoming: &HeaderMap, request_id: &HeaderValue, extra: &[HeaderName], time: Duration) -> HeaderMap {
    let mut headers = upstream(incoming, request_id, extra, time);
    for name in ["grpc-encoding", "grpc-accept-encoding"] {
        if let Some(value) = incoming.get(name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
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

/// Whether a content type says nothing of a charset, or says UTF-8 or what is part of it.
pub(crate) fn is_utf8(headers: &HeaderMap) -> bool {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let charset = split(text.unwrap_or_default(), ';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("charset");
        named.then(|| value.trim().trim_matches('"'))
    });
    charset.is_none_or(|charset| {
        ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|known| charset.eq_ignore_ascii_case(known))
    })
}

/// A content type as a service names it; bytes if it names none that can be one.
pub(crate) fn content_type(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// The items of a header that is a list, of all its lines: they are separated by commas, and may have some between their quotes.
pub(crate) fn items<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| split(line, ',')).filter(|item| !item.is_empty())
}

/// Parts of a text between separators that are not within quotes, without the blanks around them.
pub(crate) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .map(str::trim)
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

    proptest! {
        #[test]
        fn no_header_makes_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = crate::etag::if_match(&with(http::header::IF_MATCH, &value), crate::etag::Form::Bare);
                let etag = HeaderValue::from_static("\"a\"");
                let _ = crate::etag::none_match(&with(http::header::IF_NONE_MATCH, &value), &etag);
                let _ = crate::accept::accepted(&with(http::header::ACCEPT, &value), &["text/event-stream"], |range| range);
                let _ = client_timeout(&with(SERVER_TIMEOUT, &value));
                let _ = client_timeout(&with(deadline::GRPC_TIMEOUT, &value));
                let _ = essence(&with(CONTENT_TYPE, &value));
                let _ = request_id(&with(REQUEST_ID, &value));
                let _ = crate::compress::accepted(&with(http::header::ACCEPT_ENCODING, &value));
            }
        }
    }
}
