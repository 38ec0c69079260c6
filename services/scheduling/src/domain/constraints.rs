//! A placement whose selectors are parsed, for the labels and the namespace of one machine. It compares and hashes, so
//! that machines of one pool share one.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1 as core;

use super::{
    Placement,
    selector::{Labels, Operator, Requirement, Selector},
};

/// Constraints on where a machine may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Constraints {
    /// Labels that an infra node must have.
    pub node_selector: Vec<(String, String)>,
    /// Alternatives of which an infra node must fulfil one; `None` demands nothing.
    pub node_required: Option<Vec<NodeTerm>>,
    /// Terms that make an infra node more welcome, with their weights.
    pub node_preferred: Vec<(i64, NodeTerm)>,
    /// Spread constraints, in the order of the placement.
    pub spread: Vec<SpreadConstraint>,
    /// Pods that must be in the same domain.
    pub near_required: Vec<Term>,
    /// Pods that should be in the same domain, with their weights.
    pub near_preferred: Vec<(i64, Term)>,
    /// Pods that must not be in the same domain.
    pub anti_required: Vec<Term>,
    /// Pods that should not be in the same domain, with their weights.
    pub anti_preferred: Vec<(i64, Term)>,
    /// Taints that do not matter.
    pub tolerations: Vec<Toleration>,
}

/// Conjunction of requirements on one node. One without any requirement matches no node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    /// Requirements on labels.
    pub labels: Vec<Requirement>,
    /// Requirements on `metadata.name`; another field never matches.
    pub fields: Vec<Requirement>,
}

/// One spread constraint with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpreadConstraint {
    /// Node label whose values are the domains.
    pub topology_key: String,
    /// Largest difference between the fullest and the emptiest domain.
    pub max_skew: i32,
    /// Fewest domains that must exist.
    pub min_domains: i32,
    /// Pods that are counted.
    pub group: Arc<Group>,
    /// Whether the constraint must hold.
    pub strict: bool,
    /// Whether nodes that the affinity excludes are no domains.
    pub honours_affinity: bool,
    /// Whether nodes with untolerated taints are no domains.
    pub honours_taints: bool,
}

/// Pods, and the domains in which they are sought or avoided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// Node label whose values are the domains.
    pub topology_key: String,
    /// The pods.
    pub group: Arc<Group>,
}

/// A set of pods: those of some namespaces that a selector takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Group {
    /// Names of the namespaces.
    pub namespaces: BTreeSet<String>,
    /// Selects more namespaces by their labels; [`Selector::Nothing`] selects none.
    pub namespace_selector: Selector,
    /// Selects pods by their labels.
    pub selector: Selector,
}

impl Group {
    /// Whether it looks into a namespace with these labels.
    pub fn looks_into(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        self.namespaces.contains(namespace)
            || self.namespace_selector.is_everything()
            || labels.is_some_and(|labels| self.namespace_selector.matches(labels))
    }

    /// The one namespace that it looks into, if it is one and known by name.
    pub fn only_namespace(&self) -> Option<&str> {
        match (&self.namespace_selector, self.namespaces.len()) {
            (Selector::Nothing, 1) => self.namespaces.first().map(String::as_str),
            _ => None,
        }
    }
}

/// A taint that does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Key; empty with `exists` means every key.
    pub key: String,
    /// Whether the value is not compared.
    pub exists: bool,
    /// Value.
    pub value: String,
    /// Effect; empty means every effect.
    pub effect: String,
}

impl Toleration {
    /// Kubernetes' rule for tolerations.
    pub fn tolerates(&self, taint: &core::Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key == taint.key || (self.key.is_empty() && self.exists))
            && (self.exists || self.value == taint.value.as_deref().unwrap_or_default())
    }
}

