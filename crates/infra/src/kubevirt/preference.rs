//! Preferences: what fills the gaps that a VM leaves open.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What fills the gaps, cluster-scoped.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineClusterPreference",
    plural = "virtualmachineclusterpreferences",
    shortname = "vmclusterpreference",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(transparent)]
pub struct ClusterPreferenceSpec {
    /// The choices.
    pub spec: PreferenceSpec,
}

/// What fills the gaps, of one namespace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachinePreference",
    plural = "virtualmachinepreferences",
    shortname = "vmpref",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(transparent)]
pub struct NamespacedPreferenceSpec {
    /// The choices.
    pub spec: PreferenceSpec,
}

/// What fills the gaps that a VM leaves open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreferenceSpec {
    /// How vCPUs show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<PreferenceCpu>,
    /// Preferred devices: `preferredDiskBus`, `preferredInterfaceModel`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, Value>,
    /// The least that an instance type must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Value>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// How vCPUs show in the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreferenceCpu {
    /// `sockets`, `cores`, `threads`, `spread` or `any`.
    #[serde(default, rename = "preferredCPUTopology", skip_serializing_if = "Option::is_none")]
    pub preferred_cpu_topology: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}
