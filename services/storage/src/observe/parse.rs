//! Objects of the infra cluster as observations. What is none of ours gives nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use steading_infra::{
    cdi::{DataVolume, DataVolumePhase, DataVolumeSpec},
    intent::wants_deletion,
    kubevirt::{
        VirtualMachine, VirtualMachineInstance, condition,
        virtual_machine_instance::{MigrationState, VmiPhase, VolumeStatus},
    },
    labels,
};
use steading_model::{
    name::{SnapshotName, VolumeName},
    quantity::Quantity,
};
use steading_runtime::collection::Keys;

use super::{ObservedInstance, ObservedMachine};
use crate::domain::{
    attachment::DiskStatus,
    mark::{DISK_PREFIX, is_ours},
    volume::{AccessMode, Bus, Claim, ReclaimPolicy, Source, Stage, Volume, VolumeMode},
};

/// Annotations of requests, and what does not belong to users.
pub const KEYS: Keys = Keys {
    request_id: labels::REQUEST_ID,
    request_hash: labels::REQUEST_HASH,
    reserved: &[
        "steading.dev/",
        "app.kubernetes.io/managed-by",
        "kubectl.kubernetes.io/",
        "cdi.kubevirt.io/",
        "kubevirt.io/",
        "snapshot.storage.kubernetes.io/",
    ],
};

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

fn updated(meta: &ObjectMeta) -> Option<Timestamp> {
    let writes = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.is_none());
    writes
        .filter_map(|entry| entry.time.as_ref().map(|t| t.0))
        .max()
        .or(meta.creation_timestamp.as_ref().map(|t| t.0))
}

/// A volume; `None` if the object does not carry our label or is outside of a tenant cluster's namespace.
pub fn volume(object: &DataVolume) -> Option<Volume> {
    let meta = &object.metadata;
    let id = meta.labels.as_ref()?.get(labels::VOLUME)?;
    if Some(id) != meta.name.as_ref() {
        return None;
    }
    let name = VolumeName::from_object(meta.namespace.as_deref()?, id)?;
    let status = object.status.clone().unwrap_or_default();
    let storage = object.spec.storage.clone().unwrap_or_default();
    let stage = stage(status.phase.as_ref());
    let failure = condition(&status.conditions, "Running").or_else(|| condition(&status.conditions, "Ready"));
    let user = |map| KEYS.of_user(map).into_iter().collect::<BTreeMap<_, _>>();
    Some(Volume {
        uid: meta.uid.clone().unwrap_or_default(),
        version: meta.resource_version.clone().unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        updated: updated(meta),
        deleted: meta.deletion_timestamp.as_ref().map(|t| t.0),
        held: object.finalizers().iter().any(|f| f == labels::VOLUME_FINALIZER),
        labels: user(meta.labels.as_ref()),
        annotations: user(meta.annotations.as_ref()),
        class: meta
            .labels
            .as_ref()
            .and_then(|l| l.get(labels::STORAGE_CLASS))
            .cloned()
            .unwrap_or_default(),
        size: size(meta, &object.spec),
        access_mode: storage
            .access_modes
            .first()
            .and_then(|m| AccessMode::from_text(m))
            .unwrap_or(AccessMode::ReadWriteOnce),
        volume_mode: storage
            .volume_mode
            .as_deref()
            .and_then(VolumeMode::from_text)
            .unwrap_or(VolumeMode::Filesystem),
        source: source(&object.spec),
        bus: annotation(meta, labels::VOLUME_BUS)
            .and_then(Bus::from_text)
            .unwrap_or_default(),
        reclaim: annotation(meta, labels::RECLAIM_POLICY)
            .and_then(ReclaimPolicy::from_text)
            .unwrap_or_default(),
        zones: annotation(meta, labels::VOLUME_ZONES)
            .map(|t| t.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        attach_to: annotation(meta, labels::ATTACH_TO).map(str::to_owned),
        stage,
        message: failure.and_then(|c| c.message.clone()).unwrap_or_default(),
        progress: if stage == Stage::Ready {
            100
        } else {
            percent(status.progress.as_deref())
        },
        name,
    })
}

fn stage(phase: Option<&DataVolumePhase>) -> Stage {
    use DataVolumePhase as P;
    match phase {
        Some(P::Succeeded) => Stage::Ready,
        Some(P::WaitForFirstConsumer | P::PendingPopulation) => Stage::WaitingForConsumer,
        Some(P::Failed) => Stage::Failed,
        None | Some(P::Pending) => Stage::Pending,
        Some(
            P::PvcBound
            | P::ImportScheduled
            | P::ImportInProgress
            | P::CloneScheduled
            | P::CloneInProgress
            | P::CsiCloneInProgress
            | P::CloneFromSnapshotSourceInProgress
            | P::SnapshotForSmartCloneInProgress
            | P::Unknown
            | P::Paused
            | P::Other(_),
        ) => Stage::Provisioning,
    }
}

fn size(meta: &ObjectMeta, spec: &DataVolumeSpec) -> Quantity {
    let made = spec
        .storage
        .as_ref()
        .and_then(|s| s.resources.as_ref())
        .and_then(|r| r.requests.as_ref());
    let made = made
        .and_then(|requests| requests.get("storage"))
        .and_then(|q| q.0.parse().ok());
    let grown: Option<Quantity> = annotation(meta, labels::VOLUME_SIZE).and_then(|text| text.parse().ok());
    let made = made.unwrap_or(Quantity::ZERO);
    grown.filter(|grown| *grown > made).unwrap_or(made)
}

fn source(spec: &DataVolumeSpec) -> Source {
    let Some(source) = &spec.source else {
        return Source::Blank;
    };
    if let Some(from) = &source.snapshot {
        return SnapshotName::from_object(&from.namespace, &from.name).map_or(Source::Blank, Source::Snapshot);
    }
    if let Some(from) = &source.pvc {
        return VolumeName::from_object(&from.namespace, &from.name).map_or(Source::Blank, Source::Volume);
    }
    let url = source.http.as_ref().and_then(|http| http.url.clone());
    url.map_or(Source::Blank, Source::Http)
}

/// Reads CDI's `37.5%`; `N/A` and the like are 0.
fn percent(text: Option<&str>) -> u8 {
    let whole = text.and_then(|t| t.split(['.', '%']).next());
    whole.and_then(|digits| digits.parse::<u8>().ok()).unwrap_or(0).min(100)
}

/// The claim of a volume.
pub fn claim(object: &PersistentVolumeClaim) -> Option<Claim> {
    let spec = object.spec.as_ref()?;
    let storage = |map: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        map.and_then(|m| m.get("storage"))
            .and_then(|q| q.0.parse::<Quantity>().ok())
    };
    Some(Claim {
        requested: storage(spec.resources.as_ref().and_then(|r| r.requests.as_ref())).unwrap_or(Quantity::ZERO),
        capacity: storage(object.status.as_ref().and_then(|s| s.capacity.as_ref())),
        persistent_volume: spec.volume_name.clone().filter(|name| !name.is_empty()),
    })
}

