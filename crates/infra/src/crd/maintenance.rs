//! Maintenance: an infra node that is to be emptied, and how far that is.
//!
//! `spec.desiredState` is the only thing that makes anything move, so `kubectl apply` can start, cancel and complete a
//! maintenance as the API does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wanted of a maintenance.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
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
    printcolumn(name = "Moved", type_ = "integer", json_path = ".status.moved"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = "self.infraNode == oldSelf.infraNode")]
pub struct MaintenanceSpec {
    /// Name of the infra node.
    pub infra_node: String,
    /// How far the maintenance is to go.
    #[serde(default)]
    pub desired_state: MaintenanceDesire,
    /// Which moves may be used.
    #[serde(default)]
    pub strategy: MaintenanceStrategy,
    /// Which machines leave.
    #[serde(default)]
    pub scope: MaintenanceScope,
    /// How many machines may be on the move at once.
    #[serde(default)]
    pub budget: MaintenanceBudget,
    /// When a standstill is reported, and what is done about it.
    #[serde(default)]
    pub stall_policy: MaintenanceStallPolicy,
    /// Why the infra node needs maintenance, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// How far a maintenance is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MaintenanceDesire {
    /// Only plan.
    #[default]
    Planned,
    /// Empty the infra node and keep it empty.
    InMaintenance,
    /// Begin nothing new and give the infra node back.
    Cancelled,
    /// Give the empty infra node back.
    Completed,
}

/// Which moves may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MaintenanceStrategy {
    /// Live migration where possible, else replacement.
    #[default]
    MigrateOrReplace,
    /// Live migration only.
    MigrateOnly,
    /// Replacement only.
    ReplaceOnly,
}

/// Which machines leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MaintenanceScope {
    /// All machines on the infra node; Steading cordons it.
    #[default]
    All,
    /// Those that an eviction has marked; the admin cordons the node (`kubectl drain`).
    Evicted,
}

/// How many machines may be on the move at once; what is not set has the service's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceBudget {
    /// Off one infra node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_per_infra_node: Option<i32>,
    /// Off the infra nodes of one zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_per_zone: Option<i32>,
    /// Of one tenant cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_per_tenant_cluster: Option<i32>,
}

/// When a standstill is reported, and what is done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceStallPolicy {
    /// What is done.
    #[serde(default)]
    pub action: StallAction,
    /// Time without progress until the maintenance is called stalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_after_seconds: Option<i64>,
    /// Time until a held-back drain is forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_after_seconds: Option<i64>,
}

/// What is done about a standstill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StallAction {
    /// It is reported.
    #[default]
    Report,
    /// Held-back pods are deleted.
    Escalate,
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
    /// The state: `Planned`, `Running`, `Stalled`, `InMaintenance`, `Completed`, `Cancelling`, `Cancelled` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<MaintenancePlanStatus>,
    /// How far each machine has come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<EvacuationProgressStatus>,
    /// Machines that have left.
    #[serde(default)]
    pub moved: i32,
    /// All machines.
    #[serde(default)]
    pub total: i32,
    /// When the infra node was cordoned for this maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon_time: Option<Time>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When a machine last made progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_time: Option<Time>,
    /// When the last machine had left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuate_time: Option<Time>,
    /// When it was completed, cancelled or had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}

/// What will happen to each machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenancePlanStatus {
    /// Fingerprint of machines and dispositions.
    pub id: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_time: Option<Time>,
    /// One entry a machine, in the order of their turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<PlannedEvacuationStatus>,
    /// VMIs that Steading does not manage, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmanaged: Vec<String>,
    /// Whether scheduling was asked for capacity.
    #[serde(default)]
    pub capacity_known: bool,
}

/// What will happen to one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedEvacuationStatus {
    /// Namespace of the machine.
    pub namespace: String,
    /// The machine.
    pub machine: String,
    /// `LiveMigrate`, `SurgeThenDrain`, `DrainThenReplace`, `RestartInPlace`, `Blocked` or `Leaving`.
    pub disposition: String,
    /// Why, in CamelCase.
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Infra node where it would go.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_node: String,
    /// Zone of that node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_zone: String,
    /// Why there is no target.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_reason: String,
    /// What may hold the move up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<EvacuationRiskStatus>,
}

/// Something that may hold a move up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvacuationRiskStatus {
    /// Kind in CamelCase.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How far one machine's evacuation has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvacuationProgressStatus {
    /// Namespace of the machine.
    pub namespace: String,
    /// The machine.
    pub machine: String,
    /// Uid of the VMI whose leaving is followed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance_uid: String,
    /// `Waiting`, `Migrating`, `Replacing`, `Draining`, `Restarting`, `Moved`, `Blocked` or `Cancelled`.
    pub phase: String,
    /// As in the plan, or what it became.
    pub disposition: String,
    /// Why, in CamelCase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Infra node where the machine is now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_node: String,
    /// When the move began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the machine had left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Live migrations tried.
    #[serde(default)]
    pub migration_attempts: i32,
    /// Whether the disposition is another than the plan's.
    #[serde(default)]
    pub differs_from_plan: bool,
}
