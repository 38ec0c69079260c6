//! What the API server's refusals mean to a client.

use std::time::Duration;

use steading_api::{error::RpcError, types::v1::ErrorReason};

/// An error of the infra cluster's API server as a client should read it. `name` is the resource's.
pub fn kube_error(kind: &str, name: &str, error: &kube::Error) -> RpcError {
    let kube::Error::Api(status) = error else {
        tracing::warn!(%error, kind, name, "infra api server cannot be used");
        return unavailable();
    };
    match (status.code, status.reason.as_str()) {
        (404, _) => RpcError::not_found(kind, name),
        (409, "AlreadyExists") => RpcError::already_exists(kind, name),
        (409, _) => RpcError::new(
            ErrorReason::Conflict,
            format!("{name} was changed by somebody else meanwhile"),
        )
        .with_resource(kind, name),
        (410, _) => RpcError::new(
            ErrorReason::ResumeTokenExpired,
            "the resume token is too old; watch anew without one",
        ),
        (429 | 500..=599, _) => {
            tracing::warn!(%error, kind, name, "infra api server refuses work");
            unavailable()
        }
        _ => RpcError::new(
            ErrorReason::InfraRefused,
            format!("the infra cluster refused {name}: {}", status.message),
        )
        .with_resource(kind, name)
        .with_precondition("INFRA", name, status.message.clone()),
    }
}

fn unavailable() -> RpcError {
    RpcError::new(
        ErrorReason::InfraUnavailable,
        "the infra cluster's api server cannot be reached or refuses work",
    )
    .with_retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn every_refusal_has_its_reason() {
        for (code, reason, expected) in [
            (404, "NotFound", ErrorReason::ResourceNotFound),
            (409, "AlreadyExists", ErrorReason::ResourceAlreadyExists),
            (409, "Conflict", ErrorReason::Conflict),
            (410, "Expired", ErrorReason::ResumeTokenExpired),
            (429, "TooManyRequests", ErrorReason::InfraUnavailable),
            (503, "ServiceUnavailable", ErrorReason::InfraUnavailable),
            (422, "Invalid", ErrorReason::InfraRefused),
            (403, "Forbidden", ErrorReason::InfraRefused),
        ] {
            let error = kube::Error::Api(Status::failure("no", reason).with_code(code).boxed());
            assert_eq!(
                kube_error("Image", "images/x", &error).reason(),
                expected,
                "{code} {reason}"
            );
        }
    }
}
