//! What is wrong with a request as one of HTTP, whatever it asks for.

use http::header::{CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode, Version};

use crate::code::Code;
use crate::config::Config;
use crate::headers;
use crate::problem::Problem;

/// How many bytes more than the limit of headers a connection reads, so that the request line is judged apart from them. A target is one part
/// of it, and no longer than hyper takes.
pub(crate) const TARGET_BYTES: u32 = 64 << 10;

/// # Errors
/// The request is refused before anybody looks at what it asks for.
pub(crate) fn check<B>(config: &Config, is_native_grpc: bool, request: &Request<B>) -> Result<(), Problem> {
    let domain = &config.error_domain;
    let malformed = |text: &str| Problem::new(Code::InvalidArgument, "MALFORMED_REQUEST", text, domain);
    let (headers, version) = (request.headers(), request.version());
    let limit = usize::try_from(config.limits.header_bytes).unwrap_or(usize::MAX);
    if target_bytes(request) > limit {
        let text = format!("the request target is larger than {limit} bytes");
        return Err(malformed(&text).with_http(StatusCode::URI_TOO_LONG));
    }
    if bytes(headers) > limit {
        let text = format!("the headers are larger than {limit} bytes");
        return Err(malformed(&text).with_http(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    if version <= Version::HTTP_11 && !has_one_host(headers, version) {
        return Err(malformed("the request must have one Host header"));
    }
    if !takes_coding(headers) {
        let text = "transfer coding must be chunked";
        let problem = Problem::new(Code::Unimplemented, "TRANSFER_CODING_NOT_SUPPORTED", text, domain);
        return Err(problem.with_http(StatusCode::NOT_IMPLEMENTED));
    }
    if headers.get_all(CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(malformed("the request must have one Content-Type header"));
    }
    if is_native_grpc && version <= Version::HTTP_11 {
        let text = "native gRPC needs HTTP/2; gRPC-Web is served over HTTP/1.1";
        return Err(malformed(text));
    }
    Ok(())
}

/// RFC 9112, section 3.2. One that is to be upgraded is as one of HTTP/1.1.
fn has_one_host(headers: &HeaderMap, version: Version) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11 && !headers.contains_key(UPGRADE),
        (Some(_), Some(_)) => false,
        (Some(host), None) => {
            let authority = Authority::try_from(host.as_bytes());
            host.is_empty() || authority.is_ok_and(|authority| !authority.as_str().contains('@'))
        }
    }
}

/// RFC 9112, section 6.1.
fn takes_coding(headers: &HeaderMap) -> bool {
    let readable = headers
        .get_all(TRANSFER_ENCODING)
        .iter()
        .all(|line| line.to_str().is_ok());
    let mut codings = headers::items(headers, &TRANSFER_ENCODING);
    let first = codings.next();
    let one = codings.next().is_none();
    readable && one && first.is_none_or(|coding| coding.eq_ignore_ascii_case("chunked"))
}

fn target_bytes<B>(request: &Request<B>) -> usize {
    request.uri().path_and_query().map_or(0, |target| target.as_str().len())
}

/// As they are sent over HTTP/1, roughly.
fn bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}