impl Constraints {
    /// Parses the selectors of a placement for a machine of `namespace` with these labels.
    pub fn compile(placement: &Placement, namespace: &str, labels: &Labels) -> Self {
        let term = |term: &core::PodAffinityTerm| compile_term(term, namespace, labels);
        let weighted =
            |weighted: &core::WeightedPodAffinityTerm| (i64::from(weighted.weight), term(&weighted.pod_affinity_term));
        let near = placement.pod_affinity.as_ref();
        let anti = placement.pod_anti_affinity.as_ref();
        let affinity = placement.node_affinity.as_ref();
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        Self {
            node_selector: placement.node_selector.clone().into_iter().collect(),
            node_required: required.map(|r| r.node_selector_terms.iter().map(node_term).collect()),
            node_preferred: preferred
                .into_iter()
                .flatten()
                .map(|p| (i64::from(p.weight), node_term(&p.preference)))
                .collect(),
            spread: placement
                .topology_spread_constraints
                .iter()
                .map(|source| compile_spread(source, namespace, labels))
                .collect(),
            near_required: near
                .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
                .into_iter()
                .flatten()
                .map(term)
                .collect(),
            near_preferred: near
                .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
                .into_iter()
                .flatten()
                .map(weighted)
                .collect(),
            anti_required: anti
                .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
                .into_iter()
                .flatten()
                .map(term)
                .collect(),
            anti_preferred: anti
                .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
                .into_iter()
                .flatten()
                .map(weighted)
                .collect(),
            tolerations: placement.tolerations.iter().map(compile_toleration).collect(),
        }
    }

    /// Every group of pods that the constraints speak of.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let terms = self.near_required.iter().chain(&self.anti_required);
        let weighted = self.near_preferred.iter().chain(&self.anti_preferred);
        self.spread
            .iter()
            .map(|constraint| &constraint.group)
            .chain(terms.map(|term| &term.group))
            .chain(weighted.map(|(_, term)| &term.group))
    }

    /// Whether a taint is tolerated.
    pub fn tolerates(&self, taint: &core::Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}

/// What a pod that runs holds against or for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It must not have them in its domain.
    Repels,
    /// It must have them in its domain: kube-scheduler gives them a weight of one.
    Seeks,
    /// It would rather have them in its domain, or (negative) rather not.
    Prefers(i64),
}

/// The terms that a pod holds about others once it runs. Spread constraints bind only the pod that is being placed.
pub fn held(constraints: &Constraints) -> impl Iterator<Item = (Role, &Term)> {
    let repels = constraints.anti_required.iter().map(|term| (Role::Repels, term));
    let seeks = constraints.near_required.iter().map(|term| (Role::Seeks, term));
    let likes = constraints
        .near_preferred
        .iter()
        .map(|(weight, term)| (Role::Prefers(*weight), term));
    let dislikes = constraints
        .anti_preferred
        .iter()
        .map(|(weight, term)| (Role::Prefers(-*weight), term));
    repels.chain(seeks).chain(likes).chain(dislikes)
}

fn node_term(term: &core::NodeSelectorTerm) -> NodeTerm {
    let requirements = |list: &Option<Vec<core::NodeSelectorRequirement>>| {
        let list = list.iter().flatten();
        list.map(|r| {
            let values = r.values.as_deref().unwrap_or_default();
            Requirement::new(&r.key, Operator::parse(&r.operator), values)
        })
        .collect()
    };
    NodeTerm {
        labels: requirements(&term.match_expressions),
        fields: requirements(&term.match_fields),
    }
}