/// A virtual machine.
pub fn machine(object: &VirtualMachine) -> ObservedMachine {
    let deleting = object.metadata.deletion_timestamp.is_some();
    let mut seen = ObservedMachine {
        deleting,
        going: deleting || object.metadata.annotations.as_ref().is_some_and(wants_deletion),
        ..ObservedMachine::default()
    };
    let status = object.status.clone().unwrap_or_default();
    seen.refusal = condition(&status.conditions, "Failure")
        .filter(|c| c.is_true() && c.reason.as_deref().is_some_and(|r| r.starts_with("HotPlug")))
        .map(|c| c.message.clone().unwrap_or_default());
    let Some(template) = &object.spec.template else {
        return seen;
    };
    let disks = &template.spec.domain.devices.disks;
    let mut others: BTreeSet<String> = disks.iter().map(|disk| disk.name.clone()).collect();
    for volume in &template.spec.volumes {
        let disk = disks.iter().find(|disk| disk.name == volume.name);
        let claim = volume.claim_name().unwrap_or_default();
        let serial = disk.and_then(|d| d.serial.as_deref());
        if is_ours(
            &volume.name,
            claim,
            serial,
            volume.is_hotpluggable(),
            disk.and_then(|d| d.boot_order),
        ) {
            others.remove(&volume.name);
            seen.ours.insert(volume.name.clone(), claim.to_owned());
        } else {
            others.insert(volume.name.clone());
        }
    }
    seen.others = others;
    seen
}

/// A running instance.
pub fn instance(object: &VirtualMachineInstance) -> ObservedInstance {
    let Some(status) = &object.status else {
        return ObservedInstance::default();
    };
    let disk = |volume: &VolumeStatus| DiskStatus {
        phase: volume.phase.as_ref().map(|p| p.as_str().to_owned()).unwrap_or_default(),
        target: volume.target.clone(),
        message: volume.message.clone().unwrap_or_default(),
    };
    let named = status
        .volume_status
        .iter()
        .filter(|volume| volume.name.starts_with(DISK_PREFIX));
    ObservedInstance {
        migrating: status
            .migration_state
            .as_ref()
            .is_some_and(MigrationState::is_under_way),
        unreachable: status.phase == Some(VmiPhase::Unknown),
        disks: named.map(|volume| (volume.name.clone(), disk(volume))).collect(),
    }
}
