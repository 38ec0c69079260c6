//! Placement policies: message ⇄ object.

use std::collections::BTreeMap;

use kube::ResourceExt;
use steading_api::scheduling::v1::{self as proto, node_affinity_preset::Strength, placement_policy::State};
use steading_infra::crd::placement_policy::{NodeAffinityPreset, PlacementPolicy, PlacementPolicySpec, PresetStrength};
use steading_model::{name::PlacementPolicyName, violation::Violations};
use steading_runtime::standard::condition;

use super::placement;

/// A policy as a message; `None` if the object's name is not that of a policy.
pub fn policy(object: &PlacementPolicy) -> Option<proto::PlacementPolicy> {
    let name = PlacementPolicyName::from_object_name(&object.name_any())?;
    let spec = &object.spec;
    let meta = &object.metadata;
    let status = object.status.clone().unwrap_or_default();
    let terminating = meta.deletion_timestamp.is_some();
    let preset = |preset: &NodeAffinityPreset| proto::NodeAffinityPreset {
        strength: match preset.strength {
            PresetStrength::Soft => Strength::Soft,
            PresetStrength::Hard => Strength::Hard,
        }
        .into(),
        key: preset.key.clone(),
        values: preset.values.clone(),
    };
    Some(proto::PlacementPolicy {
        name: name.to_string(),
        state: if terminating { State::Deleting } else { State::Active }.into(),
        conditions: status.conditions.iter().map(condition).collect(),
        reconciling: terminating,
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        node_affinity: spec.node_affinity.as_ref().map(placement::node_affinity),
        topology_spread_constraints: spec.topology_spread_constraints.iter().map(placement::spread).collect(),
        pod_anti_affinity: spec.pod_anti_affinity.as_ref().map(placement::anti_affinity),
        node_selector: spec.node_selector.clone().into_iter().collect(),
        tolerations: spec.tolerations.iter().map(placement::toleration).collect(),
        node_affinity_presets: spec.node_affinity_presets.iter().map(preset).collect(),
        disable_default_spread: spec.disable_default_spread,
        ..proto::PlacementPolicy::default()
    })
}

/// The wanted side of a message.
///
/// # Errors
/// If something is said that the object cannot hold; the rest is for [`crate::domain::policy::validate`].
pub fn policy_from(message: &proto::PlacementPolicy) -> Result<PlacementPolicySpec, Violations> {
    let mut violations = Violations::new();
    let mut presets = Vec::new();
    for (index, preset) in message.node_affinity_presets.iter().enumerate() {
        let strength = match preset.strength() {
            Strength::Soft => PresetStrength::Soft,
            Strength::Hard => PresetStrength::Hard,
            Strength::Unspecified => {
                violations.add(format!("node_affinity_presets[{index}].strength"), "must be set");
                continue;
            }
        };
        presets.push(NodeAffinityPreset {
            strength,
            key: preset.key.clone(),
            values: preset.values.clone(),
        });
    }
    let spec = PlacementPolicySpec {
        display_name: message.display_name.clone(),
        description: message.description.clone(),
        node_affinity: message.node_affinity.as_ref().map(placement::node_affinity_from),
        topology_spread_constraints: message
            .topology_spread_constraints
            .iter()
            .map(placement::spread_from)
            .collect(),
        pod_anti_affinity: message.pod_anti_affinity.as_ref().map(placement::anti_affinity_from),
        node_selector: message.node_selector.clone().into_iter().collect::<BTreeMap<_, _>>(),
        tolerations: message.tolerations.iter().map(placement::toleration_from).collect(),
        node_affinity_presets: presets,
        disable_default_spread: message.disable_default_spread,
    };
    violations.finish_with(Some(spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_the_way_through_the_object() {
        let json = serde_json::json!({
            "displayName": "Zones", "nodeSelector": {"a": "b"}, "disableDefaultSpread": true,
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["x"]}, {"key": "n", "operator": "Gt", "values": ["3"]}]},
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "preference": {"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}}]},
            "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 3, "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "q", "operator": "Exists"}]}, "matchLabelKeys": ["r"]}],
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "h", "namespaces": ["n"]}],
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "h"}}]},
            "tolerations": [{"key": "t", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 30}],
            "nodeAffinityPresets": [{"type": "hard", "key": "gpu", "values": ["a"]}]
        });
        let spec: PlacementPolicySpec = serde_json::from_value(json).expect("a spec");
        let message = policy(&PlacementPolicy::new("acme--zones", spec.clone())).expect("a policy");
        assert_eq!(message.name, "projects/acme/placementPolicies/zones");
        assert_eq!(policy_from(&message), Ok(spec));
    }
}
