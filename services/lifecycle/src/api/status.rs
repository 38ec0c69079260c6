//! Errors of the infra cluster → errors for clients.

use steading_api::{error::RpcError, types::v1::ErrorReason};
use steading_infra::error::InfraError;
use steading_runtime::tasks::Chain;

/// The error for a client when the infra cluster failed a request about an object.
pub fn infra_error(kind: &str, name: &str, error: &InfraError) -> RpcError {
    match error {
        InfraError::NotFound(_) => RpcError::not_found(kind, name),
        InfraError::AlreadyExists(_) => RpcError::already_exists(kind, name),
        InfraError::Conflict(_) | InfraError::Expired(_) => RpcError::new(
            ErrorReason::Conflict,
            format!("{name} was changed by somebody else meanwhile"),
        )
        .with_resource(kind, name),
        InfraError::Invalid(message) | InfraError::Forbidden(message) => RpcError::new(
            ErrorReason::InfraRefused,
            format!("the infra cluster refused {name}: {message}"),
        )
        .with_resource(kind, name)
        .with_precondition("INFRA", name, message.clone()),
        InfraError::Unavailable(_)
        | InfraError::TooManyRequests { .. }
        | InfraError::TimedOut(_)
        | InfraError::Other(_) => {
            tracing::warn!(error = %Chain(error), kind, name, "infra api server cannot be used");
            RpcError::new(
                ErrorReason::InfraUnavailable,
                "the infra cluster cannot be reached; retry",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(InfraError::NotFound("x".into()), tonic::Code::NotFound)]
    #[case(InfraError::AlreadyExists("x".into()), tonic::Code::AlreadyExists)]
    #[case(InfraError::Conflict("x".into()), tonic::Code::Aborted)]
    #[case(InfraError::Invalid("x".into()), tonic::Code::FailedPrecondition)]
    #[case(InfraError::TimedOut("x".into()), tonic::Code::Unavailable)]
    fn each_error_has_its_code(#[case] error: InfraError, #[case] code: tonic::Code) {
        let status = tonic::Status::from(infra_error("Cluster", "projects/a/clusters/b", &error));
        assert_eq!(status.code(), code);
    }
}
