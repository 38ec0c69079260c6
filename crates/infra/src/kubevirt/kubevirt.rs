//! KubeVirt: the installation itself.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Condition;

/// What is wanted of the installation.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "KubeVirt",
    plural = "kubevirts",
    shortname = "kv",
    shortname = "kvs",
    category = "all",
    namespaced,
    status = "KubeVirtStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct KubeVirtSpec {
    /// Configuration.
    #[serde(default)]
    pub configuration: Configuration,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Configuration of KubeVirt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Holds the feature gates.
    #[serde(default)]
    pub developer_configuration: DeveloperConfiguration,
    /// Eviction strategy of VMs that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_strategy: Option<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Holds the feature gates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeveloperConfiguration {
    /// Features that are switched on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature_gates: Vec<String>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What was seen last of the installation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeVirtStatus {
    /// `Deployed` when it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Version that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_kube_virt_version: Option<String>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Everything that is not typed here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}
