//! The collection of volumes: DataVolumes with our label, shown together with what the indexes have of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kube::{Api, Client};
use steading_api::{error::RpcError, storage::v1 as proto};
use steading_infra::{cdi::DataVolume, labels};
use steading_model::{
    name::{ClusterName, VolumeName, Within},
    violation::Violations,
};
use steading_runtime::{
    clock::Clock,
    standard::{Collection, Index, Keys, Presence, Writable, kube_error},
};

use super::{
    fields::{parse_machine, parse_size},
    index::VolumeIndex,
    presence::of_cluster,
    quota::Quotas,
};
use crate::{
    domain::{attachment::elsewhere, eligibility::Attachee, volume::Volume},
    error::Error,
    observe::{
        Observed,
        parse::{self, KEYS},
    },
};

/// Volumes as objects of the infra cluster.
#[derive(Clone)]
pub struct Volumes {
    /// The infra cluster.
    pub kube: Client,
    /// What is seen.
    pub observed: Observed,
    /// Time.
    pub clock: Clock,
    /// What projects may have.
    pub quotas: Quotas,
}

impl Volumes {
    fn view(&self) -> VolumeIndex {
        VolumeIndex::new(self.observed.clone(), self.clock.clone())
    }

    /// Reads a volume.
    ///
    /// # Errors
    /// If it does not exist.
    pub async fn fetch(&self, name: &VolumeName) -> Result<Volume, RpcError> {
        let found = self.api(Some(&name.namespace())).get_opt(&name.object_name()).await;
        let found = found.map_err(|e| kube_error(VolumeName::KIND, &name.to_string(), &e))?;
        let volume = found.as_ref().and_then(parse::volume);
        volume.ok_or_else(|| RpcError::not_found(VolumeName::KIND, name))
    }

    async fn update_object(
        &self,
        name: &VolumeName,
        resource: &proto::Volume,
        current: &DataVolume,
    ) -> Result<DataVolume, RpcError> {
        let volume = parse::volume(current).ok_or_else(|| RpcError::not_found(VolumeName::KIND, name))?;
        let mut object = current.clone();
        let meta = &mut object.metadata;
        meta.labels = Some(KEYS.merge(meta.labels.as_ref(), &resource.labels));
        let mut annotations = KEYS.merge(meta.annotations.as_ref(), &resource.annotations);
        let wanted = parse_machine(&resource.machine)?;
        match &wanted {
            Some(machine) if volume.attach_to.as_deref() != Some(machine.id.as_str()) => {
                self.check_attach(name, Attachee::Present(&volume), machine).await?;
                annotations.insert(labels::ATTACH_TO.to_owned(), machine.id.to_string());
                annotations.remove(labels::ATTACH_REFUSAL);
            }
            Some(_) => {}
            None => {
                annotations.remove(labels::ATTACH_TO);
            }
        }
        let size = parse_size(&resource.size, "volume.size")?.unwrap_or(volume.size);
        if size != volume.size {
            self.check_growth(&volume, size, "volume.size").await?;
            annotations.insert(labels::VOLUME_SIZE.to_owned(), size.to_string());
        }
        meta.annotations = Some(annotations);
        Ok(object)
    }
}

impl Collection for Volumes {
    type Object = DataVolume;
    type Resource = proto::Volume;
    type Name = VolumeName;

    const KEYS: Keys = KEYS;

    fn api(&self, namespace: Option<&str>) -> Api<DataVolume> {
        match namespace {
            Some(namespace) => Api::namespaced(self.kube.clone(), namespace),
            None => Api::all(self.kube.clone()),
        }
    }

    fn resource(&self, object: &DataVolume) -> Option<proto::Volume> {
        parse::volume(object).map(|volume| self.view().show(Arc::new(volume)))
    }

    fn selector(&self, _: &Within<ClusterName>) -> String {
        labels::VOLUME.to_owned()
    }

    async fn parent(&self, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
        of_cluster(&self.kube, within).await
    }

    fn learn(&self, stored: &DataVolume) {
        if let Some(volume) = parse::volume(stored) {
            let name = volume.name.clone();
            self.observed.put_volume(volume);
            self.quotas.settle(&name);
        }
    }

    fn index(&self) -> Option<Arc<dyn Index<proto::Volume>>> {
        Some(Arc::new(self.view()))
    }
}

impl Writable for Volumes {
    async fn object(
        &self,
        name: &VolumeName,
        resource: &proto::Volume,
        current: Option<&DataVolume>,
    ) -> Result<DataVolume, RpcError> {
        check_labels(&resource.labels)?;
        match current {
            None => self.create_object(name, resource).await,
            Some(current) => self.update_object(name, resource, current).await,
        }
    }

    async fn before_delete(&self, _: &VolumeName, current: &DataVolume, force: bool) -> Result<(), RpcError> {
        // A volume in use that is deleted by force is detached first; the finalizer sees to that.
        let Some(volume) = parse::volume(current).filter(|_| !force) else {
            return Ok(());
        };
        let name = volume.name.to_string();
        if let Some(machine) = volume.wanted_on() {
            return Err(Error::VolumeInUse {
                volume: name,
                why: format!("it is wanted on machine {machine}"),
            }
            .into());
        }
        // The record is part of what was read: no view of machines is asked. Only people plug volumes past it.
        let sites = self.observed.sites(&volume);
        match elsewhere(&volume, &sites, None) {
            None => Ok(()),
            Some(machine) => Err(Error::VolumeInUse {
                volume: name,
                why: format!("it is still on machine {machine}"),
            }
            .into()),
        }
    }

    async fn before_write(
        &self,
        name: &VolumeName,
        object: &DataVolume,
        current: Option<&DataVolume>,
    ) -> Result<(), RpcError> {
        let wanted = parse::volume(object).ok_or_else(|| RpcError::not_found(VolumeName::KIND, name))?;
        let before = current.and_then(parse::volume).map(|volume| volume.size);
        self.check_quota(name, wanted.size, before).await
    }
}

/// Users' labels must not pretend to be ours.
fn check_labels(labels: &HashMap<String, String>) -> Result<(), RpcError> {
    let taken: BTreeMap<_, _> = labels.iter().filter(|(key, _)| KEYS.is_reserved(key)).collect();
    let mut violations = Violations::new();
    for key in taken.keys() {
        violations.add(format!("volume.labels.{key}"), "this prefix is reserved");
    }
    Ok(violations.finish()?)
}
