//! The collection of storage classes, and what a project is offered of it.

use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};
use steading_api::{error::RpcError, storage::v1 as proto};
use steading_infra::{cdi::DataVolume, crd::StorageClass, labels};
use steading_model::{
    ids::Id,
    name::{StorageClassName, VolumeName},
};
use steading_runtime::standard::{Collection, Keys, Writable, kube_error};

use super::convert::class;
use crate::{
    domain::class::{Offer, default_for},
    error::Error,
    observe::{class::offer, parse::KEYS},
};

/// Volumes that an error names at most.
const NAMED_VOLUMES: u32 = 5;
/// Storage classes that are looked at for a default; a cluster has a handful.
const MAX_CLASSES: u32 = 500;

/// Storage classes as objects of the infra cluster.
#[derive(Clone)]
pub struct Classes {
    /// The infra cluster.
    pub kube: Client,
}

impl Classes {
    /// The collection on an infra cluster.
    pub fn new(kube: Client) -> Self {
        Self { kube }
    }

    fn objects(&self) -> Api<StorageClass> {
        Api::all(self.kube.clone())
    }

    /// The class that a project asks for, or its default if `name` is empty.
    ///
    /// # Errors
    /// If it is not offered to the project or not usable.
    pub async fn offered(&self, project: &Id, name: &str, path: &str) -> Result<Offer, RpcError> {
        let denied = |class: &str| Error::ClassNotOffered {
            class: class.to_owned(),
            project: project.to_string(),
        };
        if name.is_empty() {
            let all = self.objects().list(&ListParams::default().limit(MAX_CLASSES)).await;
            let all = all.map_err(|e| kube_error("StorageClass", "storage classes", &e))?;
            let offers: Vec<Offer> = all.items.iter().filter_map(|class| offer(class).ok()).collect();
            return default_for(&offers, project).cloned().ok_or_else(|| denied("").into());
        }
        let name: StorageClassName = name.parse().map_err(|e| RpcError::invalid_name(path, &e))?;
        let id = name.object_name();
        let found = self
            .objects()
            .get_opt(&id)
            .await
            .map_err(|e| kube_error("StorageClass", &name.to_string(), &e))?;
        let Some(found) = found.filter(|class| class.metadata.deletion_timestamp.is_none()) else {
            return Err(denied(&id).into());
        };
        match offer(&found) {
            Ok(offer) if offer.is_offered_to(project) => Ok(offer),
            Ok(_) => Err(denied(&id).into()),
            Err(violations) => Err(Error::ClassUnusable(id, violations.to_string()).into()),
        }
    }
}

impl Collection for Classes {
    type Object = StorageClass;
    type Resource = proto::StorageClass;
    type Name = StorageClassName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<StorageClass> {
        self.objects()
    }

    fn resource(&self, object: &StorageClass) -> Option<proto::StorageClass> {
        class::class(object)
    }
}

impl Writable for Classes {
    async fn object(
        &self,
        name: &StorageClassName,
        resource: &proto::StorageClass,
        current: Option<&StorageClass>,
    ) -> Result<StorageClass, RpcError> {
        let invalid = |violations| Error::Invalid {
            kind: "storage_class",
            violations,
        };
        let spec = class::class_from(resource).map_err(invalid)?;
        let object_name = name.object_name();
        let mut object = current
            .cloned()
            .unwrap_or_else(|| StorageClass::new(&object_name, spec.clone()));
        object.spec = spec;
        offer(&object).map_err(invalid)?;
        let meta = &mut object.metadata;
        let mut all = KEYS.merge(meta.labels.as_ref(), &resource.labels);
        all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
        meta.labels = Some(all);
        meta.annotations = Some(KEYS.merge(meta.annotations.as_ref(), &resource.annotations));
        Ok(object)
    }

    async fn before_delete(&self, name: &StorageClassName, _: &StorageClass, force: bool) -> Result<(), RpcError> {
        if force {
            return Ok(());
        }
        let id = name.object_name();
        let api: Api<DataVolume> = Api::all(self.kube.clone());
        let params = ListParams::default()
            .labels(&format!("{}={id}", labels::STORAGE_CLASS))
            .limit(NAMED_VOLUMES);
        let used = api
            .list_metadata(&params)
            .await
            .map_err(|e| kube_error("Volume", "volumes", &e))?;
        let full = |volume: &PartialObjectMeta<DataVolume>| {
            let namespace = volume.namespace().unwrap_or_default();
            VolumeName::from_object(&namespace, &volume.name_any())
                .map_or_else(|| format!("{namespace}/{}", volume.name_any()), |name| name.to_string())
        };
        let volumes: Vec<String> = used.items.iter().map(full).collect();
        if volumes.is_empty() {
            return Ok(());
        }
        Err(Error::ClassInUse {
            class: name.to_string(),
            volumes,
        }
        .into())
    }
}
