//! What an image's DataSource says, and which golden disks there are.

use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_controller::{list::list_all, object::slim};
use steading_infra::{
    cdi::{DataSource, DataSourceSpec, DataVolume, DataVolumePhase, DataVolumeSource, ObjectSource},
    labels,
};

use crate::{
    domain::image::{
        CONTENT_LABEL, GoldenDisk, ImageSpec, ImageStatus, ImportPhase, SPEC_ANNOTATION, STATUS_ANNOTATION,
    },
    error::Error,
};

/// A DataVolume that concerns images.
#[derive(Debug, Clone, PartialEq)]
pub enum ObservedVolume {
    /// A golden disk.
    Golden {
        /// The image's DataSource.
        image: String,
        /// The disk.
        disk: GoldenDisk,
        /// Whether it is being deleted.
        ending: bool,
    },
    /// Something that is being cloned from a claim of the system namespace, until that has ended.
    Clone {
        /// The claim.
        of: String,
    },
}

fn annotation<'a>(object: &'a DataSource, key: &str) -> &'a str {
    object.annotations().get(key).map(String::as_str).unwrap_or_default()
}

/// What is wanted of the image that a DataSource is; `None` if it is not an image.
pub fn read_spec(object: &DataSource) -> Option<ImageSpec> {
    serde_json::from_str(annotation(object, SPEC_ANNOTATION)).ok()
}

/// What was seen of the image that a DataSource is.
pub fn read_status(object: &DataSource) -> ImageStatus {
    serde_json::from_str(annotation(object, STATUS_ANNOTATION)).unwrap_or_default()
}

/// Source of a DataSource that points at a content.
pub fn pointing_at(object_name: &str, content: &str) -> DataSourceSpec {
    let pvc = ObjectSource {
        namespace: labels::SYSTEM_NAMESPACE.into(),
        name: ImageSpec::data_volume_name(object_name, content),
    };
    DataSourceSpec {
        source: DataVolumeSource {
            pvc: Some(pvc),
            ..DataVolumeSource::default()
        },
    }
}

/// The golden disks of an image.
///
/// # Errors
/// If the API server does not answer.
pub async fn golden_disks(kube: &Client, image: &str) -> Result<Vec<GoldenDisk>, Error> {
    let volumes: Api<DataVolume> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let own = ListParams::default().labels(&format!("{}={image}", labels::IMAGE));
    let found = list_all(&volumes, &own).await.map_err(Error::list("Image", image))?;
    Ok(found.items.iter().map(golden_disk).collect())
}

/// A golden disk as its DataVolume shows it.
pub fn golden_disk(volume: &DataVolume) -> GoldenDisk {
    let status = volume.status.clone().unwrap_or_default();
    let running = status.conditions.iter().find(|c| c.type_ == "Running");
    let failing = running.filter(|c| c.reason.as_deref() == Some("Error"));
    let phase = match status.phase {
        None | Some(DataVolumePhase::Pending) => ImportPhase::Pending,
        Some(DataVolumePhase::Succeeded) => ImportPhase::Ready,
        Some(DataVolumePhase::Failed) => ImportPhase::Failed,
        Some(_) => ImportPhase::Importing,
    };
    // CDI tries for ever and stays in its phase meanwhile: what its conditions say is all that tells of a failure.
    let phase = match phase {
        ImportPhase::Pending | ImportPhase::Importing if failing.is_some() => ImportPhase::Failed,
        other => other,
    };
    let percent = status
        .progress
        .as_deref()
        .and_then(|p| p.trim_end_matches('%').split('.').next()?.parse().ok());
    let failure = failing
        .or(running.filter(|_| phase == ImportPhase::Failed))
        .and_then(|c| c.message.clone())
        .unwrap_or_default();
    GoldenDisk {
        name: volume.name_any(),
        content: volume.labels().get(CONTENT_LABEL).cloned().unwrap_or_default(),
        phase,
        progress: percent.unwrap_or_default(),
        restarts: status.restart_count.unwrap_or_default(),
        failure,
    }
}

/// An image without what only the API server needs.
pub fn image(object: DataSource) -> Option<DataSource> {
    (object.namespace().as_deref() == Some(labels::SYSTEM_NAMESPACE)).then(|| slim(object))
}

/// A golden disk, or a clone of something in the system namespace that has not ended.
pub fn volume(object: &DataVolume) -> Option<ObservedVolume> {
    let is_ours = object.namespace().as_deref() == Some(labels::SYSTEM_NAMESPACE);
    if let Some(image) = object.labels().get(labels::IMAGE).filter(|_| is_ours) {
        return Some(ObservedVolume::Golden {
            image: image.clone(),
            disk: golden_disk(object),
            ending: object.metadata.deletion_timestamp.is_some(),
        });
    }
    let of = clone_of(object)?.to_owned();
    Some(ObservedVolume::Clone { of })
}

/// The claim of the system namespace that a DataVolume is being cloned from; `None` when the clone has ended.
pub fn clone_of(object: &DataVolume) -> Option<&str> {
    let phase = object.status.as_ref().and_then(|status| status.phase.as_ref());
    let source = object.spec.source.as_ref()?.pvc.as_ref()?;
    let is_under_way = phase != Some(&DataVolumePhase::Succeeded) && source.namespace == labels::SYSTEM_NAMESPACE;
    is_under_way.then_some(source.name.as_str())
}
