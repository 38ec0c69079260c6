//! The collection of snapshots: VolumeSnapshots with our label.

use kube::{Api, api::ObjectMeta};
use steading_api::{error::RpcError, storage::v1 as proto};
use steading_infra::{
    error::{InfraError, optional},
    labels,
    snapshot::{VolumeSnapshot, VolumeSnapshotSource, VolumeSnapshotSpec},
};
use steading_model::{
    ids::ObjectId,
    name::{SnapshotName, VolumeName},
    violation::Violations,
};
use steading_runtime::collection::{Collection, Keys, Scope, kube_error};

use super::{
    classes::Classes,
    convert::snapshot,
    volumes::{Volumes, parse_cluster},
};
use crate::{
    domain::volume::{Stage, Volume},
    error::Error,
    observe::parse::KEYS,
};

/// API group and version of snapshots.
const SNAPSHOT_API: &str = "snapshot.storage.k8s.io/v1";

/// Snapshots as objects of the infra cluster.
#[derive(Clone)]
pub struct Snapshots {
    /// The volumes that are copied.
    pub volumes: Volumes,
}

impl Snapshots {
    /// Checks that the infra cluster has snapshots at all.
    ///
    /// # Errors
    /// `CAPABILITY_MISSING` if not.
    pub async fn check_capability(&self) -> Result<(), RpcError> {
        let found = optional(self.volumes.kube.list_api_group_resources(SNAPSHOT_API).await);
        match found {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::NoSnapshots.into()),
            Err(InfraError::Unavailable(error) | InfraError::Other(error)) => {
                Err(kube_error("Snapshot", SNAPSHOT_API, &error))
            }
            Err(error) => {
                tracing::warn!(%error, "it cannot be told whether there are snapshots");
                Err(Error::NotWatched.into())
            }
        }
    }

    async fn create_object(&self, name: &SnapshotName, message: &proto::Snapshot) -> Result<VolumeSnapshot, RpcError> {
        let from: VolumeName = message
            .volume
            .parse()
            .map_err(|e| RpcError::invalid_name("snapshot.volume", &e))?;
        if from.cluster != name.cluster {
            return Err(Violations::one("snapshot.volume", "must be a volume of the same cluster").into());
        }
        let missing = || Error::ReferenceNotFound {
            kind: "Volume",
            name: from.to_string(),
        };
        let volume = match self.volumes.fetch(&from).await {
            Err(error) if error.code() == tonic::Code::NotFound => return Err(missing().into()),
            found => found?,
        };
        check_source(&volume)?;
        let classes = Classes::new(self.volumes.kube.clone());
        let class = format!("storageClasses/{}", volume.class);
        let offer = classes
            .offered(&name.cluster.project, &class, "snapshot.volume")
            .await?;
        let Some(snapshot_class) = offer.snapshot_class else {
            return Err(Error::ClassForbids {
                class: offer.id,
                what: "snapshots",
            }
            .into());
        };
        let mut all = KEYS.merge(None, &message.labels);
        for (key, value) in [
            (labels::PROJECT, name.cluster.project.to_string()),
            (labels::CLUSTER, name.cluster.cluster.to_string()),
            (labels::SNAPSHOT, name.id.to_string()),
            (labels::STORAGE_CLASS, volume.class.clone()),
            (labels::MANAGED_BY, labels::MANAGED_BY_STEADING.to_owned()),
        ] {
            all.insert(key.to_owned(), value);
        }
        Ok(VolumeSnapshot {
            metadata: ObjectMeta {
                name: Some(name.object_name()),
                namespace: Some(name.namespace()),
                labels: Some(all),
                annotations: Some(KEYS.merge(None, &message.annotations)),
                ..ObjectMeta::default()
            },
            spec: VolumeSnapshotSpec {
                source: VolumeSnapshotSource {
                    persistent_volume_claim_name: Some(from.object_name()),
                    volume_snapshot_content_name: None,
                },
                volume_snapshot_class_name: Some(snapshot_class),
            },
            status: None,
        })
    }
}

fn check_source(volume: &Volume) -> Result<(), Error> {
    if volume.deleted.is_some() {
        return Err(Error::Deleting(volume.name.to_string()));
    }
    match volume.stage {
        Stage::Ready => Ok(()),
        Stage::Pending | Stage::Provisioning | Stage::WaitingForConsumer | Stage::Failed | Stage::Lost => {
            Err(Error::InvalidState(format!("volume {} holds nothing yet", volume.name)))
        }
    }
}

impl Collection for Snapshots {
    type Object = VolumeSnapshot;
    type Message = proto::Snapshot;

    const KIND: &'static str = "Snapshot";
    const MESSAGE: &'static str = "steading.storage.v1.Snapshot";
    const FIELD: &'static str = "snapshot";
    const KEYS: Keys = KEYS;

    fn api(&self, name_or_parent: &str) -> Result<Api<VolumeSnapshot>, RpcError> {
        let namespace = match name_or_parent.parse::<SnapshotName>() {
            Ok(name) => name.namespace(),
            Err(_) => parse_cluster(name_or_parent)?.namespace(),
        };
        Ok(Api::namespaced(self.volumes.kube.clone(), &namespace))
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        parse_cluster(parent)?;
        Ok(Scope {
            selector: labels::SNAPSHOT.to_owned(),
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse_name(name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let cluster = parse_cluster(parent)?;
        let id = ObjectId::parse(id).map_err(|e| Violations::one("snapshot_id", e.to_string()))?;
        Ok(SnapshotName::new(cluster, id).to_string())
    }

    fn identity<'a>(&self, message: &'a proto::Snapshot) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &VolumeSnapshot) -> Option<proto::Snapshot> {
        snapshot::snapshot(object)
    }

    async fn object(
        &self,
        name: &str,
        message: &proto::Snapshot,
        current: Option<&VolumeSnapshot>,
    ) -> Result<VolumeSnapshot, RpcError> {
        let name = parse_name(name)?;
        let Some(current) = current else {
            return self.create_object(&name, message).await;
        };
        let mut object = current.clone();
        let meta = &mut object.metadata;
        meta.labels = Some(KEYS.merge(meta.labels.as_ref(), &message.labels));
        meta.annotations = Some(KEYS.merge(meta.annotations.as_ref(), &message.annotations));
        Ok(object)
    }
}

fn parse_name(name: &str) -> Result<SnapshotName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name("name", &e))
}
