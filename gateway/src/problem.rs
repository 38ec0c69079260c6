//! Every error that a client of the REST side sees, its own or a service's, as one JSON shape (AIP-193).

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use steading_transcode::codec::{self, EncodeOptions, Unset};
use steading_transcode::wire::{self, Raw, Reader};
use steading_transcode::{InvalidRequest, Schema};

use crate::body::Body;
use crate::code::Code;
use crate::hex;

/// After how long a client may try again that found no place, or no room for its body.
const OVERLOADED_WAIT: Duration = Duration::from_secs(1);

/// An error on its way to the client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) http: StatusCode,
    pub(crate) message: String,
    details: Vec<Value>,
    allow: Option<HeaderValue>,
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>, domain: &str) -> Self {
        let info = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": domain,
            "metadata": {},
        });
        Self {
            code,
            http: code.http(),
            message: message.into(),
            details: vec![info],
            allow: None,
            retry_after: None,
        }
    }

    /// A rate limit on `scope` refuses the call for now.
    pub(crate) fn over_limit(scope: &str, wait: Duration, domain: &str) -> Self {
        let scope = if scope.is_empty() { "all methods" } else { scope };
        let text = format!("too many calls: the rate limit of {scope} is reached");
        Self::new(Code::ResourceExhausted, "RATE_LIMITED", text, domain).with_retry(wait)
    }

    /// The gateway cannot take more for now; `message` says of what.
    pub(crate) fn overloaded(message: &str, domain: &str) -> Self {
        Self::new(Code::Unavailable, "OVERLOADED", message, domain).with_retry(OVERLOADED_WAIT)
    }

    /// The same with another HTTP status than the code's.
    pub(crate) fn with_http(mut self, status: StatusCode) -> Self {
        self.http = status;
        self
    }

    /// The same, with the time after which the call may be made again.
    pub(crate) fn with_retry(mut self, wait: Duration) -> Self {
        self.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}.{:09}s", wait.as_secs(), wait.subsec_nanos()),
        }));
        self.retry_after = Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        self
    }

    /// Whether whoever made it says when to come back.
    pub(crate) fn asks_to_wait(&self) -> bool {
        self.retry_after.is_some()
    }

    pub(crate) fn method_not_allowed(allow: &[Method], domain: &str) -> Self {
        let names: Vec<&str> = allow.iter().map(Method::as_str).collect();
        let mut problem = Self::new(
            Code::Unimplemented,
            "METHOD_NOT_ALLOWED",
            "method not allowed for this path",
            domain,
        )
        .with_http(StatusCode::METHOD_NOT_ALLOWED);
        problem.allow = HeaderValue::try_from(names.join(", ")).ok();
        problem
    }

    pub(crate) fn invalid(error: &InvalidRequest, domain: &str) -> Self {
        let reason = if error.violations.iter().any(|violation| violation.field.is_empty()) {
            "MALFORMED_REQUEST"
        } else {
            "INVALID_FIELD"
        };
        let mut problem = Self::new(Code::InvalidArgument, reason, error.to_string(), domain);
        let violations: Vec<Value> = error
            .violations
            .iter()
            .map(|violation| json!({"field": violation.field, "description": violation.description}))
            .collect();
        problem.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": violations,
        }));
        problem
    }

    /// What a service said in its trailers; `None` if it said OK.
    pub(crate) fn from_trailers(schema: &Schema, trailers: &HeaderMap, domain: &str) -> Option<Self> {
        let number = trailers
            .get("grpc-status")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let Some(number) = number else {
            return Some(Self::new(
                Code::Internal,
                "INTERNAL",
                "the service ended its reply without a status",
                domain,
            ));
        };
        let code = Code::from_number(number);
        if code == Code::Ok {
            return None;
        }
        let message = trailers
            .get("grpc-message")
            .map(|value| percent_decode(value.as_bytes()))
            .unwrap_or_default();
        let mut problem = Self {
            code,
            http: code.http(),
            message,
            details: Vec::new(),
            allow: None,
            retry_after: None,
        };
        if let Some(status) = trailers
            .get("grpc-status-details-bin")
            .and_then(|value| decode_bin(value.as_bytes()))
        {
            problem.add_details(schema, &status);
        }
        Some(problem)
    }

    /// Adds the details of an encoded `google.rpc.Status`. What cannot be read is left out: an error about an error
    /// helps nobody.
    fn add_details(&mut self, schema: &Schema, status: &[u8]) {
        let Some(any) = schema.find("google.protobuf.Any") else {
            return;
        };
        let options = EncodeOptions {
            unset: Unset::Omit,
            ..EncodeOptions::default()
        };
        let mut reader = Reader::new(status);
        while let Ok(Some((number, raw))) = reader.next_field() {
            let (3, Raw::Bytes(detail)) = (number, raw) else {
                continue;
            };
            let url = match wire::find(detail, &[1]) {
                Ok(Some(Raw::Bytes(url))) => std::str::from_utf8(url).unwrap_or_default(),
                _ => continue,
            };
            // Stack traces are the operator's business.
            if url.ends_with("/google.rpc.DebugInfo") {
                continue;
            }
            if url.ends_with("/google.rpc.RetryInfo")
                && let Ok(Some(Raw::Bytes(info))) = wire::find(detail, &[2])
            {
                self.retry_after = Some(retry_seconds(info));
            }
            let mut text = Vec::new();
            if codec::encode(schema, any, detail, &options, &mut text).is_ok()
                && let Ok(value) = serde_json::from_slice(&text)
            {
                self.details.push(value);
            }
        }
    }

    /// The body's text.
    pub(crate) fn json(&self) -> String {
        json!({"error": {
            "code": self.http.as_u16(),
            "message": self.message,
            "status": self.code.name(),
            "details": self.details,
        }})
        .to_string()
    }

    /// The whole response to a request that had a credential or not: RFC 6750, section 3.1 wants to say that a token is no good, but no
    /// error where there was none.
    pub(crate) fn response(&self, has_credential: bool) -> Response<Body> {
        let mut response = Response::new(Body::Full(Bytes::from(self.json())));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(allow) = &self.allow {
            headers.insert(ALLOW, allow.clone());
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.http == StatusCode::UNAUTHORIZED {
            let challenge = if has_credential {
                "Bearer error=\"invalid_token\""
            } else {
                "Bearer"
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// Whole seconds of a `google.rpc.RetryInfo`, rounded up.
fn retry_seconds(info: &[u8]) -> u64 {
    let part = |number| match wire::find(info, &[1, number]) {
        Ok(Some(Raw::Varint(value))) => value,
        _ => 0,
    };
    part(1).min(86_400) + u64::from(part(2) > 0)
}

/// `grpc-message` is percent-encoded; what is malformed stays.
fn percent_decode(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = if byte == b'%' { hex::pair(after) } else { None };
        out.push(escaped.unwrap_or(byte));
        rest = match escaped {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Metadata that ends in `-bin`, with or without padding.
fn decode_bin(bytes: &[u8]) -> Option<Vec<u8>> {
    let trimmed: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'=').collect();
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(trimmed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hexadecimal_digits_are_an_escape() {
        for (text, decoded) in [
            ("no%20such%20book", "no such book"),
            ("%+1%-1%1", "%+1%-1%1"),
            ("%e4%zz", "\u{fffd}%zz"),
        ] {
            assert_eq!(percent_decode(text.as_bytes()), decoded, "{text}");
        }
    }
}