fn compile_spread(source: &core::TopologySpreadConstraint, namespace: &str, labels: &Labels) -> SpreadConstraint {
    let mut selector = Selector::parse(source.label_selector.as_ref());
    selector.bind(source.match_label_keys.as_ref(), Operator::In, labels);
    SpreadConstraint {
        topology_key: source.topology_key.clone(),
        max_skew: source.max_skew,
        min_domains: source.min_domains.unwrap_or(1),
        group: Arc::new(Group {
            namespaces: [namespace.to_owned()].into(),
            namespace_selector: Selector::Nothing,
            selector,
        }),
        strict: source.when_unsatisfiable == "DoNotSchedule",
        honours_affinity: source.node_affinity_policy.as_deref() != Some("Ignore"),
        honours_taints: source.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn compile_term(term: &core::PodAffinityTerm, namespace: &str, labels: &Labels) -> Term {
    let mut selector = Selector::parse(term.label_selector.as_ref());
    selector.bind(term.match_label_keys.as_ref(), Operator::In, labels);
    selector.bind(term.mismatch_label_keys.as_ref(), Operator::NotIn, labels);
    let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.insert(namespace.to_owned());
    }
    Term {
        topology_key: term.topology_key.clone(),
        group: Arc::new(Group {
            namespaces,
            namespace_selector: Selector::parse(term.namespace_selector.as_ref()),
            selector,
        }),
    }
}

fn compile_toleration(toleration: &core::Toleration) -> Toleration {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Toleration {
        key: text(&toleration.key),
        exists: toleration.operator.as_deref() == Some("Exists"),
        value: text(&toleration.value),
        effect: text(&toleration.effect),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::{
        api::core::v1::{PodAffinityTerm, PodAntiAffinity, Taint, TopologySpreadConstraint},
        apimachinery::pkg::apis::meta::v1::LabelSelector,
    };

    use super::*;

    fn mk_labels(value: &str) -> Labels {
        Labels::from(&BTreeMap::from([("revision".to_owned(), value.to_owned())]))
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
        let compiled = Constraints::compile(&placement, "ns", &mk_labels("a"));
        assert!(compiled.spread[0].group.selector.matches(&mk_labels("a")));
        assert!(!compiled.spread[0].group.selector.matches(&mk_labels("b")));
    }

    #[test]
    fn terms_honour_namespace_selectors_and_label_keys() {
        let placement = Placement {
            pod_anti_affinity: Some(PodAntiAffinity {
                required_during_scheduling_ignored_during_execution: Some(vec![
                    PodAffinityTerm {
                        label_selector: Some(LabelSelector::default()),
                        namespace_selector: Some(LabelSelector {
                            match_labels: Some([("team".to_owned(), "red".to_owned())].into()),
                            match_expressions: None,
                        }),
                        mismatch_label_keys: Some(vec!["revision".into()]),
                        ..PodAffinityTerm::default()
                    },
                    PodAffinityTerm::default(),
                ]),
                ..PodAntiAffinity::default()
            }),
            ..Placement::default()
        };
        let compiled = Constraints::compile(&placement, "ns", &mk_labels("a"));
        let [wide, own] = compiled.anti_required.as_slice() else {
            panic!("two terms")
        };
        let team = |team: &str| Labels::from(&BTreeMap::from([("team".to_owned(), team.to_owned())]));
        assert!(wide.group.looks_into("other", Some(&team("red"))));
        assert!(!wide.group.looks_into("ns", Some(&team("blue"))) && !wide.group.looks_into("ns", None));
        assert!(wide.group.selector.matches(&mk_labels("b")) && !wide.group.selector.matches(&mk_labels("a")));
        assert_eq!(own.group.only_namespace(), Some("ns"));
        assert!(
            !own.group.selector.matches(&mk_labels("a")),
            "no selector selects nothing"
        );
    }

    #[test]
    fn tolerations_compare_key_value_and_effect() {
        let taint = Taint {
            key: "a".into(),
            value: Some("1".into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let tolerates = |key: &str, exists: bool, value: &str, effect: &str| {
            let toleration = Toleration {
                key: key.into(),
                exists,
                value: value.into(),
                effect: effect.into(),
            };
            toleration.tolerates(&taint)
        };
        assert!(tolerates("a", false, "1", ""));
        assert!(!tolerates("a", false, "2", ""));
        assert!(tolerates("a", true, "", ""));
        assert!(tolerates("", true, "", ""));
        assert!(!tolerates("", false, "1", ""));
        assert!(!tolerates("a", true, "", "NoExecute"));
    }
}
