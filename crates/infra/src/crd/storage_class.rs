//! StorageClass: what an admin offers to tenants, and which class of the infra cluster stands behind it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is offered to tenants.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct StorageClassSpec {
    /// Name of the storage.k8s.io StorageClass of the infra cluster.
    #[serde(default)]
    pub infra_storage_class: String,
}

/// What was seen last of a storage class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageClassStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, as in Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
