//! What clients see of the domain's errors: one row for each.

use steading_api::{error::RpcError, types::v1::ErrorReason};
use steading_model::violation::Violations;
use steading_runtime::{standard::kube_error, tasks::Chain};

use crate::error::Error;

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid { field, violations } => {
                let mut nested = Violations::new();
                nested.nest(field, violations);
                nested.into()
            }
            Error::ReadOnly { kind, name, .. } => Self::new(ErrorReason::InvalidState, text).with_resource(kind, name),
            Error::InUse { kind, name, users } => {
                let mut refusal = Self::new(ErrorReason::ResourceInUse, text).with_resource(kind, name);
                for user in users {
                    refusal = refusal.with_precondition("USED_BY", user, "uses the resource");
                }
                refusal
            }
            Error::Reference { path, kind, name } => Self::new(ErrorReason::ReferenceNotFound, text)
                .with_field(path, format!("{name} does not exist"))
                .with_resource(kind, name),
            Error::Name { path, source } => Self::invalid_name(&path, &source),
            Error::ContentMissing { revision, image, .. } => Self::new(ErrorReason::InvalidState, text)
                .with_resource("MachineTemplateRevision", revision)
                .with_precondition("IMAGE_CONTENT_MISSING", image, "the content no longer exists"),
            Error::Infra { kind, name, source } => kube_error(kind, &name, &source),
            Error::Write { kind, name, source } => {
                tracing::warn!(error = %Chain(&source), kind, name, "the infra cluster does not take a write");
                Self::new(ErrorReason::InfraUnavailable, text)
            }
            Error::TooMany { .. } => Self::new(ErrorReason::InfraUnavailable, text),
            Error::UnknownRevision(name) => Self::not_found("MachineTemplateRevision", name),
            Error::Unreadable(name) => {
                tracing::error!(name, "a stored object cannot be read");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_reason() {
        let name = || "images/x".to_owned();
        for (error, reason) in [
            (
                Error::Invalid {
                    field: "image",
                    violations: Violations::one("size", "x"),
                },
                ErrorReason::InvalidField,
            ),
            (
                Error::ReadOnly {
                    kind: "Image",
                    name: name(),
                    owner: "KubeVirt",
                },
                ErrorReason::InvalidState,
            ),
            (
                Error::InUse {
                    kind: "Image",
                    name: name(),
                    users: vec!["y".into()],
                },
                ErrorReason::ResourceInUse,
            ),
            (
                Error::Reference {
                    path: "p".into(),
                    kind: "Image",
                    name: name(),
                },
                ErrorReason::ReferenceNotFound,
            ),
            (
                Error::Name {
                    path: "instance_type".into(),
                    source: "x"
                        .parse::<steading_model::name::InstanceTypeName>()
                        .expect_err("no name"),
                },
                ErrorReason::InvalidName,
            ),
            (
                Error::ContentMissing {
                    revision: "r".into(),
                    image: name(),
                    content: "c".into(),
                },
                ErrorReason::InvalidState,
            ),
            (
                Error::infra("Image", "x")(kube::Error::LinesCodecMaxLineLengthExceeded),
                ErrorReason::InfraUnavailable,
            ),
            (Error::UnknownRevision("r".into()), ErrorReason::ResourceNotFound),
            (Error::Unreadable("r".into()), ErrorReason::Internal),
        ] {
            assert_eq!(RpcError::from(error).reason(), reason);
        }
    }
}
