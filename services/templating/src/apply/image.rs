//! Golden disks and the DataSource that points at one of them.

use kube::{Api, Client, Resource, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use steading_controller::{Fresh, fresh::Deletion};
use steading_infra::{
    cdi::{DataSource, DataVolume},
    labels,
};

use crate::{
    domain::image::{CONTENT_LABEL, ImageSpec, STATUS_ANNOTATION},
    error::Error,
    observe::{
        contents::{disks_being_cloned, disks_of_revisions},
        image::pointing_at,
    },
    plan::image::ImagePlan,
    render,
};

/// What became of the golden disks that are not wanted any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// None is left that waits for anything.
    Settled,
    /// Clones of some are running; they are looked at again.
    BeingCloned,
    /// Some changed while they were looked at; they are looked at again.
    Changed,
}

/// Carries a plan out: the import first, then the pointer with the status, deletions last. Stopped anywhere, what is cloned
/// is still there. `source` was read in this pass, and the pointer moves only if it did not change since.
///
/// # Errors
/// If the API server refuses or does not answer.
pub async fn carry_out(
    kube: &Client,
    source: &Fresh<DataSource>,
    spec: &ImageSpec,
    plan: &ImagePlan,
) -> Result<Leftovers, Error> {
    let image = source.name_any();
    let fault = || Error::infra("Image", image.clone());
    let volumes: Api<DataVolume> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let sources: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    if let Some(content) = &plan.create {
        let volume = golden(source, spec, content).map_err(|_| Error::Unreadable(image.clone()))?;
        match volumes.create(&PostParams::default(), &volume).await {
            Ok(_) => tracing::info!(image, content, "import begun"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(fault()(error)),
        }
    }
    let wanted = with_plan(source, plan)?;
    if wanted != **source {
        // With the resource version that was read: a change that was not seen is not overwritten.
        sources
            .replace(&image, &PostParams::default(), &wanted)
            .await
            .map_err(fault())?;
    }
    if plan.unwanted.is_empty() {
        return Ok(Leftovers::Settled);
    }
    // Read after the pointer has moved: whoever resolves from now on takes the new content.
    let kept = disks_of_revisions(kube, &image).await?;
    let free: Vec<String> = plan
        .unwanted
        .iter()
        .filter(|name| !kept.contains(name))
        .cloned()
        .collect();
    if free.is_empty() {
        return Ok(Leftovers::Settled);
    }
    let cloned = disks_being_cloned(kube, &free).await?;
    let mut leftovers = if cloned.is_empty() {
        Leftovers::Settled
    } else {
        Leftovers::BeingCloned
    };
    for name in free.iter().filter(|name| !cloned.contains(name)) {
        let Some(volume) = Fresh::get(&volumes, name).await.map_err(fault())? else {
            continue;
        };
        // A volume of that name that is none of the image's is somebody else's.
        if volume.labels().get(labels::IMAGE) != Some(&image) {
            continue;
        }
        match volume.delete(&volumes).await.map_err(fault())? {
            Deletion::Accepted => tracing::info!(image, volume = name, "old content deleted"),
            Deletion::Gone => {}
            Deletion::Changed => leftovers = Leftovers::Changed,
        }
    }
    Ok(leftovers)
}

/// The DataSource as a plan wants it.
///
/// # Errors
/// If the status cannot be written down.
pub fn with_plan(source: &DataSource, plan: &ImagePlan) -> Result<DataSource, Error> {
    let image = source.name_any();
    let mut wanted = source.clone();
    wanted.spec = pointing_at(&image, &plan.point_at);
    let status = serde_json::to_string(&plan.status).map_err(|_| Error::Unreadable(image))?;
    wanted.annotations_mut().insert(STATUS_ANNOTATION.into(), status);
    Ok(wanted)
}

/// The DataVolume of a content.
fn golden(source: &DataSource, spec: &ImageSpec, content: &str) -> Result<DataVolume, serde_json::Error> {
    let name = source.name_any();
    let origin = if let Some(http) = &spec.http {
        json!({"http": render::http_source(http)})
    } else if let Some(registry) = &spec.registry {
        json!({"registry": render::registry_source(registry)})
    } else {
        json!({"pvc": spec.pvc})
    };
    let mut storage = json!({"resources": {"requests": {"storage": spec.size}}});
    let texts = [
        ("storageClassName", &spec.storage_class),
        ("volumeMode", &spec.volume_mode),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        storage[key] = json!(text);
    }
    if !spec.access_mode.is_empty() {
        storage["accessModes"] = json!([spec.access_mode]);
    }
    let mut body = json!({"source": origin, "storage": storage});
    if spec.preallocation {
        body["preallocation"] = json!(true);
    }
    let mut labels_of_volume = json!({labels::IMAGE: name, CONTENT_LABEL: content,
        labels::MANAGED_BY: labels::MANAGED_BY_STEADING});
    if let Some(project) = source.labels().get(labels::PROJECT) {
        labels_of_volume[labels::PROJECT] = json!(project);
    }
    let volume: Value = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {
            "name": ImageSpec::data_volume_name(&name, content),
            "namespace": labels::SYSTEM_NAMESPACE,
            "labels": labels_of_volume,
            "annotations": {labels::CDI_DELETE_AFTER_COMPLETION: "false", labels::CDI_BIND_IMMEDIATE: "true"},
            "ownerReferences": source.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": body,
    });
    serde_json::from_value(volume)
}
