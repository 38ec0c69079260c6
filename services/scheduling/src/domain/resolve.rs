//! From a policy to the placement of one pool: defaults filled in, selectors bound to the pool's machines.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
        PreferredSchedulingTerm, TopologySpreadConstraint,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use steading_infra::{
    crd::placement_policy::{NodeAffinityPreset, PlacementPolicySpec, PresetStrength},
    labels,
};
use steading_model::{ids::Id, name::ClusterName};

use crate::domain::Placement;

/// Id of the policy that is used when none is named.
pub const DEFAULT_POLICY: &str = "default";

/// Machines that a placement speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Their tenant cluster.
    pub cluster: ClusterName,
    /// Their pool; `None` means all machines of the cluster together.
    pub pool: Option<Id>,
    /// More labels that they have.
    pub match_labels: BTreeMap<String, String>,
}

impl Subject {
    /// Labels by which they are counted.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut all = self.match_labels.clone();
        all.insert(labels::PROJECT.into(), self.cluster.project.to_string());
        all.insert(labels::CLUSTER.into(), self.cluster.cluster.to_string());
        if let Some(pool) = &self.pool {
            all.insert(labels::POOL.into(), pool.to_string());
        }
        all
    }
}

/// The spread of pools whose policy says nothing: evenly over infra nodes, but run rather than wait.
pub fn default_spread() -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: labels::HOSTNAME.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        ..TopologySpreadConstraint::default()
    }
}

/// The policy that scheduling installs. It says the default in so many words, so that an operator sees what it is.
pub fn default_policy() -> PlacementPolicySpec {
    PlacementPolicySpec {
        display_name: "Default".into(),
        description:
            "Spreads the machines of a pool evenly over the infra nodes, but runs them rather than letting them wait."
                .into(),
        topology_spread_constraints: vec![default_spread()],
        ..PlacementPolicySpec::default()
    }
}

/// Resolves a valid policy.
pub fn resolve(policy: &PlacementPolicySpec, subject: &Subject) -> Placement {
    let own = LabelSelector {
        match_labels: Some(subject.labels()),
        match_expressions: None,
    };
    let mut spread = policy.topology_spread_constraints.clone();
    if spread.is_empty() && !policy.disable_default_spread {
        spread.push(default_spread());
    }
    for constraint in &mut spread {
        constraint.label_selector.get_or_insert_with(|| own.clone());
    }
    let mut anti = policy.pod_anti_affinity.clone();
    if let Some(anti) = &mut anti {
        let bind = |term: &mut PodAffinityTerm| {
            term.label_selector.get_or_insert_with(|| own.clone());
        };
        anti.required_during_scheduling_ignored_during_execution
            .iter_mut()
            .flatten()
            .for_each(bind);
        anti.preferred_during_scheduling_ignored_during_execution
            .iter_mut()
            .flatten()
            .for_each(|weighted| bind(&mut weighted.pod_affinity_term));
    }
    Placement {
        node_affinity: with_presets(policy.node_affinity.clone(), &policy.node_affinity_presets),
        topology_spread_constraints: spread,
        pod_affinity: None,
        pod_anti_affinity: anti,
        node_selector: policy.node_selector.clone(),
        tolerations: policy.tolerations.clone(),
    }
}

/// Terms of a node selector are alternatives, so a hard preset has to become a part of each of them.
fn with_presets(affinity: Option<NodeAffinity>, presets: &[NodeAffinityPreset]) -> Option<NodeAffinity> {
    if presets.is_empty() {
        return affinity;
    }
    let mut affinity = affinity.unwrap_or_default();
    for preset in presets {
        let requirement = requirement(preset);
        match preset.strength {
            PresetStrength::Soft => affinity
                .preferred_during_scheduling_ignored_during_execution
                .get_or_insert_default()
                .push(PreferredSchedulingTerm {
                    weight: 1,
                    preference: term(requirement),
                }),
            PresetStrength::Hard => {
                let required: &mut NodeSelector = affinity
                    .required_during_scheduling_ignored_during_execution
                    .get_or_insert_default();
                if required.node_selector_terms.is_empty() {
                    required.node_selector_terms.push(term(requirement));
                } else {
                    for each in &mut required.node_selector_terms {
                        each.match_expressions.get_or_insert_default().push(requirement.clone());
                    }
                }
            }
        }
    }
    Some(affinity)
}

