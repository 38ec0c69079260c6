//! Looking up what templates refer to, and who refers to what.

use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::Value;
use steading_api::error::RpcError;
use steading_infra::{
    cdi::DataSource,
    crd::{
        MachinePool,
        machine_template::{MachineTemplate, MachineTemplateSpec},
    },
    kubevirt::{VirtualMachine, VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};
use steading_model::{
    ids::Id,
    name::{ImageName, InstanceTypeName, MachinePoolName, MachineTemplateName, PreferenceName, Scope},
};
use steading_runtime::collection::kube_error;

use super::convert::image::read_spec;
use crate::{
    domain::{Resolved, Size, machine::ResolvedImage},
    error::Error,
};

/// Users of a resource that an error names at most.
const NAMED_USERS: usize = 5;

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

/// Looks up everything that a valid template of `project` refers to. Defaults of the image are filled in.
///
/// # Errors
/// If something does not exist, or is another project's.
pub async fn resolve(kube: &Client, project: &Id, spec: &MachineTemplateSpec) -> Result<Resolved, RpcError> {
    let mut resolved = Resolved::default();
    let root = spec
        .root_disk
        .image
        .iter()
        .map(|name| ("root_disk.image".to_owned(), name));
    let others = spec
        .disks
        .iter()
        .enumerate()
        .filter_map(|(i, d)| Some((format!("disks[{i}].image"), d.image.as_ref()?)));
    for (path, name) in root.chain(others) {
        let image = image(kube, project, &path, name).await?;
        resolved.images.insert(name.clone(), image);
    }
    let of_image = spec
        .root_disk
        .image
        .as_ref()
        .and_then(|name| resolved.images.get(name))
        .map(|i| i.spec.clone());
    let of_image = of_image.unwrap_or_default();
    let default = |text: String| Some(text).filter(|t| !t.is_empty());

    let inline = spec.memory.is_some();
    let instance_type = spec
        .instance_type
        .clone()
        .or_else(|| default(of_image.default_instance_type).filter(|_| !inline));
    if let Some(name) = instance_type {
        resolved.instance_type = Some(find_instance_type(kube, project, &name).await?);
    }
    if let Some(name) = spec.preference.clone().or_else(|| default(of_image.default_preference)) {
        resolved.preference = Some(find_preference(kube, project, &name).await?);
    }
    Ok(resolved)
}

async fn image(kube: &Client, project: &Id, path: &str, name: &str) -> Result<ResolvedImage, RpcError> {
    let parsed: ImageName = name.parse().map_err(|e| RpcError::invalid_name(path, &e))?;
    visible(&parsed.scope, project, || missing(path, "Image", name))?;
    let api: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(|e| kube_error("Image", name, &e))?;
    let spec = found
        .as_ref()
        .filter(|o| o.metadata.deletion_timestamp.is_none())
        .and_then(read_spec);
    let spec = spec.ok_or_else(|| missing(path, "Image", name))?;
    Ok(ResolvedImage {
        data_source: parsed.object_name(),
        spec,
    })
}

async fn find_instance_type(kube: &Client, project: &Id, name: &str) -> Result<(String, Size), RpcError> {
    let path = "instance_type";
    let parsed: InstanceTypeName = name.parse().map_err(|e| RpcError::invalid_name(path, &e))?;
    visible(&parsed.scope, project, || missing(path, "InstanceType", name))?;
    let api: Api<VirtualMachineClusterInstancetype> = Api::all(kube.clone());
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(|e| kube_error("InstanceType", name, &e))?;
    let spec = found.and_then(|o| serde_json::to_value(o.spec).ok());
    let size = spec.as_ref().and_then(Size::from_instancetype_spec);
    Ok((
        parsed.object_name(),
        size.ok_or_else(|| missing(path, "InstanceType", name))?,
    ))
}

async fn find_preference(kube: &Client, project: &Id, name: &str) -> Result<(String, Value), RpcError> {
    let path = "preference";
    let parsed: PreferenceName = name.parse().map_err(|e| RpcError::invalid_name(path, &e))?;
    visible(&parsed.scope, project, || missing(path, "Preference", name))?;
    let api: Api<VirtualMachineClusterPreference> = Api::all(kube.clone());
    let found = api
        .get_opt(&parsed.object_name())
        .await
        .map_err(|e| kube_error("Preference", name, &e))?;
    let spec = found.and_then(|o| serde_json::to_value(o.spec).ok());
    Ok((
        parsed.object_name(),
        spec.ok_or_else(|| missing(path, "Preference", name))?,
    ))
}

/// Some of the templates for which `uses` holds.
///
/// # Errors
/// If the API server does not answer.
pub async fn templates_using(
    kube: &Client,
    uses: impl Fn(&MachineTemplateSpec) -> bool,
) -> Result<Vec<String>, RpcError> {
    let api: Api<MachineTemplate> = Api::all(kube.clone());
    let all = api
        .list(&ListParams::default())
        .await
        .map_err(|e| kube_error("MachineTemplate", "machine templates", &e))?;
    let name = |t: &MachineTemplate| {
        MachineTemplateName::from_object_name(&t.name_any()).map_or_else(|| t.name_any(), |n| n.to_string())
    };
    Ok(all
        .items
        .iter()
        .filter(|t| uses(&t.spec))
        .map(name)
        .take(NAMED_USERS)
        .collect())
}

/// Refuses if somebody uses the resource.
///
/// # Errors
/// `RESOURCE_IN_USE`.
pub fn refuse_if_used(kind: &'static str, name: String, users: Vec<String>) -> Result<(), Error> {
    if users.is_empty() {
        Ok(())
    } else {
        Err(Error::InUse { kind, name, users })
    }
}

/// Who uses a template, by the id of the revision.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Machines that were made from it.
    pub machines: BTreeMap<String, i32>,
    /// Pools that use it, or have machines that were made from it.
    pub pools: BTreeMap<String, BTreeSet<String>>,
}

