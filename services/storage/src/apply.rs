//! Carries out plans. Decides nothing: what it writes, it was told by [`crate::plan`] over fresh reads.

use std::collections::BTreeMap;

use kube::{Api, Client, api::ApiResource, api::DynamicObject};
use serde_json::{Value, json};
use steading_infra::{
    apply::{FieldManager, patch_merge},
    cdi::DataVolume,
    error::{InfraError, Result},
    kubevirt::VirtualMachine,
    labels,
};
use steading_runtime::clock::Clock;

use crate::{
    domain::volume::Volume,
    observe::{Observed, parse},
};

pub(crate) mod events;
pub(crate) mod machine;
pub(crate) mod volume;

pub(crate) use events::Events;

/// What is needed to carry out plans. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    /// The infra cluster.
    pub(crate) client: Client,
    /// What is seen, and where replies of writes are put.
    pub(crate) observed: Observed,
    /// Time.
    pub(crate) clock: Clock,
    /// What people should see at the objects.
    pub(crate) events: Events,
}

/// What became of a write over a version that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    /// It was made.
    Made,
    /// Somebody else wrote meanwhile, or the object is gone: look again.
    Lost,
}

impl Executor {
    fn volumes(&self, namespace: &str) -> Api<DataVolume> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Untyped, so that patches test the lists exactly as they are stored.
    fn machines(&self, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<VirtualMachine>(&());
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Changes annotations of a volume over the version that was seen; null takes one away. The reply, or what is there instead,
    /// goes into the index.
    async fn swap_annotations(&self, volume: &Volume, annotations: BTreeMap<&str, Option<String>>) -> Result<Swap> {
        let annotations: BTreeMap<&str, Value> = annotations
            .into_iter()
            .map(|(key, value)| (key, value.map_or(Value::Null, Value::String)))
            .collect();
        let patch =
            json!({"metadata": {"uid": volume.uid, "resourceVersion": volume.version, "annotations": annotations}});
        let api = self.volumes(&volume.name.namespace());
        match patch_merge(&api, FieldManager::Storage, volume.id(), &patch).await {
            Ok(stored) => {
                if let Some(stored) = parse::volume(&stored) {
                    self.observed.put_volume(stored);
                }
                Ok(Swap::Made)
            }
            Err(InfraError::NotFound(_)) => Ok(Swap::Lost),
            Err(InfraError::Conflict(_)) => {
                self.refresh(volume).await?;
                Ok(Swap::Lost)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a volume into the index as it is now.
    async fn refresh(&self, volume: &Volume) -> Result<()> {
        let found = self.volumes(&volume.name.namespace()).get_opt(volume.id()).await?;
        if let Some(found) = found.as_ref().and_then(parse::volume) {
            self.observed.put_volume(found);
        }
        Ok(())
    }

    /// Notes why a machine refused a volume.
    async fn note_attach_refusal(&self, volume: &Volume, machine: &str, message: &str) -> Result<Swap> {
        let refusal = crate::domain::placement::AttachRefusal {
            machine: machine.to_owned(),
            message: message.to_owned(),
            at: self.clock.now(),
        };
        let text = serde_json::to_string(&refusal).map_err(|error| InfraError::from(kube::Error::SerdeError(error)))?;
        self.swap_annotations(volume, BTreeMap::from([(labels::ATTACH_REFUSAL, Some(text))]))
            .await
    }
}