fn requirement(preset: &NodeAffinityPreset) -> NodeSelectorRequirement {
    let (operator, values) = if preset.values.is_empty() {
        ("Exists", None)
    } else {
        ("In", Some(preset.values.clone()))
    };
    NodeSelectorRequirement {
        key: preset.key.clone(),
        operator: operator.into(),
        values,
    }
}

fn term(requirement: NodeSelectorRequirement) -> NodeSelectorTerm {
    NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        match_fields: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_subject(pool: Option<&str>) -> Subject {
        Subject {
            cluster: "projects/acme/clusters/web".parse().expect("a name"),
            pool: pool.map(|p| Id::parse(p).expect("an id")),
            match_labels: BTreeMap::new(),
        }
    }

    #[test]
    fn an_empty_policy_spreads_the_pool_over_hosts_and_runs_anyway() {
        let placement = resolve(&PlacementPolicySpec::default(), &mk_subject(Some("workers")));
        let [constraint] = placement.topology_spread_constraints.as_slice() else {
            panic!("one constraint")
        };
        assert_eq!(constraint.max_skew, 1);
        assert_eq!(constraint.topology_key, "kubernetes.io/hostname");
        assert_eq!(constraint.when_unsatisfiable, "ScheduleAnyway");
        let selector = constraint
            .label_selector
            .clone()
            .and_then(|s| s.match_labels)
            .expect("bound");
        assert_eq!(selector["steading.dev/pool"], "workers");
        assert_eq!(selector["steading.dev/cluster"], "web");
        assert_eq!(selector["steading.dev/project"], "acme");
    }

    #[test]
    fn a_given_constraint_replaces_the_default_and_gets_the_same_selector() {
        let mut policy = default_policy();
        policy.topology_spread_constraints = vec![TopologySpreadConstraint {
            max_skew: 2,
            topology_key: labels::ZONE.into(),
            ..default_spread()
        }];
        let placement = resolve(&policy, &mk_subject(None));
        assert_eq!(placement.topology_spread_constraints.len(), 1);
        assert_eq!(placement.topology_spread_constraints[0].topology_key, labels::ZONE);
        let selector = placement.topology_spread_constraints[0]
            .label_selector
            .clone()
            .and_then(|s| s.match_labels);
        assert!(!selector.expect("bound").contains_key(labels::POOL));
    }

    #[test]
    fn no_spread_is_possible_if_asked_for() {
        let policy = PlacementPolicySpec {
            disable_default_spread: true,
            ..PlacementPolicySpec::default()
        };
        assert!(
            resolve(&policy, &mk_subject(None))
                .topology_spread_constraints
                .is_empty()
        );
    }

    #[test]
    fn hard_presets_bind_in_every_alternative() {
        let alternatives = ["a", "b"].map(|zone| {
            term(NodeSelectorRequirement {
                key: "zone".into(),
                operator: "In".into(),
                values: Some(vec![zone.into()]),
            })
        });
        let policy = PlacementPolicySpec {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: alternatives.to_vec(),
                }),
                ..NodeAffinity::default()
            }),
            node_affinity_presets: vec![
                NodeAffinityPreset {
                    strength: PresetStrength::Hard,
                    key: "gpu".into(),
                    values: vec![],
                },
                NodeAffinityPreset {
                    strength: PresetStrength::Soft,
                    key: "disk".into(),
                    values: vec!["ssd".into()],
                },
            ],
            ..PlacementPolicySpec::default()
        };
        let affinity = resolve(&policy, &mk_subject(None)).node_affinity.expect("affinity");
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .expect("required");
        for term in required.node_selector_terms {
            assert!(
                term.match_expressions
                    .expect("expressions")
                    .iter()
                    .any(|r| r.key == "gpu" && r.operator == "Exists")
            );
        }
        assert_eq!(
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .expect("preferred")[0]
                .weight,
            1
        );
    }
}
