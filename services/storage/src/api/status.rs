//! What clients see of the domain's errors: one row for each.

use std::time::Duration;

use steading_api::{error::RpcError, types::v1::ErrorReason};
use steading_model::violation::Violations;

use crate::error::Error;

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid { kind, violations } => {
                let mut nested = Violations::new();
                nested.nest(kind, violations);
                Self::from(nested)
            }
            Error::ClassNotOffered { class, project } => Self::new(ErrorReason::StorageClassNotOffered, text)
                .with_metadata("storage_class", class.clone())
                .with_metadata("project", project)
                .with_field("volume.storage_class", "is not offered")
                .with_resource("StorageClass", format!("storageClasses/{class}")),
            Error::ClassUnusable(class, _) => Self::new(ErrorReason::InvalidState, text)
                .with_resource("StorageClass", format!("storageClasses/{class}")),
            Error::ClassForbids { class, what } => Self::new(ErrorReason::InvalidState, text).with_precondition(
                "STORAGE_CLASS",
                format!("storageClasses/{class}"),
                what,
            ),
            Error::ClassInUse { class, volumes } => {
                let mut error = Self::new(ErrorReason::ResourceInUse, text).with_resource("StorageClass", class);
                for volume in volumes {
                    error = error.with_precondition("USED_BY", volume, "the volume is made of the class");
                }
                error
            }
            Error::ReferenceNotFound { kind, name } => {
                Self::new(ErrorReason::ReferenceNotFound, text).with_resource(kind, name)
            }
            Error::AttachedElsewhere { volume, machine } => Self::new(ErrorReason::VolumeAttachedElsewhere, text)
                .with_metadata("machine", machine.clone())
                .with_resource("Volume", volume)
                .with_precondition("ATTACHED", machine, "detach the volume from this machine first"),
            Error::VolumeInUse { volume, why } => Self::new(ErrorReason::ResourceInUse, text)
                .with_resource("Volume", volume.clone())
                .with_precondition("IN_USE", volume, why),
            Error::Deleting(name) => Self::new(ErrorReason::ResourceDeleting, text).with_resource("Volume", name),
            Error::InvalidState(_) => Self::new(ErrorReason::InvalidState, text),
            Error::Shrink { volume, .. } => Self::new(ErrorReason::InvalidField, text)
                .with_field("size", "may only grow")
                .with_resource("Volume", volume),
            Error::NoSnapshots => Self::new(ErrorReason::CapabilityMissing, text)
                .with_metadata("capability", "snapshot.storage.k8s.io/v1"),
            Error::QuotaExceeded { project, .. } => {
                Self::new(ErrorReason::QuotaExceeded, text).with_quota(project, "storage")
            }
            Error::NotWatched => {
                Self::new(ErrorReason::InfraUnavailable, text).with_retry_after(Duration::from_secs(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_reason() {
        let text = || "x".to_owned();
        for (error, reason) in [
            (
                Error::Invalid {
                    kind: "volume",
                    violations: Violations::one("a", "b"),
                },
                ErrorReason::InvalidField,
            ),
            (
                Error::ClassNotOffered {
                    class: text(),
                    project: text(),
                },
                ErrorReason::StorageClassNotOffered,
            ),
            (Error::ClassUnusable(text(), text()), ErrorReason::InvalidState),
            (
                Error::ClassForbids {
                    class: text(),
                    what: "growth",
                },
                ErrorReason::InvalidState,
            ),
            (
                Error::ClassInUse {
                    class: text(),
                    volumes: vec![text()],
                },
                ErrorReason::ResourceInUse,
            ),
            (
                Error::ReferenceNotFound {
                    kind: "Machine",
                    name: text(),
                },
                ErrorReason::ReferenceNotFound,
            ),
            (
                Error::AttachedElsewhere {
                    volume: text(),
                    machine: text(),
                },
                ErrorReason::VolumeAttachedElsewhere,
            ),
            (
                Error::VolumeInUse {
                    volume: text(),
                    why: text(),
                },
                ErrorReason::ResourceInUse,
            ),
            (Error::Deleting(text()), ErrorReason::ResourceDeleting),
            (Error::InvalidState(text()), ErrorReason::InvalidState),
            (
                Error::Shrink {
                    volume: text(),
                    present: text(),
                    wanted: text(),
                },
                ErrorReason::InvalidField,
            ),
            (Error::NoSnapshots, ErrorReason::CapabilityMissing),
            (
                Error::QuotaExceeded {
                    project: text(),
                    limit: text(),
                    used: text(),
                    wanted: text(),
                },
                ErrorReason::QuotaExceeded,
            ),
            (Error::NotWatched, ErrorReason::InfraUnavailable),
        ] {
            assert_eq!(RpcError::from(error).reason(), reason);
        }
    }
}
