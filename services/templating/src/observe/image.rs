//! What an image's DataSource says, and which golden disks there are.

use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_infra::{
    cdi::{DataSource, DataSourceSpec, DataVolume, DataVolumePhase, DataVolumeSource, ObjectSource},
    labels,
};

use crate::{
    domain::{
        Resolved,
        image::{CONTENT_LABEL, GoldenDisk, ImageSpec, ImageStatus, ImportPhase, SPEC_ANNOTATION, STATUS_ANNOTATION},
    },
    error::Error,
    observe::revisions,
};

/// Entries of one page of a list.
const PAGE: u32 = 500;

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
    let found = volumes.list(&own).await.map_err(Error::infra("Image", image))?;
    Ok(found.iter().map(golden_disk).collect())
}

fn golden_disk(volume: &DataVolume) -> GoldenDisk {
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
        volumes.extend(of_image.map(crate::domain::machine::ResolvedImage::volume));
    }
    Ok(volumes)
}

/// Golden disks out of `candidates` that are being cloned anywhere in the infra cluster. Read page by page: one that is
/// missed would be deleted under its clone.
///
/// # Errors
/// If the API server does not answer.
pub async fn disks_being_cloned(kube: &Client, candidates: &[String]) -> Result<Vec<String>, Error> {
    let volumes: Api<DataVolume> = Api::all(kube.clone());
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = volumes
            .list(&page)
            .await
            .map_err(Error::infra("DataVolume", "clones"))?;
        for volume in &list.items {
            let done = volume.status.as_ref().and_then(|s| s.phase.as_ref()) == Some(&DataVolumePhase::Succeeded);
            let source = volume.spec.source.as_ref().and_then(|s| s.pvc.as_ref());
            if let Some(source) = source.filter(|s| !done && s.namespace == labels::SYSTEM_NAMESPACE)
                && candidates.contains(&source.name)
            {
                found.push(source.name.clone());
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Makes sure that every image content of a revision can be cloned, or will be when its import has ended.
///
/// # Errors
/// If one no longer exists: the revision makes no more machines.
pub async fn require_contents(kube: &Client, revision: &str, resolved: &Resolved) -> Result<(), Error> {
    let volumes: Api<DataVolume> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let sources: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    for (name, image) in &resolved.images {
        let volume = volumes
            .get_opt(&image.volume())
            .await
            .map_err(Error::infra("Image", name))?;
        if volume.is_some_and(|v| v.metadata.deletion_timestamp.is_none()) {
            continue;
        }
        let source = sources
            .get_opt(&image.data_source)
            .await
            .map_err(Error::infra("Image", name))?;
        let wanted = source.as_ref().and_then(read_spec).map(|spec| spec.content_id());
        if wanted.as_deref() != Some(image.content.as_str()) {
            return Err(Error::ContentMissing {
                revision: revision.to_owned(),
                image: name.clone(),
                content: image.content.clone(),
            });
        }
    }
    Ok(())
}
