//! New volumes: what they are made from, and what they take over from there.

use kube::Api;
use steading_api::{
    error::RpcError,
    storage::v1::{self as proto, volume::Source as ProtoSource},
    types::v1::ErrorReason,
};
use steading_infra::{cdi::DataVolume, labels, snapshot::VolumeSnapshot};
use steading_model::{
    name::{ClusterName, SnapshotName, VolumeName},
    quantity::Quantity,
    violation::Violations,
};
use steading_runtime::standard::kube_error;

use super::{
    classes::Classes,
    convert::{
        access_mode_from,
        volume::{NewVolume, data_volume},
        volume_mode_from,
    },
    fields::{class_name, parse_machine, parse_size},
    volumes::Volumes,
};
use crate::{
    domain::{class::Demand, eligibility::Attachee, volume::Source},
    error::Error,
    observe::parse::KEYS,
};

impl Volumes {
    /// The object of a new volume.
    ///
    /// # Errors
    /// If the source, the class or the machine does not exist or does not allow it, or a field is wrong.
    pub(super) async fn create_object(
        &self,
        name: &VolumeName,
        message: &proto::Volume,
    ) -> Result<DataVolume, RpcError> {
        let source = self.source(name, message).await?;
        let class = if message.storage_class.is_empty() {
            source.class.clone()
        } else {
            message.storage_class.clone()
        };
        let classes = Classes::new(self.kube.clone());
        let offer = classes
            .offered(&name.cluster.project, &class, "volume.storage_class")
            .await?;
        let demand = demand(message, source.size)?;
        let grant = offer.grant(demand).map_err(RpcError::from)?;
        let machine = parse_machine(&message.machine)?;
        if let Some(machine) = &machine {
            self.check_attach(name, Attachee::New(&offer), machine).await?;
        }
        Ok(data_volume(NewVolume {
            name,
            offer: &offer,
            grant,
            source: &source.source,
            machine: machine.as_ref().map(|machine| machine.id.as_str()),
            labels: KEYS.merge(None, &message.labels),
            annotations: KEYS.merge(None, &message.annotations),
        }))
    }

    async fn source(&self, name: &VolumeName, message: &proto::Volume) -> Result<Origin, RpcError> {
        let plain = |source| Origin {
            source,
            size: None,
            class: String::new(),
        };
        match &message.source {
            None | Some(ProtoSource::Blank(_)) => Ok(plain(Source::Blank)),
            Some(ProtoSource::Http(http)) => {
                let fits = ["http://", "https://"]
                    .iter()
                    .any(|scheme| http.url.len() > scheme.len() && http.url.starts_with(scheme));
                if !fits {
                    return Err(Violations::one("volume.http.url", "must be an http or https url").into());
                }
                Ok(plain(Source::Http(http.url.clone())))
            }
            Some(ProtoSource::Volume(text)) => {
                let from: VolumeName = text.parse().map_err(|e| RpcError::invalid_name("volume.volume", &e))?;
                same_cluster(&from.cluster, &name.cluster, "volume.volume")?;
                let found = self.fetch(&from).await.map_err(|e| as_reference(e, "Volume", text))?;
                if found.deleted.is_some() {
                    return Err(Error::Deleting(text.clone()).into());
                }
                Ok(Origin {
                    size: Some(found.size),
                    class: class_name(&found.class),
                    source: Source::Volume(from),
                })
            }
            Some(ProtoSource::Snapshot(text)) => {
                let from: SnapshotName = text
                    .parse()
                    .map_err(|e| RpcError::invalid_name("volume.snapshot", &e))?;
                same_cluster(&from.cluster, &name.cluster, "volume.snapshot")?;
                let api: Api<VolumeSnapshot> = Api::namespaced(self.kube.clone(), &from.namespace());
                let found = api
                    .get_opt(&from.object_name())
                    .await
                    .map_err(|e| kube_error("Snapshot", text, &e))?;
                let missing = || Error::ReferenceNotFound {
                    kind: "Snapshot",
                    name: text.clone(),
                };
                let ours = found.filter(|s| {
                    s.metadata
                        .labels
                        .as_ref()
                        .is_some_and(|l| l.contains_key(labels::SNAPSHOT))
                });
                let found = ours.ok_or_else(missing)?;
                let class = found
                    .metadata
                    .labels
                    .as_ref()
                    .and_then(|l| l.get(labels::STORAGE_CLASS));
                let size = found
                    .status
                    .as_ref()
                    .and_then(|s| s.restore_size.as_ref())
                    .and_then(|q| q.0.parse().ok());
                let class = class.map(|id| class_name(id)).unwrap_or_default();
                Ok(Origin {
                    size,
                    class,
                    source: Source::Snapshot(from),
                })
            }
        }
    }
}

/// What a volume is made from, and what it takes over from there.
struct Origin {
    source: Source,
    size: Option<Quantity>,
    class: String,
}

fn same_cluster(from: &ClusterName, cluster: &ClusterName, path: &str) -> Result<(), RpcError> {
    if from == cluster {
        return Ok(());
    }
    Err(Violations::one(path, "must be of the same cluster").into())
}

fn as_reference(error: RpcError, kind: &'static str, name: &str) -> RpcError {
    if error.reason() == ErrorReason::ResourceNotFound {
        return Error::ReferenceNotFound {
            kind,
            name: name.to_owned(),
        }
        .into();
    }
    error
}

fn demand(message: &proto::Volume, at_least: Option<Quantity>) -> Result<Demand, RpcError> {
    let size = parse_size(&message.size, "volume.size")?;
    let size = match (size, at_least) {
        (Some(size), Some(least)) if size < least => {
            return Err(Violations::one("volume.size", format!("must not be less than the source's {least}")).into());
        }
        (Some(size), _) | (None, Some(size)) => size,
        (None, None) => return Err(Violations::one("volume.size", "must be set").into()),
    };
    let (access_mode, volume_mode) = (
        access_mode_from(message.access_mode()),
        volume_mode_from(message.volume_mode()),
    );
    Ok(Demand {
        size,
        access_mode,
        volume_mode,
    })
}
