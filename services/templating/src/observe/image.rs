//! What an image's DataSource says, and which golden disks there are.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_controller::list::list_all;
use steading_infra::{
    cdi::{DataSource, DataSourceSpec, DataVolume, DataVolumePhase, DataVolumeSource, ObjectSource},
    labels,
};

use super::{Observed, parse::clone_of};
use crate::{
    domain::{
        Resolved,
        image::{CONTENT_LABEL, GoldenDisk, ImageSpec, ImageStatus, ImportPhase, SPEC_ANNOTATION, STATUS_ANNOTATION},
        machine::ResolvedImage,
    },
    error::Error,
    observe::revisions,
    plan::resolve::content_gone,
};

fn annotation<'a>(object: &'a DataSource, key: &str) -> &'a str {
    object.annotations().get(key).map(String::as_str).unwrap_or_default()
}

/// What is wanted of the image that a DataSource is; `None` if it is none of ours.
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

/// Golden disks of an image that stored revisions were made with.
///
/// # Errors
/// If the API server does not answer.
pub async fn disks_of_revisions(kube: &Client, image: &str) -> Result<Vec<String>, Error> {
    let mut volumes = Vec::new();
    for (_, revision) in revisions::all(kube).await? {
        let of_image = revision.resolved.images.values().filter(|i| i.data_source == image);
        volumes.extend(of_image.map(ResolvedImage::volume));
    }
    Ok(volumes)
}

/// Golden disks out of `candidates` that are being cloned anywhere in the infra cluster. Read whole: one that is missed would
/// be deleted under its clone.
///
/// # Errors
/// If the API server does not answer.
pub async fn disks_being_cloned(kube: &Client, candidates: &[String]) -> Result<Vec<String>, Error> {
    let volumes: Api<DataVolume> = Api::all(kube.clone());
    let all = list_all(&volumes, &ListParams::default())
        .await
        .map_err(Error::list("DataVolume", "clones"))?;
    let origins = all.items.iter().filter_map(clone_of);
    Ok(origins
        .filter(|origin| candidates.iter().any(|name| name == origin))
        .map(str::to_owned)
        .collect())
}

/// Makes sure that every image content of a revision can be cloned, or will be when its import has ended.
///
/// # Errors
/// If one no longer exists: the revision makes no more machines.
pub async fn require_contents(kube: &Client, revision: &str, resolved: &Resolved) -> Result<(), Error> {
    let volumes: Api<DataVolume> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let sources: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let (mut there, mut wanted) = (BTreeSet::new(), BTreeMap::new());
    for (name, image) in &resolved.images {
        let volume = volumes.get_opt(&image.volume()).await;
        let volume = volume.map_err(Error::infra("Image", name))?;
        if volume.is_some_and(|volume| volume.metadata.deletion_timestamp.is_none()) {
            there.insert(image.volume());
            continue;
        }
        let source = sources.get_opt(&image.data_source).await;
        let source = source.map_err(Error::infra("Image", name))?;
        if let Some(spec) = source.as_ref().and_then(read_spec) {
            wanted.insert(image.data_source.clone(), spec.content_id());
        }
    }
    let gone = content_gone(
        resolved,
        |volume| there.contains(volume),
        |source| wanted.get(source).cloned(),
    );
    refuse_if_gone(revision, gone)
}

/// The same from what is seen.
///
/// # Errors
/// If one is not seen and not wanted any longer.
pub fn require_seen(seen: &Observed, revision: &str, resolved: &Resolved) -> Result<(), Error> {
    let wanted = |source: &str| {
        let source = seen.images.index().get(labels::SYSTEM_NAMESPACE, source)?;
        Some(read_spec(&source)?.content_id())
    };
    refuse_if_gone(
        revision,
        content_gone(resolved, |volume| seen.has_golden(volume), wanted),
    )
}

fn refuse_if_gone(revision: &str, gone: Option<(&str, &ResolvedImage)>) -> Result<(), Error> {
    match gone {
        None => Ok(()),
        Some((name, image)) => Err(Error::ContentMissing {
            revision: revision.to_owned(),
            image: name.to_owned(),
            content: image.content.clone(),
        }),
    }
}