impl Usage {
    /// Ids of the revisions that are used.
    pub fn revisions(&self) -> Vec<String> {
        self.machines.keys().chain(self.pools.keys()).cloned().collect()
    }

    /// Some of the pools that use any revision.
    pub fn some_pools(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.pools.values().flatten().collect();
        all.into_iter().take(NAMED_USERS).cloned().collect()
    }
}

/// Looks who uses a template. `latest` is the id of its newest revision, which pools follow that name none.
///
/// # Errors
/// If the API server does not answer.
pub async fn usage(kube: &Client, name: &MachineTemplateName, latest: &str) -> Result<Usage, RpcError> {
    let fault = |e: kube::Error| kube_error("MachineTemplate", &name.to_string(), &e);
    let mut usage = Usage::default();
    let machines: Api<VirtualMachine> = Api::all(kube.clone());
    let made_from = ListParams::default().labels(&format!("{}={}", labels::MACHINE_TEMPLATE, name.object_name()));
    for vm in machines.list(&made_from).await.map_err(fault)? {
        let revision = vm
            .annotations()
            .get(labels::TEMPLATE_REVISION)
            .cloned()
            .unwrap_or_default();
        *usage.machines.entry(revision.clone()).or_default() += 1;
        let pool = vm.labels().get(labels::POOL).cloned().unwrap_or_default();
        if let Some(pool) = MachinePoolName::from_object(&vm.namespace().unwrap_or_default(), &pool) {
            usage.pools.entry(revision).or_default().insert(pool.to_string());
        }
    }
    let pools: Api<DynamicObject> = Api::all_with(kube.clone(), &ApiResource::erase::<MachinePool>(&()));
    let prefix = format!("{}{}", name.project, labels::PROJECT_SEPARATOR);
    for pool in pools.list(&ListParams::default()).await.map_err(fault)? {
        let namespace = pool.namespace().unwrap_or_default();
        let text = |pointer: &str| pool.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let template = text("/spec/machineTemplate");
        let same = template == name.template.as_str() || template == name.to_string() || template == name.object_name();
        if !same || !namespace.starts_with(&prefix) {
            continue;
        }
        let Some(pool_name) = MachinePoolName::from_object(&namespace, &pool.name_any()) else {
            continue;
        };
        let wanted = last_segment(text("/spec/machineTemplateRevision"));
        let wanted = if wanted.is_empty() { latest } else { wanted };
        let current = last_segment(text("/status/templateRevision"));
        for revision in [wanted, current].into_iter().filter(|r| !r.is_empty()) {
            usage
                .pools
                .entry(revision.to_owned())
                .or_default()
                .insert(pool_name.to_string());
        }
    }
    Ok(usage)
}

/// The last segment of a name, or the text itself.
pub fn last_segment(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}
