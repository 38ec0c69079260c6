//! A resolved placement: the part of a pod's spec that decides where it may run, and its compiled form.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeAffinity, PodAffinityTerm, PodAntiAffinity, PodSpec, Toleration, TopologySpreadConstraint,
};
use kube::core::{Expression, Selector};

/// Constraints on where a machine may run, in the types of the Kubernetes API.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// Rules on the labels of infra nodes.
    pub node_affinity: Option<NodeAffinity>,
    /// How machines spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Machines that keep away from each other.
    pub pod_anti_affinity: Option<PodAntiAffinity>,
    /// Labels that an infra node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not matter.
    pub tolerations: Vec<Toleration>,
}

impl Placement {
    /// The placement that a pod was made with.
    pub fn of_pod(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref();
        Self {
            node_affinity: affinity.and_then(|a| a.node_affinity.clone()),
            topology_spread_constraints: spec.topology_spread_constraints.clone().unwrap_or_default(),
            pod_anti_affinity: affinity.and_then(|a| a.pod_anti_affinity.clone()),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
        }
    }
}

/// A placement whose selectors are parsed, for one set of machine labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Constraints {
    /// Labels that an infra node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Rules on the labels of infra nodes.
    pub node_affinity: Option<NodeAffinity>,
    /// Spread constraints.
    pub spread: Vec<SpreadConstraint>,
    /// Terms that must not be broken.
    pub anti_required: Vec<AntiTerm>,
    /// Terms with the weight of not breaking them.
    pub anti_preferred: Vec<(i64, AntiTerm)>,
    /// Taints that do not matter.
    pub tolerations: Vec<Toleration>,
}

/// One spread constraint with its defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct SpreadConstraint {
    /// The constraint as it was written.
    pub source: TopologySpreadConstraint,
    /// Pods that are counted.
    pub selector: Selector,
    /// Whether the constraint must hold.
    pub strict: bool,
    /// Whether nodes that the affinity excludes are no domains.
    pub honours_affinity: bool,
    /// Whether nodes with untolerated taints are no domains.
    pub honours_taints: bool,
}

/// Pods to avoid, and in which domain.
#[derive(Debug, Clone, PartialEq)]
pub struct AntiTerm {
    /// Node label whose values are the domains.
    pub topology_key: String,
    /// Pods to avoid.
    pub selector: Selector,
    /// Namespaces to look in; empty is the machine's own.
    pub namespaces: Vec<String>,
}

impl AntiTerm {
    /// Whether the term of a pod in `own_namespace` looks into `namespace`.
    pub fn looks_into(&self, own_namespace: &str, namespace: &str) -> bool {
        if self.namespaces.is_empty() {
            own_namespace == namespace
        } else {
            self.namespaces.iter().any(|n| n == namespace)
        }
    }
}

/// A label selector that Kubernetes would not take.
#[derive(Debug, thiserror::Error)]
#[error("label selector is not valid")]
pub struct SelectorError(#[from] kube::core::ParseExpressionError);

impl Constraints {
    /// Parses the selectors of a placement for a machine with these labels.
    ///
    /// # Errors
    /// If a label selector is not valid.
    pub fn compile(placement: &Placement, labels: &BTreeMap<String, String>) -> Result<Self, SelectorError> {
        let anti = placement.pod_anti_affinity.clone().unwrap_or_default();
        let required = anti
            .required_during_scheduling_ignored_during_execution
            .unwrap_or_default();
        let preferred = anti
            .preferred_during_scheduling_ignored_during_execution
            .unwrap_or_default();
        Ok(Self {
            node_selector: placement.node_selector.clone(),
            node_affinity: placement.node_affinity.clone(),
            spread: placement
                .topology_spread_constraints
                .iter()
                .map(|source| compile_spread(source, labels))
                .collect::<Result<_, _>>()?,
            anti_required: required.iter().map(compile_term).collect::<Result<_, _>>()?,
            anti_preferred: preferred
                .iter()
                .map(|term| Ok((i64::from(term.weight), compile_term(&term.pod_affinity_term)?)))
                .collect::<Result<_, SelectorError>>()?,
            tolerations: placement.tolerations.clone(),
        })
    }
}

fn compile_spread(
    source: &TopologySpreadConstraint,
    labels: &BTreeMap<String, String>,
) -> Result<SpreadConstraint, SelectorError> {
    // Kubernetes: a constraint without a selector counts nothing.
    let mut selector = match &source.label_selector {
        Some(selector) => Selector::try_from(selector.clone())?,
        None => nothing(),
    };
    for key in source.match_label_keys.iter().flatten() {
        if let Some(value) = labels.get(key) {
            selector.extend([Expression::Equal(key.clone(), value.clone())]);
        }
    }
    Ok(SpreadConstraint {
        source: source.clone(),
        selector,
        strict: source.when_unsatisfiable == "DoNotSchedule",
        honours_affinity: source.node_affinity_policy.as_deref() != Some("Ignore"),
        honours_taints: source.node_taints_policy.as_deref() == Some("Honor"),
    })
}

fn compile_term(term: &PodAffinityTerm) -> Result<AntiTerm, SelectorError> {
    Ok(AntiTerm {
        topology_key: term.topology_key.clone(),
        selector: match &term.label_selector {
            Some(selector) => Selector::try_from(selector.clone())?,
            None => nothing(),
        },
        namespaces: term.namespaces.clone().unwrap_or_default(),
    })
}

/// A selector that matches no object: no label has two states at once.
fn nothing() -> Selector {
    Selector::from_iter([
        Expression::Exists(String::new()),
        Expression::DoesNotExist(String::new()),
    ])
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
    use kube::core::SelectorExt;

    use super::*;

    #[test]
    fn a_constraint_without_selector_counts_nothing() {
        let placement = Placement {
            topology_spread_constraints: vec![TopologySpreadConstraint::default()],
            ..Placement::default()
        };
        let compiled = Constraints::compile(&placement, &BTreeMap::new()).expect("valid");
        assert!(!compiled.spread[0].selector.matches(&BTreeMap::new()));
        assert!(
            !compiled.spread[0]
                .selector
                .matches(&BTreeMap::from([(String::new(), String::new())]))
        );
    }

    #[test]
    fn match_label_keys_narrow_the_selector_to_the_machines_own_value() {
        let placement = Placement {
            topology_spread_constraints: vec![TopologySpreadConstraint {
                label_selector: Some(LabelSelector::default()),
                match_label_keys: Some(vec!["revision".into()]),
                ..TopologySpreadConstraint::default()
            }],
            ..Placement::default()
        };
        let labels = |value: &str| BTreeMap::from([("revision".to_owned(), value.to_owned())]);
        let compiled = Constraints::compile(&placement, &labels("a")).expect("valid");
        assert!(compiled.spread[0].selector.matches(&labels("a")));
        assert!(!compiled.spread[0].selector.matches(&labels("b")));
    }
}
