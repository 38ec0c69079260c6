//! Whether what revisions were made with is there, and who keeps golden disks from being deleted.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, Client, api::ListParams};
use steading_controller::list::list_all;
use steading_infra::{
    cdi::{DataSource, DataVolume},
    labels,
};

use super::{
    image::{clone_of, read_spec},
    index::Observed,
    revisions,
};
use crate::{
    domain::{Resolved, machine::ResolvedImage},
    error::Error,
    plan::resolve::content_gone,
};

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
