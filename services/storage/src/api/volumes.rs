//! The collection of volumes: DataVolumes with our label, told together with what the index has seen of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kube::{Api, Client};
use steading_api::{
    error::RpcError,
    storage::v1::{self as proto, volume::Source as ProtoSource},
};
use steading_infra::{cdi::DataVolume, labels, snapshot::VolumeSnapshot};
use steading_model::{
    ids::ObjectId,
    name::{ClusterName, MachineName, SnapshotName, VolumeName},
    quantity::Quantity,
    violation::Violations,
};
use steading_runtime::clock::Clock;
use steading_runtime::collection::{Collection, Keys, Scope, kube_error};

use super::{
    classes::Classes,
    convert::{
        access_mode_from,
        volume::{self as convert, NewVolume, data_volume},
        volume_mode_from,
    },
    quota::Quotas,
};
use crate::{
    domain::{
        attachment::elsewhere,
        class::Demand,
        eligibility::Attachee,
        volume::{Source, Volume},
    },
    error::Error,
    observe::{
        Lens, Observed,
        parse::{self, KEYS},
    },
};

/// Whether a volume may be deleted while it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Only if it is attached and wanted nowhere.
    Detached,
    /// It is detached first; the finalizer sees to that.
    DetachFirst,
}

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
    /// How deletions go.
    pub removal: Removal,
}

impl Volumes {
    /// The DataVolumes of a cluster.
    pub fn objects(&self, namespace: &str) -> Api<DataVolume> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// What all renderings of one call have in common.
    pub fn lens(&self) -> Lens {
        self.observed.lens(self.clock.now())
    }

    /// A volume as it was read or seen, with what is seen of its claim and attachment.
    pub fn render(&self, volume: &Volume) -> proto::Volume {
        self.render_through(Arc::new(volume.clone()), &self.lens())
    }

    /// As [`Self::render`], for many volumes.
    pub fn render_through(&self, volume: Arc<Volume>, lens: &Lens) -> proto::Volume {
        let seen = &self.observed;
        let volume = seen.joined(volume);
        let attachment = seen.attachment(&volume, lens);
        convert::volume(&volume, seen.claim(&volume).as_deref(), &lens.overheads, &attachment)
    }

    /// Reads a volume.
    ///
    /// # Errors
    /// If it does not exist.
    pub async fn fetch(&self, name: &VolumeName) -> Result<Volume, RpcError> {
        let found = self.objects(&name.namespace()).get_opt(&name.object_name()).await;
        let found = found.map_err(|e| kube_error("Volume", &name.to_string(), &e))?;
        found
            .as_ref()
            .and_then(parse::volume)
            .ok_or_else(|| RpcError::not_found("Volume", name))
    }

    async fn create_object(&self, name: &VolumeName, message: &proto::Volume) -> Result<DataVolume, RpcError> {
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

    async fn update_object(
        &self,
        name: &VolumeName,
        message: &proto::Volume,
        current: &DataVolume,
    ) -> Result<DataVolume, RpcError> {
        let volume = parse::volume(current).ok_or_else(|| RpcError::not_found("Volume", name))?;
        let mut object = current.clone();
        let meta = &mut object.metadata;
        meta.labels = Some(KEYS.merge(meta.labels.as_ref(), &message.labels));
        let mut annotations = KEYS.merge(meta.annotations.as_ref(), &message.annotations);
        let wanted = parse_machine(&message.machine)?;
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
        let size = parse_size(&message.size, "volume.size")?.unwrap_or(volume.size);
        if size != volume.size {
            self.check_growth(&volume, size, "volume.size").await?;
            annotations.insert(labels::VOLUME_SIZE.to_owned(), size.to_string());
        }
        meta.annotations = Some(annotations);
        Ok(object)
    }
}

/// What a volume is made from, and what it takes over from there.
struct Origin {
    source: Source,
    size: Option<Quantity>,
    class: String,
}

pub(super) fn class_name(id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!("storageClasses/{id}")
    }
}

