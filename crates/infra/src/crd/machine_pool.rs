//! MachinePool: N machines of one template, in the namespace of their cluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Taint,
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wanted of a machine pool.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "steading.dev",
    version = "v1alpha1",
    kind = "MachinePool",
    plural = "machinepools",
    status = "MachinePoolStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "steading",
    namespaced,
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.updatedReplicas"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MachinePoolSpec {
    /// Wanted number of machines. Absent: as many as there were, and with autoscaling at least its fewest; never none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Id of the project's machine template.
    pub machine_template: String,
    /// Revision of the template; empty follows the latest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine_template_revision: String,
    /// Object name of the placement policy; empty means the default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub placement_policy: String,
    /// Kubernetes version of the nodes; empty means the image's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubernetes_version: String,
    /// How a change reaches machines.
    #[serde(default)]
    pub rollout: RolloutSpec,
    /// Bounds for an autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
    /// How pods are evicted when a machine is deleted.
    #[serde(default)]
    pub eviction: EvictionSpec,
    /// When a machine counts as unhealthy.
    #[serde(default)]
    pub health: HealthSpec,
    /// Labels for the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_labels: BTreeMap<String, String>,
    /// Annotations for the nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_annotations: BTreeMap<String, String>,
    /// Taints for the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_taints: Vec<Taint>,
}

/// How a change reaches machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// Machines beyond the replicas during a rollout; a number or a percentage, rounded up. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// Machines below the replicas during a rollout; a number or a percentage, rounded down. Absent: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Seconds that a machine must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i64>,
    /// What begins a rollout.
    #[serde(default)]
    pub trigger: RolloutTrigger,
    /// Whether a rollout stands still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// What begins a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutTrigger {
    /// Any change of what a machine is made from.
    #[default]
    OnChange,
    /// Only deletion or a request for replacement.
    OnDelete,
}

/// Bounds for an autoscaler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingSpec {
    /// Fewest machines.
    #[serde(default)]
    pub min_replicas: i32,
    /// Most machines.
    pub max_replicas: i32,
}

/// How pods are evicted when a machine is deleted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvictionSpec {
    /// Seconds that evictions are tried; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_seconds: Option<i64>,
    /// What then.
    #[serde(default)]
    pub on_timeout: OnDrainTimeout,
    /// Seconds that volumes may take to be detached; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detach_timeout_seconds: Option<i64>,
    /// Seconds that pods get to end instead of their own grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_grace_period_seconds: Option<i64>,
}

/// What happens when a drain takes too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDrainTimeout {
    /// It is reported and goes on.
    #[default]
    Report,
    /// Pods that are left are deleted.
    Force,
}

/// When a machine counts as unhealthy, and what then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthSpec {
    /// Seconds that a new machine may take to join; absent: 1200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_timeout_seconds: Option<i64>,
    /// Seconds that a node may be not ready; absent: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_after_seconds: Option<i64>,
    /// What happens to an unhealthy machine.
    #[serde(default)]
    pub repair: Repair,
    /// New machines that may fail before the pool stops making more and keeps the old ones; absent: 3, 0: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<i32>,
}

/// What happens to an unhealthy machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Repair {
    /// It is reported.
    #[default]
    None,
    /// It is replaced.
    Replace,
}

/// What was seen last of a machine pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachinePoolStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, as in Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Short word for the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The number of machines that was wanted last; kept while `spec.replicas` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Machines that exist and are not terminating.
    #[serde(default)]
    pub replicas: i32,
    /// Machines whose tenant Node is Ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Machines made from what is wanted now.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Machines that are terminating.
    #[serde(default)]
    pub deleting_replicas: i32,
    /// Hash of everything that machines are made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Revision of the template that `revision` was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_revision: Option<String>,
    /// Virtual CPUs of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_vcpus: Option<i32>,
    /// Memory of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_memory: Option<String>,
    /// Size of all boot disks of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_storage: Option<String>,
    /// New machines of the present revision that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<FailuresStatus>,
}

/// New machines of one revision that failed before they had ever joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailuresStatus {
    /// Hash of what they were made from.
    pub revision: String,
    /// How many were removed since a machine of that revision last came up.
    pub count: i32,
    /// When the last of them was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// Why the last of them failed, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
