//! Objects of the infra cluster as observations. What is none of ours gives nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{ResourceExt, api::DynamicObject};
use steading_infra::{
    cdi::{DataVolume, DataVolumePhase, DataVolumeSpec},
    crd::MachinePool,
    intent::wants_deletion,
    kubevirt::{
        VirtualMachine, VirtualMachineInstance, condition,
        virtual_machine::{Disk, VmiSpec},
        virtual_machine_instance::{MigrationState, VmiPhase},
    },
    labels,
};
use steading_model::{
    name::{SnapshotName, VolumeName},
    quantity::Quantity,
};
use steading_runtime::standard::Keys;

use crate::domain::{
    machine::{InstanceDisk, ObservedDisk, ObservedInstance, ObservedMachine, ObservedNode, Obstacle},
    mark::is_ours,
    overhead::Overheads,
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
    let made = made(&object.spec);
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
        infra_class: storage.storage_class_name.clone().unwrap_or_default(),
        size: size(meta, made),
        made,
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
        placement: annotation(meta, labels::PLACED_ON).and_then(|text| text.parse().ok()),
        attach_refusal: annotation(meta, labels::ATTACH_REFUSAL).and_then(|text| serde_json::from_str(text).ok()),
        expand_refusal: annotation(meta, labels::EXPAND_REFUSAL).and_then(|text| serde_json::from_str(text).ok()),
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

/// The size that a volume was made with.
fn made(spec: &DataVolumeSpec) -> Quantity {
    let storage = spec.storage.as_ref();
    let requests = storage
        .and_then(|s| s.resources.as_ref())
        .and_then(|r| r.requests.as_ref());
    let size = requests.and_then(|requests| requests.get("storage"));
    size.and_then(|q| q.0.parse().ok()).unwrap_or(Quantity::ZERO)
}

/// The size that is wanted: that of the making unless a larger one was asked for since.
fn size(meta: &ObjectMeta, made: Quantity) -> Quantity {
    let grown: Option<Quantity> = annotation(meta, labels::VOLUME_SIZE).and_then(|text| text.parse().ok());
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
    let status = object.status.clone().unwrap_or_default();
    let storage = |map: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        map.and_then(|m| m.get("storage"))
            .and_then(|q| q.0.parse::<Quantity>().ok())
    };
    let resizing = status.conditions.iter().flatten().find(|condition| {
        let failed = matches!(condition.type_.as_str(), "ControllerResizeError" | "NodeResizeError");
        failed && condition.status == "True"
    });
    let infeasible = status
        .allocated_resource_statuses
        .as_ref()
        .and_then(|m| m.get("storage"));
    let resize_failure = resizing
        .map(|condition| condition.message.clone().unwrap_or_default())
        .or_else(|| infeasible.filter(|state| state.ends_with("Infeasible")).cloned());
    Some(Claim {
        requested: storage(spec.resources.as_ref().and_then(|r| r.requests.as_ref())).unwrap_or(Quantity::ZERO),
        capacity: storage(status.capacity.as_ref()),
        persistent_volume: spec.volume_name.clone().filter(|name| !name.is_empty()),
        lost: status.phase.as_deref() == Some("Lost"),
        resize_failure,
    })
}

/// A virtual machine.
pub fn machine(object: &VirtualMachine) -> ObservedMachine {
    let meta = &object.metadata;
    let deleting = meta.deletion_timestamp.is_some();
    let status = object.status.clone().unwrap_or_default();
    let refusal = condition(&status.conditions, "Failure")
        .filter(|c| c.is_true() && c.reason.as_deref().is_some_and(|r| r.starts_with("HotPlug")))
        .map(|c| c.message.clone().unwrap_or_default());
    // KubeVirt notes the generation that it has worked on; older versions do not.
    let settled = match (status.desired_generation, meta.generation) {
        (Some(seen), Some(present)) => seen >= present,
        (None, _) | (_, None) => true,
    };
    let spec = object.spec.template.as_ref().map(|template| &template.spec);
    ObservedMachine {
        uid: meta.uid.clone().unwrap_or_default(),
        fence: annotation(meta, labels::VOLUME_FENCE)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        deleting,
        terminating: deleting || meta.annotations.as_ref().is_some_and(wants_deletion),
        settled,
        disks: spec.map(disks).unwrap_or_default(),
        refusal,
        obstacle: spec.and_then(obstacle),
    }
}

fn disks(spec: &VmiSpec) -> BTreeMap<String, ObservedDisk> {
    let shown = &spec.domain.devices.disks;
    let bus = |disk: &Disk| disk.bus().and_then(Bus::from_text);
    let mut seen: BTreeMap<String, ObservedDisk> = shown
        .iter()
        .map(|disk| {
            let observed = ObservedDisk {
                bus: bus(disk),
                ..ObservedDisk::default()
            };
            (disk.name.clone(), observed)
        })
        .collect();
    for volume in &spec.volumes {
        let disk = shown.iter().find(|disk| disk.name == volume.name);
        let claim = volume.claim_name();
        let ours = is_ours(
            &volume.name,
            claim.unwrap_or_default(),
            disk.and_then(|d| d.serial.as_deref()),
            volume.is_hotpluggable(),
            disk.and_then(|d| d.boot_order),
        );
        let observed = seen.entry(volume.name.clone()).or_default();
        observed.claim = claim.map(str::to_owned);
        observed.ours = ours;
    }
    seen
}

