//! Conditions as KubeVirt and CDI write them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// A condition as KubeVirt and CDI write it: fewer required fields than Kubernetes' own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, `Ready` for example.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// Machine-readable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was looked at last. Null on the wire when unset, as KubeVirt writes it.
    #[serde(default)]
    pub last_probe_time: Option<Time>,
    /// When the status changed last. Null on the wire when unset, as KubeVirt writes it.
    #[serde(default)]
    pub last_transition_time: Option<Time>,
}

impl Condition {
    /// Whether the status is `True`.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of that type, if there is one.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is `True`; a missing one is not.
pub fn condition_is_true(conditions: &[Condition], type_: &str) -> bool {
    condition(conditions, type_).is_some_and(Condition::is_true)
}
