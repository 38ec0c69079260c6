//! VirtualMachineInstance: a VM that runs, or is about to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::virtual_machine::VmiSpec;
use super::{Condition, open_enum};

/// What is wanted of a VMI. The fields are those of [`VmiSpec`].
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstance",
    plural = "virtualmachineinstances",
    shortname = "vmi",
    shortname = "vmis",
    category = "all",
    namespaced,
    status = "VirtualMachineInstanceStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(transparent)]
pub struct VirtualMachineInstanceSpec {
    /// The spec, as in a VM's template.
    pub spec: VmiSpec,
}

impl std::ops::Deref for VirtualMachineInstanceSpec {
    type Target = VmiSpec;

    fn deref(&self) -> &VmiSpec {
        &self.spec
    }
}

impl std::ops::DerefMut for VirtualMachineInstanceSpec {
    fn deref_mut(&mut self) -> &mut VmiSpec {
        &mut self.spec
    }
}

/// What was seen last of a VMI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceStatus {
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<VmiPhase>,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Infra node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Infra node that it has to leave; set by an eviction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuation_node_name: Option<String>,
    /// Conditions: `Ready`, `LiveMigratable`, `AgentConnected`, `EvictionRequested`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Interfaces with their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<VmiInterface>,
    /// Volumes as seen by the node agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_status: Vec<VolumeStatus>,
    /// The migration that is under way or was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<MigrationState>,
    /// Launcher pods by uid, with the node of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub active_pods: BTreeMap<String, String>,
    /// When each phase was entered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<PhaseTransition>,
    /// What the guest's agent tells of its operating system.
    #[serde(default, rename = "guestOSInfo", skip_serializing_if = "Option::is_none")]
    pub guest_os_info: Option<Value>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

open_enum! {
    /// Where a VMI is in its life.
    VmiPhase {
        /// Accepted.
        Pending = "Pending",
        /// Its launcher pod exists.
        Scheduling = "Scheduling",
        /// Its launcher pod runs on a node.
        Scheduled = "Scheduled",
        /// The guest runs.
        Running = "Running",
        /// The guest shut down.
        Succeeded = "Succeeded",
        /// The guest crashed or its pod was lost.
        Failed = "Failed",
        /// The node does not answer.
        Unknown = "Unknown",
    }
}

impl VmiPhase {
    /// Whether it will not change any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// When a phase was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTransition {
    /// The phase.
    pub phase: VmiPhase,
    /// When.
    pub phase_transition_timestamp: Time,
}

/// An interface with its addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmiInterface {
    /// Name of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// All addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A volume as seen by the node agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Name of the volume.
    pub name: String,
    /// Device in the guest, `sda` for example.
    #[serde(default)]
    pub target: String,
    /// How far a hot-plugged volume is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<VolumePhase>,
    /// Reason of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Text of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Set for hot-plugged volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplug_volume: Option<HotplugVolume>,
    /// What is known of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_info: Option<Value>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The attachment pod of a hot-plugged volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HotplugVolume {
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_pod_name: Option<String>,
    /// Uid of the pod.
    #[serde(default, rename = "attachPodUID", skip_serializing_if = "Option::is_none")]
    pub attach_pod_uid: Option<String>,
}

open_enum! {
    /// How far a hot-plugged volume is.
    VolumePhase {
        /// Wanted.
        Pending = "Pending",
        /// The claim is bound.
        Bound = "Bound",
        /// The attachment pod runs.
        AttachedToNode = "AttachedToNode",
        /// The launcher pod has it.
        MountedToPod = "MountedToPod",
        /// The guest has it.
        Ready = "Ready",
        /// It is being taken from the guest.
        Detaching = "Detaching",
        /// The launcher pod has let go of it.
        UnMountedFromPod = "UnMountedFromPod",
    }
}

/// The migration that is under way or was last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationState {
    /// Uid of the VirtualMachineInstanceMigration.
    #[serde(default, rename = "migrationUid", skip_serializing_if = "Option::is_none")]
    pub migration_uid: Option<String>,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_node: Option<String>,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// Pod at the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_pod: Option<String>,
    /// Pod at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<Time>,
    /// Whether it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<bool>,
    /// Whether it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl MigrationState {
    /// Whether it has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        !self.completed.unwrap_or(false) && !self.failed.unwrap_or(false) && self.end_timestamp.is_none()
    }
}
