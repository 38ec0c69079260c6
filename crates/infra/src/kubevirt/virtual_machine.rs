//! VirtualMachine: what a machine is. `spec.template.spec` is the same shape as a VMI's spec.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Condition, open_enum};
use crate::cdi::DataVolumeSpec;

/// What is wanted of a virtual machine.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachine",
    plural = "virtualmachines",
    shortname = "vm",
    shortname = "vms",
    category = "all",
    namespaced,
    status = "VirtualMachineStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSpec {
    /// When the VM should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// Instance type that sets CPU and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instancetype: Option<Matcher>,
    /// Preference that fills in what the VM leaves open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<Matcher>,
    /// DataVolumes made with the VM and deleted with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_volume_templates: Vec<DataVolumeTemplate>,
    /// The VMI that is made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<VmiTemplate>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

open_enum! {
    /// When a VM should run.
    RunStrategy {
        /// Always.
        Always = "Always",
        /// Never.
        Halted = "Halted",
        /// Start and stop by hand.
        Manual = "Manual",
        /// Until it succeeds.
        RerunOnFailure = "RerunOnFailure",
        /// Exactly once.
        Once = "Once",
        /// Held until a restore is over.
        WaitAsReceiver = "WaitAsReceiver",
    }
}

/// Names an instance type or a preference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Matcher {
    /// Object name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Kind; absent means the cluster-scoped one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// ControllerRevision with the content that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_name: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A DataVolume that is made with its VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataVolumeTemplate {
    /// Name, labels and annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: DataVolumeSpec,
}

/// The VMI that a VM makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VmiTemplate {
    /// Labels and annotations of the VMI and its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// What is wanted.
    pub spec: VmiSpec,
}

/// What is wanted of a running virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmiSpec {
    /// The virtual hardware.
    #[serde(default)]
    pub domain: Domain,
    /// What stands behind the disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What stands behind the interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Value>,
    /// What an eviction does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_strategy: Option<EvictionStrategy>,
    /// Host name of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Tolerations of the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Spread constraints of the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Scheduler of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Priority class of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// How long a shutdown may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

open_enum! {
    /// What an eviction of the launcher pod does.
    EvictionStrategy {
        /// Nothing special: the pod goes.
        None = "None",
        /// KubeVirt migrates the VM.
        LiveMigrate = "LiveMigrate",
        /// KubeVirt migrates the VM if it can.
        LiveMigrateIfPossible = "LiveMigrateIfPossible",
        /// KubeVirt marks the VMI, somebody else moves it.
        External = "External",
    }
}

/// The virtual hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// CPU topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Guest memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Requests and limits of the pod, if set by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Disks and interfaces.
    #[serde(default)]
    pub devices: Devices,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// CPU topology; vCPUs are the product.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Cores a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Threads a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// CPU model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Cpu {
    /// Number of vCPUs; unset parts count as one.
    pub fn vcpus(&self) -> u32 {
        [self.cores, self.sockets, self.threads]
            .into_iter()
            .map(|part| part.unwrap_or(1).max(1))
            .fold(1, u32::saturating_mul)
    }
}

/// Guest memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Quantity that the guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Disks and interfaces. Both are atomic lists for server-side apply: see DESIGN §3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Devices {
    /// Disks; each names a volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Value>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A disk of the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Name of the volume behind it.
    pub name: String,
    /// Set for a plain disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskTarget>,
    /// Set for a LUN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lun: Option<DiskTarget>,
    /// Set for a CD-ROM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cdrom: Option<DiskTarget>,
    /// Serial number that the guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Place in the boot order, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_order: Option<u32>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Disk {
    /// The bus that is written down, if any.
    pub fn bus(&self) -> Option<&str> {
        [&self.disk, &self.lun, &self.cdrom]
            .into_iter()
            .flatten()
            .find_map(|target| target.bus.as_deref())
    }
}

