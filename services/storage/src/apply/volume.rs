//! Takes steps at a volume.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use serde_json::json;
use steading_controller::Fresh;
use steading_infra::{
    apply::{FieldManager, PatchBuilder, add_finalizer, patch_json, patch_merge},
    cdi::DataVolume,
    error::{InfraError, Result},
    labels,
};
use steading_model::quantity::Quantity;

use super::{Executor, events::Notice};
use crate::{
    domain::{
        placement::ExpandRefusal,
        volume::{ReclaimPolicy, Volume},
    },
    observe::parse,
    plan::volume::VolumeAction,
};

impl Executor {
    /// Takes one step at a volume.
    ///
    /// # Errors
    /// If the infra cluster cannot be asked or refuses.
    pub(crate) async fn apply_volume(&self, volume: &Volume, action: &VolumeAction) -> Result<()> {
        let (namespace, id) = (volume.name.namespace(), volume.id());
        let api = self.volumes(&namespace);
        let outcome = match action {
            VolumeAction::Hold => add_finalizer(&api, FieldManager::Storage, id, labels::VOLUME_FINALIZER)
                .await
                .map(drop),
            VolumeAction::Expand(size) => self.expand(volume, *size).await,
            VolumeAction::Release => match Fresh::get(&api, id).await? {
                Some(fresh) => self.release(&api, &fresh).await,
                None => Ok(()),
            },
        };
        match outcome {
            Err(InfraError::NotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }

    async fn expand(&self, volume: &Volume, size: Quantity) -> Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &volume.name.namespace());
        let patch = json!({"spec": {"resources": {"requests": {"storage": size.to_string()}}}});
        match patch_merge(&claims, FieldManager::Storage, volume.id(), &patch).await {
            Ok(_) => {
                if volume.expand_refusal.is_some() {
                    let forgotten = BTreeMap::from([(labels::EXPAND_REFUSAL, None)]);
                    self.swap_annotations(volume, forgotten).await?;
                }
                Ok(())
            }
            Err(InfraError::Invalid(message) | InfraError::Forbidden(message)) => {
                let refusal = ExpandRefusal {
                    size: size.to_string(),
                    message: message.clone(),
                    at: self.clock.now(),
                };
                let text = serde_json::to_string(&refusal)
                    .map_err(|error| InfraError::from(kube::Error::SerdeError(error)))?;
                self.swap_annotations(volume, BTreeMap::from([(labels::EXPAND_REFUSAL, Some(text))]))
                    .await?;
                tracing::warn!(volume = %volume.name, %size, message, "an expansion was refused");
                self.events.publish(volume, Notice::ExpansionRefused(message)).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes our finalizer off a volume that is on no machine, over the version that says so. Bytes that are to be kept are kept
    /// first, by what the claim says now.
    async fn release(&self, api: &Api<DataVolume>, fresh: &Fresh<DataVolume>) -> Result<()> {
        let Some(volume) = parse::volume(fresh) else {
            return Ok(());
        };
        let free = volume.deleted.is_some() && volume.placement.is_none();
        self.observed.put_volume(volume.clone());
        let position = fresh
            .metadata
            .finalizers
            .iter()
            .flatten()
            .position(|found| found == labels::VOLUME_FINALIZER);
        let (true, Some(position)) = (free, position) else {
            return Ok(());
        };
        if volume.reclaim == ReclaimPolicy::Retain {
            self.retain(&volume).await?;
        }
        let place = position.to_string();
        let path = ["metadata", "finalizers", place.as_str()];
        let patch = PatchBuilder::new()
            .test(&["metadata", "uid"], volume.uid.clone())
            .test(&["metadata", "resourceVersion"], volume.version.clone())
            .test(&path, labels::VOLUME_FINALIZER)
            .remove(&path)
            .build();
        match patch_json(api, FieldManager::Storage, volume.id(), patch).await {
            Ok(_) => Ok(()),
            // It changed since it was read: another pass decides again.
            Err(InfraError::Conflict(message) | InfraError::Invalid(message)) => Err(InfraError::Conflict(message)),
            Err(error) => Err(error),
        }
    }

    async fn retain(&self, volume: &Volume) -> Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &volume.name.namespace());
        let claim = Fresh::get(&claims, volume.id()).await?;
        let Some(name) = claim
            .as_deref()
            .and_then(parse::claim)
            .and_then(|claim| claim.persistent_volume)
        else {
            return Ok(());
        };
        let persistent: Api<PersistentVolume> = Api::all(self.client.clone());
        let patch = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        match patch_merge(&persistent, FieldManager::Storage, &name, &patch).await {
            Ok(_) => {
                tracing::info!(volume = %volume.name, persistent_volume = name, "the persistent volume is kept");
                Ok(())
            }
            Err(InfraError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
