//! What clients see of the domain's errors: one row for each.

use std::time::Duration;

use steading_api::{error::RpcError, types::v1::ErrorReason};
use steading_controller::list::ListError;
use steading_runtime::{standard::kube_error, tasks::Chain};

use crate::error::Error;

/// When it is worth asking again: what is missing comes within seconds.
const SOON: Duration = Duration::from_secs(1);

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::InvalidPolicy(violations) => {
                let mut nested = steading_model::violation::Violations::new();
                nested.nest("placement_policy", violations);
                Self::from(nested)
            }
            Error::UnknownInfraNode(name) => Self::not_found("InfraNode", name),
            Error::UnknownPolicy(name) => {
                Self::new(ErrorReason::ReferenceNotFound, text).with_resource("PlacementPolicy", name)
            }
            Error::OtherProject { name, .. } => {
                // Whether it exists is none of the other project's business.
                Self::new(
                    ErrorReason::ReferenceNotFound,
                    format!("{name} does not exist for this project"),
                )
                .with_resource("PlacementPolicy", name)
            }
            Error::UnknownInstanceType(name) => {
                Self::new(ErrorReason::ReferenceNotFound, text).with_resource("InstanceType", name)
            }
            Error::NotInfraCluster(_) => Self::new(ErrorReason::InvalidName, text.clone()).with_field("name", text),
            Error::Capabilities(source) => {
                tracing::warn!(error = %Chain(&source), "the infra cluster's capabilities cannot be read");
                Self::new(ErrorReason::InfraUnavailable, format!("{text}: {source}")).with_retry_after(SOON)
            }
            Error::TokenExpired => Self::new(ErrorReason::ResumeTokenExpired, text),
            Error::NotImplemented(method) => Self::not_implemented(method),
            Error::Pools(ListError::Kube(source)) => kube_error("MachinePool", "machine pools", &source),
            Error::NotSynced(_) | Error::Pools(_) => {
                Self::new(ErrorReason::InfraUnavailable, text).with_retry_after(SOON)
            }
            Error::Busy => Self::new(ErrorReason::RateLimited, text).with_retry_after(SOON),
            Error::SolverFailed => Self::new(ErrorReason::Internal, text),
            Error::DefaultPolicy => {
                Self::new(ErrorReason::InvalidState, text).with_resource("PlacementPolicy", "placementPolicies/default")
            }
            Error::PolicyInUse { policy, pools } => {
                let mut error = Self::new(ErrorReason::ResourceInUse, text).with_resource("PlacementPolicy", policy);
                for pool in pools {
                    error = error.with_precondition("USED_BY", pool, "the pool uses the policy");
                }
                error
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use steading_model::violation::Violations;

    use super::*;

    #[test]
    fn every_error_has_its_reason() {
        let other = Error::OtherProject {
            name: "projects/a/placementPolicies/x".into(),
            project: "b".into(),
        };
        let used = Error::PolicyInUse {
            policy: "placementPolicies/x".into(),
            pools: vec!["p".into()],
        };
        for (error, reason) in [
            (
                Error::InvalidPolicy(Violations::one("a", "b")),
                ErrorReason::InvalidField,
            ),
            (Error::UnknownInfraNode("n".into()), ErrorReason::ResourceNotFound),
            (Error::UnknownPolicy("n".into()), ErrorReason::ReferenceNotFound),
            (other, ErrorReason::ReferenceNotFound),
            (Error::UnknownInstanceType("n".into()), ErrorReason::ReferenceNotFound),
            (Error::Busy, ErrorReason::RateLimited),
            (Error::SolverFailed, ErrorReason::Internal),
            (Error::DefaultPolicy, ErrorReason::InvalidState),
            (used, ErrorReason::ResourceInUse),
        ] {
            assert_eq!(RpcError::from(error).reason(), reason);
        }
    }
}
