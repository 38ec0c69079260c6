//! Looking up what templates refer to.

use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use steading_infra::{
    cdi::DataSource,
    crd::machine_template::MachineTemplateSpec,
    kubevirt::{VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};
use steading_model::{
    ids::Id,
    name::{ImageName, InstanceTypeName, PreferenceName, Scope},
};

use super::image::{read_spec, read_status};
use crate::{
    domain::{
        ImageSpec, Resolved, Size,
        machine::{CatalogueEntry, ResolvedImage},
    },
    error::Error,
    validate::{validate, validate_resolved},
};

fn missing(path: &str, kind: &'static str, name: &str) -> Error {
    Error::Reference {
        path: format!("machine_template.{path}"),
        kind,
        name: name.to_owned(),
    }
}

/// A name whose scope the project may see. To others it does not exist.
fn visible(scope: &Scope, project: &Id, missing: impl FnOnce() -> Error) -> Result<(), Error> {
    if scope.visible_to(project) {
        Ok(())
    } else {
        Err(missing())
    }
}

/// Checks a template of `project` whole and looks up what it refers to.
///
/// # Errors
/// If it breaks a rule or refers to something that does not exist.
pub async fn check(kube: &Client, project: &Id, spec: &MachineTemplateSpec) -> Result<Resolved, Error> {
    let invalid = |violations| Error::Invalid {
        field: "machine_template",
        violations,
    };
    validate(project, spec).map_err(invalid)?;
    let resolved = resolve(kube, project, spec).await?;
    validate_resolved(spec, &resolved).map_err(invalid)?;
    Ok(resolved)
}

/// Looks up everything that a valid template of `project` refers to. Defaults of the image are filled in.
async fn resolve(kube: &Client, project: &Id, spec: &MachineTemplateSpec) -> Result<Resolved, Error> {
    let mut resolved = Resolved::default();
    let mut of_root = ImageSpec::default();
    if let Some(name) = &spec.root_disk.image {
        let (image, spec) = find_image(kube, project, "root_disk.image", name).await?;
        resolved.images.insert(name.clone(), image);
        of_root = spec;
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        if let Some(name) = disk.image.as_ref().filter(|name| !resolved.images.contains_key(*name)) {
            let (image, _) = find_image(kube, project, &format!("disks[{index}].image"), name).await?;
            resolved.images.insert(name.clone(), image);
        }
    }
    let default = |text: String| Some(text).filter(|t| !t.is_empty());
    let inline = spec.memory.is_some();
    let instance_type = spec
        .instance_type
        .clone()
        .or_else(|| default(of_root.default_instance_type).filter(|_| !inline));
    if let Some(name) = instance_type {
        resolved.instance_type = Some(find_instance_type(kube, project, &name).await?);
    }
    if let Some(name) = spec.preference.clone().or_else(|| default(of_root.default_preference)) {
        resolved.preference = Some(find_preference(kube, project, &name).await?);
    }
    Ok(resolved)
}

async fn find_image(kube: &Client, project: &Id, path: &str, name: &str) -> Result<(ResolvedImage, ImageSpec), Error> {
    let parsed: ImageName = name.parse().map_err(|source| Error::Name {
        path: path.to_owned(),
        source,
    })?;
    visible(&parsed.scope, project, || missing(path, "Image", name))?;
    let api: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(Error::infra("Image", name))?;
    let found = found.filter(|object| object.metadata.deletion_timestamp.is_none());
    let found = found.and_then(|object| Some((read_spec(&object)?, read_status(&object))));
    let (spec, status) = found.ok_or_else(|| missing(path, "Image", name))?;
    // What can be cloned now; before the first import has ended, what it brings.
    let content = Some(status.content)
        .filter(|content| !content.is_empty())
        .unwrap_or_else(|| spec.content_id());
    let image = ResolvedImage {
        data_source: parsed.object_name(),
        content,
        size: spec.size.clone(),
    };
    Ok((image, spec))
}

fn entry<S: Serialize>(name: &str, object: String, spec: &S) -> Option<CatalogueEntry> {
    Some(CatalogueEntry {
        name: name.to_owned(),
        object,
        spec: sorted(serde_json::to_value(spec).ok()?),
    })
}

/// The same value with its keys in order, so that equal contents have equal texts.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: std::collections::BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}

async fn find_instance_type(kube: &Client, project: &Id, name: &str) -> Result<CatalogueEntry, Error> {
    let path = "instance_type";
    let parsed: InstanceTypeName = name.parse().map_err(|source| Error::Name {
        path: path.to_owned(),
        source,
    })?;
    visible(&parsed.scope, project, || missing(path, "InstanceType", name))?;
    let api: Api<VirtualMachineClusterInstancetype> = Api::all(kube.clone());
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(Error::infra("InstanceType", name))?;
    found
        .and_then(|object| entry(name, object.name_any(), &object.spec))
        .filter(|entry| Size::from_instancetype_spec(&entry.spec).is_some())
        .ok_or_else(|| missing(path, "InstanceType", name))
}

async fn find_preference(kube: &Client, project: &Id, name: &str) -> Result<CatalogueEntry, Error> {
    let path = "preference";
    let parsed: PreferenceName = name.parse().map_err(|source| Error::Name {
        path: path.to_owned(),
        source,
    })?;
    visible(&parsed.scope, project, || missing(path, "Preference", name))?;
    let api: Api<VirtualMachineClusterPreference> = Api::all(kube.clone());
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(Error::infra("Preference", name))?;
    found
        .and_then(|object| entry(name, object.name_any(), &object.spec))
        .ok_or_else(|| missing(path, "Preference", name))
}
