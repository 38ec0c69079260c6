//! Errors that tonic makes before our code runs, such as for a message that does not decode, get the reason and
//! details that every error of ours has.

use axum::{extract::Request, middleware::Next, response::Response};
use steading_api::{error::RpcError, types::v1::ErrorReason};
use tonic::{Code, Status};

use super::stack::answer;

/// Replaces an error without details by one with them. Only whole answers: what a stream ends with is ours.
pub async fn layer(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if status.code() == Code::Ok || !status.details().is_empty() {
        return response;
    }
    match explain(&status, &path) {
        Some(error) => answer(error),
        None => response,
    }
}

/// What a status that tonic made means; `None` if it is not one of tonic's own.
fn explain(status: &Status, path: &str) -> Option<RpcError> {
    let message = status.message();
    let method = path.strip_prefix('/').unwrap_or(path);
    match status.code() {
        Code::Unimplemented => Some(
            RpcError::new(
                ErrorReason::NotImplemented,
                format!("this server does not serve {method}"),
            )
            .with_metadata("method", method),
        ),
        Code::OutOfRange if message.contains("message length too large") => Some(RpcError::new(
            ErrorReason::RequestTooLarge,
            "the request is larger than the server takes",
        )),
        Code::Internal if message.contains("decode") || message.contains("Missing request message") => Some(
            RpcError::new(ErrorReason::MalformedRequest, "the request cannot be decoded"),
        ),
        Code::Internal | Code::Unknown => {
            tracing::error!(method, code = ?status.code(), message, "an error without a reason");
            Some(RpcError::internal())
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "these stand for what tonic makes")]
mod tests {
    use super::*;

    #[test]
    fn tonics_own_errors_get_reasons() {
        for (status, reason) in [
            (Status::new(Code::Unimplemented, ""), Some(ErrorReason::NotImplemented)),
            (
                Status::new(
                    Code::OutOfRange,
                    "Error, decoded message length too large: found 9 bytes",
                ),
                Some(ErrorReason::RequestTooLarge),
            ),
            (
                Status::new(Code::Internal, "failed to decode Protobuf message: x"),
                Some(ErrorReason::MalformedRequest),
            ),
            (Status::new(Code::Internal, "boom"), Some(ErrorReason::Internal)),
            (Status::new(Code::NotFound, "gone"), None),
        ] {
            assert_eq!(explain(&status, "/a.B/C").map(|e| e.reason()), reason, "{status:?}");
        }
    }
}
