//! `x-request-id`: the name under which every log line of every service tells of a call.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderName, HeaderValue};

use crate::context::new_request_id;

/// The header in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client: it goes into every log line.
const MAX_LENGTH: usize = 64;

/// The id of a call; in the request's extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Takes the client's id if it is a tame one, makes one otherwise, and answers with it.
pub async fn layer(mut request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_tame(text));
    let id = given.map_or_else(new_request_id, str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn is_tame(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tame_ids_are_taken() {
        for (text, tame) in [
            ("a-1_B.c:d", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            (&"a".repeat(65), false),
        ] {
            assert_eq!(is_tame(text), tame, "{text}");
        }
    }
}
