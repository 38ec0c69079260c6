//! `MachineTemplate`: what machines are made of. Owned by templating; its revisions are ControllerRevisions.

#![allow(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the schema derive repeats the struct inside a function, and columns repeat their types"
)]

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::PodDNSConfig, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod disk;

pub use disk::{AdditionalDiskSpec, HttpSource, PvcSource, RegistrySource, RootDiskSpec};

/// Wanted side of a machine template. References are resource names, such as `instanceTypes/standard-2`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[kube(
    group = "steading.dev",
    version = "v1alpha1",
    kind = "MachineTemplate",
    plural = "machinetemplates",
    shortname = "mt",
    category = "steading",
    status = "MachineTemplateStatus",
    derive = "PartialEq",
    doc = "What the machines of a pool are made of. Named <project>--<template>.",
    printcolumn(json_path = ".spec.instanceType", name = "Instance Type", type_ = "string"),
    printcolumn(json_path = ".status.latestRevision", name = "Revision", type_ = "string"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        name = "Accepted",
        type_ = "string"
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = "!(has(self.instanceType) && (has(self.cpu) || has(self.memory)))",
    validation = "!has(self.cpu) || has(self.memory)"
)]
pub struct MachineTemplateSpec {
    /// Short name for people; makes no revision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What it is for; makes no revision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Instance type; excludes `cpu`, `memory`, `gpus` and `hostDevices`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<String>,
    /// Processors, instead of an instance type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuSpec>,
    /// Memory as a quantity, instead of an instance type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The disk from which the machine boots.
    pub root_disk: RootDiskSpec,
    /// Further disks that live and die with the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<AdditionalDiskSpec>,
    /// Network interfaces; empty means one on the pod network by masquerade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceSpec>,
    /// `ClusterFirst`, `Default` or `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_policy: Option<String>,
    /// DNS servers, search domains and options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<PodDNSConfig>,
    /// What happens when the infra node is drained.
    #[serde(default)]
    pub eviction_strategy: EvictionStrategy,
    /// User data for cloud-init.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_data: String,
    /// Public keys of the image's default user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
    /// How long the guest may take to shut down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// As many network queues as vCPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_multiqueue: Option<bool>,
    /// Firmware of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Labels for the machines in the infra cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machine_labels: BTreeMap<String, String>,
    /// Annotations for the machines in the infra cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machine_annotations: BTreeMap<String, String>,
    /// GPUs, without an instance type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuSpec>,
    /// Other passed-through devices, without an instance type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_devices: Vec<HostDeviceSpec>,
    /// Scheduler of the infra cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Priority class of the machines' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Machine type of the hypervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<String>,
    /// Processor architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Add a TPM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tpm: bool,
    /// `shared`, `auto` or `supplementalPool`; without an instance type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_threads_policy: Option<String>,
    /// Another number makes a new revision from what the catalogue holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<i64>,
    /// How many unused revisions are kept; absent is 10. Makes no revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
}

/// Processors of a machine without an instance type.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CpuSpec {
    /// Cores of a socket.
    #[serde(default = "one")]
    pub cores: u32,
    /// Sockets.
    #[serde(default = "one")]
    pub sockets: u32,
    /// Threads of a core.
    #[serde(default = "one")]
    pub threads: u32,
    /// Processor model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Pin each vCPU to a processor of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated_cpu_placement: bool,
    /// Give the emulator a processor of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolate_emulator_thread: bool,
    /// Show the guest the NUMA layout of its processors.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numa_guest_mapping_passthrough: bool,
    /// Size of the pages that back the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages_page_size: Option<String>,
    /// Processor features by name: `require`, `optional`, `disable`, `forbid` or `force`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

/// One network interface and what it is connected to.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceSpec {
    /// Name in the machine.
    pub name: String,
    /// How it is connected.
    pub binding: Binding,
    /// Network that it is connected to; absent is the pod network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multus: Option<MultusSpec>,
    /// IPv4 range inside the guest, with masquerade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_network_cidr: Option<String>,
    /// IPv6 range inside the guest, with masquerade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_ipv6_network_cidr: Option<String>,
    /// Model of the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Fixed address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Ports that are forwarded, with masquerade; empty forwards all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
}

/// How an interface is connected to its network.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// Behind address translation.
    Masquerade,
    /// By a bridge.
    Bridge,
    /// A virtual function of a network card.
    Sriov,
}

/// A network that a NetworkAttachmentDefinition describes.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MultusSpec {
    /// Name of the definition, `<namespace>/<name>` or `<name>`.
    pub network_name: String,
    /// Make it the pod's default network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
}

/// A forwarded port.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortSpec {
    /// Name of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of the port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// A GPU that is passed through.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GpuSpec {
    /// Name within the machine.
    pub name: String,
    /// Device resource in the infra cluster.
    pub device_name: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Attach a display to a virtual GPU; absent leaves it to KubeVirt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<bool>,
    /// Show the firmware's output on that display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_framebuffer: Option<bool>,
}

/// Another device that is passed through.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HostDeviceSpec {
    /// Name within the machine.
    pub name: String,
    /// Device resource in the infra cluster.
    pub device_name: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Tag in the guest's device metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// What KubeVirt does when the infra node is drained.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EvictionStrategy {
    /// Steading is told and moves the machine.
    #[default]
    External,
    /// KubeVirt migrates it.
    LiveMigrate,
    /// KubeVirt migrates it if possible and stops it otherwise.
    LiveMigrateIfPossible,
    /// It is stopped.
    None,
}

/// Firmware of a machine.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI without secure boot.
    Efi,
    /// UEFI with secure boot.
    EfiSecureBoot,
}

/// Observed side of a machine template.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MachineTemplateStatus {
    /// Generation that was observed last.
    #[serde(default)]
    pub observed_generation: i64,
    /// Last segment of the newest revision's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<String>,
    /// Number of the newest revision.
    #[serde(default)]
    pub revision_number: i64,
    /// `Accepted`: whether machines can be made from it. `CatalogueCurrent`: whether its revision has what the catalogue holds now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
