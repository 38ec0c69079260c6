//! `PlacementPolicy`: where the machines of a pool may run and how they spread. Owned by scheduling.
//!
//! The fields are those of a pod's spec, with the types of the Kubernetes API, so that what an operator knows of
//! affinity and spread constraints holds here word by word.

#![allow(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the schema derive repeats the struct inside a function, and columns repeat their types"
)]

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeAffinity, PodAntiAffinity, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Wanted side of a placement policy.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[kube(
    group = "steading.dev",
    version = "v1alpha1",
    kind = "PlacementPolicy",
    plural = "placementpolicies",
    shortname = "pp",
    category = "steading",
    status = "PlacementPolicyStatus",
    derive = "PartialEq",
    doc = "Where the machines of a pool may run on the bare metal and how they spread over it.",
    printcolumn(json_path = ".spec.displayName", name = "Display Name", type_ = "string"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        name = "Accepted",
        type_ = "string"
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPolicySpec {
    /// Short name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What the policy is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Rules on the labels of infra nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
    /// How machines spread; a constraint without a label selector counts the machines of the same pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Machines that keep away from each other; a term without a label selector means the machines of the same pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity: Option<PodAntiAffinity>,
    /// Labels that an infra node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of infra nodes that do not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Short form of simple node affinities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_affinity_presets: Vec<NodeAffinityPreset>,
    /// With no constraint given, spread not at all instead of by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_default_spread: bool,
}

/// A label that an infra node must or should have.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinityPreset {
    /// Whether the preset demands or prefers.
    #[serde(rename = "type")]
    pub strength: PresetStrength,
    /// Label key.
    pub key: String,
    /// Allowed values; empty means that the label must only be present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How strongly a preset binds.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PresetStrength {
    /// A preference of weight 1.
    Soft,
    /// A requirement.
    Hard,
}

/// Observed side of a placement policy.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPolicyStatus {
    /// Generation that the conditions speak of.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Accepted`: whether the policy can be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
