//! Maintenance: an infra node that is to be emptied, and how far that is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wanted of a maintenance.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "steading.dev",
    version = "v1alpha1",
    kind = "Maintenance",
    plural = "maintenances",
    status = "MaintenanceStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "steading",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.infraNode"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceSpec {
    /// Name of the infra node.
    pub infra_node: String,
}

/// What was seen last of a maintenance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, as in Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Short word for the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}
