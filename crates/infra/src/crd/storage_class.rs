//! StorageClass: what an admin offers to tenants, and which class of the infra cluster stands behind it.
//!
//! Objects may come from `kubectl apply` as well as from the API: the schema holds the rules that can be told of one
//! object alone, the storage service judges the rest and says `Accepted=False` with a reason.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What is offered to tenants.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "steading.dev",
    version = "v1alpha1",
    kind = "StorageClass",
    plural = "storageclasses",
    status = "StorageClassStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "steading",
    printcolumn(name = "InfraClass", type_ = "string", json_path = ".spec.infraStorageClass"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.defaultClass"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = "self.infraStorageClass == oldSelf.infraStorageClass")]
pub struct StorageClassSpec {
    /// Name of the storage.k8s.io StorageClass of the infra cluster.
    #[serde(default)]
    pub infra_storage_class: String,
    /// What the class is good for, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether every project may use the class.
    #[serde(default)]
    pub all_projects: bool,
    /// Ids of the projects that may use the class if not all may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// Smallest size of a volume, a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<String>,
    /// Largest size of a volume, a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<String>,
    /// Name of the VolumeSnapshotClass of the infra cluster; without one there are no snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_class: Option<String>,
    /// Bus of the disks: `scsi` (the default) or `virtio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Access modes that volumes may have, the first being the default; none means ReadWriteOnce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// Volume modes that volumes may have, the first being the default; none means Block and Filesystem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_modes: Vec<String>,
    /// Zones from which the storage can be reached; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Whether volumes that name no class get this one.
    #[serde(default)]
    pub default_class: bool,
    /// Whether volumes may grow.
    #[serde(default)]
    pub expansion_allowed: bool,
    /// What happens to the bytes of a deleted volume: `Delete` (the default) or `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<String>,
}

/// What was seen last of a storage class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageClassStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, as in Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