fn same_cluster(from: &ClusterName, cluster: &ClusterName, path: &str) -> Result<(), RpcError> {
    if from == cluster {
        return Ok(());
    }
    Err(Violations::one(path, "must be of the same cluster").into())
}

fn as_reference(error: RpcError, kind: &'static str, name: &str) -> RpcError {
    use steading_api::types::v1::ErrorReason;
    if error.reason() == ErrorReason::ResourceNotFound {
        return Error::ReferenceNotFound {
            kind,
            name: name.to_owned(),
        }
        .into();
    }
    error
}

/// The machine that a volume is wanted on, from a request.
///
/// # Errors
/// If the text is not a machine's name.
pub fn parse_machine(text: &str) -> Result<Option<MachineName>, RpcError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|e| RpcError::invalid_name("machine", &e))
}

/// A size from a request; `None` if it is left out.
///
/// # Errors
/// If the text is not a quantity.
pub fn parse_size(text: &str, path: &str) -> Result<Option<Quantity>, RpcError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|e: steading_model::quantity::QuantityError| Violations::one(path, e.to_string()).into())
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

impl Collection for Volumes {
    type Object = DataVolume;
    type Message = proto::Volume;

    const KIND: &'static str = "Volume";
    const MESSAGE: &'static str = "steading.storage.v1.Volume";
    const FIELD: &'static str = "volume";
    const KEYS: Keys = KEYS;

    fn api(&self, name_or_parent: &str) -> Result<Api<DataVolume>, RpcError> {
        let namespace = match name_or_parent.parse::<VolumeName>() {
            Ok(name) => name.namespace(),
            Err(_) => parse_cluster(name_or_parent)?.namespace(),
        };
        Ok(self.objects(&namespace))
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        parse_cluster(parent)?;
        Ok(Scope {
            selector: labels::VOLUME.to_owned(),
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse_name(name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let cluster = parse_cluster(parent)?;
        let id = ObjectId::parse(id).map_err(|e| Violations::one("volume_id", e.to_string()))?;
        Ok(VolumeName::new(cluster, id).to_string())
    }

    fn identity<'a>(&self, message: &'a proto::Volume) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &DataVolume) -> Option<proto::Volume> {
        parse::volume(object).map(|volume| self.render(&volume))
    }

    async fn object(
        &self,
        name: &str,
        message: &proto::Volume,
        current: Option<&DataVolume>,
    ) -> Result<DataVolume, RpcError> {
        let name = parse_name(name)?;
        check_labels(&message.labels)?;
        match current {
            None => self.create_object(&name, message).await,
            Some(current) => self.update_object(&name, message, current).await,
        }
    }

    async fn before_delete(&self, current: &DataVolume) -> Result<(), RpcError> {
        let Some(volume) = parse::volume(current).filter(|_| self.removal == Removal::Detached) else {
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
        name: &str,
        object: &DataVolume,
        current: Option<&DataVolume>,
    ) -> Result<(), RpcError> {
        let wanted = parse::volume(object).ok_or_else(|| RpcError::not_found("Volume", name))?;
        let before = current.and_then(parse::volume).map(|volume| volume.size);
        self.check_quota(&wanted.name, wanted.size, before).await
    }

    async fn after_write(&self, stored: &DataVolume) -> Result<(), RpcError> {
        if let Some(volume) = parse::volume(stored) {
            let name = volume.name.clone();
            self.observed.put_volume(volume);
            self.quotas.settle(&name);
        }
        Ok(())
    }
}

/// Parses the name of a volume.
///
/// # Errors
/// If it is none.
pub fn parse_name(name: &str) -> Result<VolumeName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name("name", &e))
}

/// Parses the name of a cluster from a `parent`.
///
/// # Errors
/// If it is none.
pub fn parse_cluster(parent: &str) -> Result<ClusterName, RpcError> {
    parent.parse().map_err(|e| RpcError::invalid_name("parent", &e))
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