/// How a disk shows in the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskTarget {
    /// `virtio`, `scsi`, `sata` or `usb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Whether the guest may only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What stands behind a disk. Exactly one source is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name; a disk of the same name shows it.
    pub name: String,
    /// A DataVolume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_volume: Option<DataVolumeSource>,
    /// A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSource>,
    /// An image of a registry, without state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_disk: Option<ContainerDiskSource>,
    /// cloud-init, NoCloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init_no_cloud: Option<CloudInitSource>,
    /// cloud-init, ConfigDrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init_config_drive: Option<CloudInitSource>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Volume {
    /// Name of the claim behind it; a DataVolume's claim has the DataVolume's name.
    pub fn claim_name(&self) -> Option<&str> {
        let data_volume = self.data_volume.as_ref().map(|source| source.name.as_str());
        data_volume.or_else(|| {
            self.persistent_volume_claim
                .as_ref()
                .map(|source| source.claim_name.as_str())
        })
    }

    /// Whether it may be added to and taken from a running VM.
    pub fn is_hotpluggable(&self) -> bool {
        self.data_volume
            .as_ref()
            .and_then(|source| source.hotpluggable)
            .unwrap_or(false)
            || self
                .persistent_volume_claim
                .as_ref()
                .and_then(|source| source.hotpluggable)
                .unwrap_or(false)
    }
}

/// A DataVolume behind a disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeSource {
    /// Name of the DataVolume.
    pub name: String,
    /// Whether it may come and go on a running VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotpluggable: Option<bool>,
}

/// A claim behind a disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSource {
    /// Name of the claim.
    pub claim_name: String,
    /// Whether it may come and go on a running VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotpluggable: Option<bool>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// An image of a registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDiskSource {
    /// Reference of the image.
    pub image: String,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// User data for cloud-init.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudInitSource {
    /// Secret whose key `userdata` holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
    /// User data, inline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// User data, inline, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_base64: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What was seen last of a virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineStatus {
    /// Whether the VMI exists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// Whether the VMI is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// One word for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printable_status: Option<PrintableStatus>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Generation of the spec that the VMI was made from; wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_generation: Option<i64>,
    /// Run strategy that was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// Which instance type's revision holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instancetype_ref: Option<InstancetypeStatusRef>,
    /// Which preference's revision holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference_ref: Option<InstancetypeStatusRef>,
    /// Starts and stops that were asked for through subresources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_change_requests: Vec<Value>,
    /// Hot-plug requests that are under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_requests: Vec<Value>,
    /// Failed starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_failure: Option<Value>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

open_enum! {
    /// One word for a VM's state.
    PrintableStatus {
        /// Not running, nor wanted to.
        Stopped = "Stopped",
        /// Its DataVolumes are being filled.
        Provisioning = "Provisioning",
        /// Its VMI is on the way to running.
        Starting = "Starting",
        /// It runs.
        Running = "Running",
        /// It runs and is paused.
        Paused = "Paused",
        /// Its VMI is going.
        Stopping = "Stopping",
        /// It is going.
        Terminating = "Terminating",
        /// Its VMI crashed and is made anew after a while.
        CrashLoopBackOff = "CrashLoopBackOff",
        /// It is being migrated.
        Migrating = "Migrating",
        /// The node does not answer.
        Unknown = "Unknown",
        /// No node fits.
        ErrorUnschedulable = "ErrorUnschedulable",
        /// A claim is missing.
        ErrorPvcNotFound = "ErrorPvcNotFound",
        /// A DataVolume has failed.
        DataVolumeError = "DataVolumeError",
        /// Waits for a claim to be bound.
        WaitingForVolumeBinding = "WaitingForVolumeBinding",
    }
}

/// Points at the revision of an instance type or preference that a VM uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstancetypeStatusRef {
    /// Object name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The ControllerRevision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_revision_ref: Option<ControllerRevisionRef>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Names a ControllerRevision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControllerRevisionRef {
    /// Object name.
    pub name: String,
}
