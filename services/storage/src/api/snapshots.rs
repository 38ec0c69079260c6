//! The collection of snapshots: VolumeSnapshots with our label.

use kube::{Api, api::ObjectMeta};
use steading_api::{error::RpcError, storage::v1 as proto};
use steading_infra::{
    error::{InfraError, optional},
    labels,
    snapshot::{VolumeSnapshot, VolumeSnapshotSource, VolumeSnapshotSpec},
};
use steading_model::{
    name::{ClusterName, SnapshotName, VolumeName, Within},
    violation::Violations,
};
use steading_runtime::standard::{Collection, Keys, Presence, Writable, kube_error};

use super::{classes::Classes, convert::snapshot, presence::of_cluster, volumes::Volumes};
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
    type Resource = proto::Snapshot;
    type Name = SnapshotName;

    const KEYS: Keys = KEYS;

    fn api(&self, namespace: Option<&str>) -> Api<VolumeSnapshot> {
        let kube = self.volumes.kube.clone();
        match namespace {
            Some(namespace) => Api::namespaced(kube, namespace),
            None => Api::all(kube),
        }
    }

    fn resource(&self, object: &VolumeSnapshot) -> Option<proto::Snapshot> {
        snapshot::snapshot(object)
    }

    fn selector(&self, _: &Within<ClusterName>) -> String {
        labels::SNAPSHOT.to_owned()
    }

    async fn parent(&self, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
        of_cluster(&self.volumes.kube, within).await
    }

    async fn available(&self) -> Result<(), RpcError> {
        let found = optional(self.volumes.kube.list_api_group_resources(SNAPSHOT_API).await);
        match found {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::NoSnapshots.into()),
            Err(InfraError::Unavailable(error) | InfraError::Other(error)) => {
                Err(kube_error(SnapshotName::KIND, SNAPSHOT_API, &error))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot see whether the infra cluster has snapshots");
                Err(Error::NotWatched.into())
            }
        }
    }
}

impl Writable for Snapshots {
    async fn object(
        &self,
        name: &SnapshotName,
        resource: &proto::Snapshot,
        current: Option<&VolumeSnapshot>,
    ) -> Result<VolumeSnapshot, RpcError> {
        let Some(current) = current else {
            return self.create_object(name, resource).await;
        };
        let mut object = current.clone();
        let meta = &mut object.metadata;
        meta.labels = Some(KEYS.merge(meta.labels.as_ref(), &resource.labels));
        meta.annotations = Some(KEYS.merge(meta.annotations.as_ref(), &resource.annotations));
        Ok(object)
    }
}