fn obstacle(spec: &VmiSpec) -> Option<Obstacle> {
    let devices = &spec.domain.devices;
    if devices.other.get("disableHotplug").and_then(serde_json::Value::as_bool) == Some(true) {
        return Some(Obstacle::HotplugDisabled);
    }
    // KubeVirt looks at disks that have a target; one of a hot-plugged volume must say its bus.
    let hotplugged = |disk: &&Disk| {
        let mut volumes = spec.volumes.iter();
        volumes.any(|volume| volume.name == disk.name && volume.is_hotpluggable())
    };
    let without_bus = devices
        .disks
        .iter()
        .filter(hotplugged)
        .find(|disk| disk.bus().is_none());
    without_bus.map(|disk| Obstacle::DiskWithoutBus(disk.name.clone()))
}

/// A running instance.
pub fn instance(object: &VirtualMachineInstance) -> ObservedInstance {
    let status = object.status.clone().unwrap_or_default();
    let mut disks: BTreeMap<String, InstanceDisk> = BTreeMap::new();
    for volume in &object.spec.volumes {
        if let Some(claim) = volume.claim_name() {
            let disk = InstanceDisk {
                claim: Some(claim.to_owned()),
                hotplugged: volume.is_hotpluggable(),
                ..InstanceDisk::default()
            };
            disks.insert(volume.name.clone(), disk);
        }
    }
    for volume in &status.volume_status {
        let info = volume.persistent_volume_claim_info.as_ref();
        let claim = info
            .and_then(|info| info.get("claimName"))
            .and_then(|name| name.as_str());
        if claim.is_none() && volume.hotplug_volume.is_none() && !disks.contains_key(&volume.name) {
            continue;
        }
        let disk = disks.entry(volume.name.clone()).or_default();
        if let Some(claim) = claim {
            disk.claim = Some(claim.to_owned());
        }
        disk.hotplugged |= volume.hotplug_volume.is_some();
        disk.phase = volume.phase.as_ref().map(|p| p.as_str().to_owned()).unwrap_or_default();
        disk.target.clone_from(&volume.target);
        disk.message = volume.message.clone().unwrap_or_default();
    }
    // A disk of the template has no phase: it is ready as long as the instance runs.
    let running = status.phase == Some(VmiPhase::Running);
    for disk in disks.values_mut() {
        if !disk.hotplugged && disk.phase.is_empty() && running {
            "Ready".clone_into(&mut disk.phase);
        }
    }
    ObservedInstance {
        migrating: status
            .migration_state
            .as_ref()
            .is_some_and(MigrationState::is_under_way),
        unreachable: status.phase == Some(VmiPhase::Unknown),
        node: status.node_name.clone().filter(|name| !name.is_empty()),
        disks,
    }
}

/// An infra node.
pub fn node(object: &Node) -> ObservedNode {
    let labels = object.metadata.labels.as_ref();
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let ready = conditions.unwrap_or_default().iter().find(|c| c.type_ == "Ready");
    ObservedNode {
        zone: labels
            .and_then(|labels| labels.get(labels::ZONE))
            .cloned()
            .unwrap_or_default(),
        // The node controller writes `Unknown` once the kubelet has stopped reporting.
        silent: ready.is_some_and(|condition| condition.status == "Unknown"),
    }
}

/// What the boot disks of a pool take in bytes: of the machines that are wanted, at the size that their template resolves to.
pub fn boot_disks(pool: &MachinePool) -> u64 {
    let each = pool
        .status
        .as_ref()
        .and_then(|status| status.machine_storage.as_deref());
    let each = each
        .and_then(|text| text.parse::<Quantity>().ok())
        .map_or(0, Quantity::bytes);
    // A pool that does not say how many machines it wants keeps those that it had.
    let last = || pool.status.as_ref().and_then(|status| status.desired_replicas);
    let replicas = pool.spec.replicas.or_else(last).unwrap_or_default();
    each.saturating_mul(u64::try_from(replicas).unwrap_or_default())
}

/// CDI's overheads of file systems, from its configuration.
pub fn overheads(config: &DynamicObject) -> Overheads {
    let overhead = config.data.pointer("/status/filesystemOverhead");
    let global = overhead.and_then(|o| o.get("global")).and_then(|text| text.as_str());
    let classes = overhead
        .and_then(|o| o.get("storageClass"))
        .and_then(|map| map.as_object());
    let classes = classes.into_iter().flatten();
    Overheads::new(
        global,
        classes.filter_map(|(class, text)| Some((class.as_str(), text.as_str()?))),
    )
}
