//! What clients see of refusals: one row for each.

use steading_api::{error::RpcError, types::v1::ErrorReason};
use steading_infra::error::InfraError;
use steading_model::violation::Violations;
use steading_runtime::tasks::Chain;

use crate::error::Refusal;

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Invalid { field, violations } => {
                let mut nested = Violations::new();
                nested.nest(field, violations);
                nested.into()
            }
            Refusal::VersionSkew(why) => {
                Self::new(ErrorReason::InvalidState, text).with_field("machine_pool.kubernetes_version", why)
            }
            Refusal::ReferenceNotFound { path, kind, name } => Self::new(ErrorReason::ReferenceNotFound, text)
                .with_field(path, "does not exist")
                .with_resource(kind, name),
            Refusal::Terminating { kind, name } => {
                Self::new(ErrorReason::ResourceDeleting, text).with_resource(kind, name)
            }
            Refusal::QuotaExceeded { project, what } => {
                Self::new(ErrorReason::QuotaExceeded, text).with_quota(project, what)
            }
            Refusal::ForeignNamespace { cluster, namespace, .. } => Self::new(ErrorReason::InvalidState, &text)
                .with_resource("Cluster", cluster)
                .with_precondition("NAMESPACE", namespace, text),
            Refusal::ManagedControlPlane => Self::new(ErrorReason::CapabilityMissing, &text)
                .with_field("cluster.managed", text)
                .with_precondition(
                    "CAPABILITY",
                    "managed control plane",
                    "is not served yet; see docs/status.md",
                ),
            Refusal::NoKubeconfig(name) => Self::new(ErrorReason::InvalidState, text).with_resource("Cluster", name),
            Refusal::KubeconfigNotStored(source) => {
                tracing::warn!(error = %Chain(&source), "a kubeconfig could not be stored");
                Self::new(ErrorReason::InfraUnavailable, text)
            }
            Refusal::MaintenanceState { name, .. } => {
                Self::new(ErrorReason::InvalidState, &text).with_precondition("STATE", name, text)
            }
            Refusal::OtherPlan { plan, .. } => {
                Self::new(ErrorReason::EtagMismatch, text).with_metadata("plan_id", plan)
            }
            Refusal::NotRendered { pool, .. } => {
                Self::new(ErrorReason::PeerUnavailable, text).with_resource("MachinePool", pool)
            }
            Refusal::WatchOverrun => Self::new(ErrorReason::WatchOverrun, text),
            Refusal::NotImplemented(method) => Self::not_implemented(method),
            Refusal::Infra { kind, name, source } => infra_error(kind, &name, &source),
        }
    }
}

/// The error for a client when the infra cluster failed a request about an object.
fn infra_error(kind: &str, name: &str, error: &InfraError) -> RpcError {
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
