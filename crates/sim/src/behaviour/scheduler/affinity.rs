//! Selectors, node affinity, and affinity between pods.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, Taint, Toleration},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::ResourceExt;

use super::snapshot::{NodeState, Snapshot};

type Labels = BTreeMap<String, String>;

/// Whether a label selector takes these labels. A missing selector takes nothing, an empty one everything.
pub fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let exact = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            meets(&requirement.operator, values, labels.get(&requirement.key))
        })
}

/// Whether a value (`None`: there is none) meets a requirement.
fn meets(operator: &str, values: &[String], found: Option<&String>) -> bool {
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match operator {
        "In" => found.is_some_and(|found| values.contains(found)),
        "NotIn" => found.is_none_or(|found| !values.contains(found)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => number(found)
            .zip(number(values.first()))
            .is_some_and(|(found, bound)| found > bound),
        "Lt" => number(found)
            .zip(number(values.first()))
            .is_some_and(|(found, bound)| found < bound),
        _ => false,
    }
}

fn all_met(requirements: Option<&Vec<NodeSelectorRequirement>>, of: impl Fn(&str) -> Option<String>) -> bool {
    requirements.into_iter().flatten().all(|requirement| {
        let values = requirement.values.as_deref().unwrap_or_default();
        meets(&requirement.operator, values, of(&requirement.key).as_ref())
    })
}

/// Whether a term takes a node. A term without requirements takes none.
pub fn term_takes(term: &NodeSelectorTerm, name: &str, node: &NodeState) -> bool {
    let expressions = term.match_expressions.as_ref().filter(|list| !list.is_empty());
    let fields = term.match_fields.as_ref().filter(|list| !list.is_empty());
    (expressions.is_some() || fields.is_some())
        && all_met(expressions, |key| node.labels().get(key).cloned())
        && all_met(fields, |key| (key == "metadata.name").then(|| name.to_owned()))
}

/// Whether the pod's node selector and required node affinity take a node.
pub fn node_fits(spec: &PodSpec, name: &str, node: &NodeState) -> bool {
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| node.labels().get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required.is_none_or(|required| {
            required
                .node_selector_terms
                .iter()
                .any(|term| term_takes(term, name, node))
        })
}

/// Sum of the weights of the preferred node affinity terms that take a node.
pub fn node_preference(spec: &PodSpec, name: &str, node: &NodeState) -> i64 {
    let preferred = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    preferred
        .into_iter()
        .flatten()
        .filter(|term| term_takes(&term.preference, name, node))
        .map(|term| i64::from(term.weight))
        .sum()
}

/// Whether one of the tolerations tolerates a taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let exists = toleration.operator.as_deref() == Some("Exists");
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && exists))
            && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
    })
}

/// Domains of a topology key with the number of pods in each that a term takes.
fn term_counts(term: &PodAffinityTerm, own_namespace: &str, snapshot: &Snapshot) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for (_, node) in snapshot.nodes() {
        let Some(domain) = node.labels().get(&term.topology_key) else {
            continue;
        };
        let here = node.pods.iter().filter(|(key, pod)| {
            in_namespaces(term, own_namespace, &key.namespace, snapshot)
                && selects(term.label_selector.as_ref(), &pod.labels)
        });
        *counts.entry(domain.clone()).or_default() += u64::try_from(here.count()).unwrap_or(u64::MAX);
    }
    counts
}

/// Whether a term looks into a namespace: its own where it names and selects none.
fn in_namespaces(term: &PodAffinityTerm, own: &str, namespace: &str, snapshot: &Snapshot) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let Some(selector) = &term.namespace_selector else {
        return if named.is_empty() {
            namespace == own
        } else {
            named.iter().any(|name| name == namespace)
        };
    };
    named.iter().any(|name| name == namespace)
        || is_empty(selector)
        || snapshot
            .namespace(namespace)
            .is_some_and(|labels| selects(Some(selector), labels))
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether a pod's affinity to other pods selects namespaces by their labels.
pub fn selects_namespaces(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = [
        near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref()),
        far.and_then(|far| far.required_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = [
        near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref()),
        far.and_then(|far| far.preferred_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = preferred.into_iter().flatten().flatten();
    let mut terms = required
        .into_iter()
        .flatten()
        .flatten()
        .chain(preferred.map(|term| &term.pod_affinity_term));
    terms.any(|term| {
        term.namespace_selector
            .as_ref()
            .is_some_and(|selector| !is_empty(selector))
    })
}

/// Why a pod must not stand beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// A pod it wants near is not.
    Affinity,
    /// A pod it does not want near is.
    AntiAffinity,
    /// A pod there does not want it near.
    Existing,
}

/// What the pod's required affinity to other pods says, counted once for all nodes.
pub struct Neighbours {
    affinity: Vec<(PodAffinityTerm, HashMap<String, u64>, bool)>,
    anti_affinity: Vec<(PodAffinityTerm, HashMap<String, u64>)>,
    /// Topology key and value of domains whose pods do not want this one.
    repelled: Vec<(String, String)>,
    preferred: Vec<(PodAffinityTerm, HashMap<String, u64>, i64)>,
}

impl Neighbours {
    /// Counts.
    pub fn of(pod: &Pod, spec: &PodSpec, snapshot: &Snapshot) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let near = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.pod_affinity.as_ref());
        let far = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let required_near = near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref());
        let required_far = far.and_then(|far| far.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred_near = near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref());
        let preferred_far = far.and_then(|far| far.preferred_during_scheduling_ignored_during_execution.as_ref());
        let count = |term: &PodAffinityTerm| term_counts(term, &namespace, snapshot);
        let weighted = preferred_near
            .into_iter()
            .flatten()
            .map(|term| (term, i64::from(term.weight)))
            .chain(
                preferred_far
                    .into_iter()
                    .flatten()
                    .map(|term| (term, -i64::from(term.weight))),
            );
        Self {
            affinity: required_near
                .into_iter()
                .flatten()
                .map(|term| {
                    (
                        term.clone(),
                        count(term),
                        selects(term.label_selector.as_ref(), &labels),
                    )
                })
                .collect(),
            anti_affinity: required_far
                .into_iter()
                .flatten()
                .map(|term| (term.clone(), count(term)))
                .collect(),
            repelled: repelled(&namespace, &labels, snapshot),
            preferred: weighted
                .map(|(term, weight)| (term.pod_affinity_term.clone(), count(&term.pod_affinity_term), weight))
                .collect(),
        }
    }

    /// Why the pod must not go to a node, if so.
    pub fn clash(&self, node: &NodeState) -> Option<Clash> {
        let count = |term: &PodAffinityTerm, counts: &HashMap<String, u64>| {
            node.labels()
                .get(&term.topology_key)
                .map(|domain| counts.get(domain).copied().unwrap_or(0))
        };
        for (term, counts, takes_itself) in &self.affinity {
            // The first of a group that wants to be together may go anywhere.
            let first = *takes_itself && counts.values().all(|count| *count == 0);
            match count(term, counts) {
                None => return Some(Clash::Affinity),
                Some(0) if !first => return Some(Clash::Affinity),
                Some(_) => {}
            }
        }
        if self
            .anti_affinity
            .iter()
            .any(|(term, counts)| count(term, counts).unwrap_or(0) > 0)
        {
            return Some(Clash::AntiAffinity);
        }
        let repelled = self
            .repelled
            .iter()
            .any(|(key, value)| node.labels().get(key) == Some(value));
        repelled.then_some(Clash::Existing)
    }

    /// Sum of the weights of the preferred terms at a node.
    pub fn preference(&self, node: &NodeState) -> i64 {
        self.preferred
            .iter()
            .map(|(term, counts, weight)| {
                let count = node
                    .labels()
                    .get(&term.topology_key)
                    .and_then(|domain| counts.get(domain))
                    .copied()
                    .unwrap_or(0);
                weight.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX))
            })
            .sum()
    }
}

fn repelled(namespace: &str, labels: &Labels, snapshot: &Snapshot) -> Vec<(String, String)> {
    let mut domains = Vec::new();
    for (_, node) in snapshot.nodes() {
        for (key, pod) in &node.pods {
            let far = pod
                .spec
                .affinity
                .as_ref()
                .and_then(|affinity| affinity.pod_anti_affinity.as_ref());
            let terms = far.and_then(|far| far.required_during_scheduling_ignored_during_execution.as_ref());
            for term in terms.into_iter().flatten() {
                if in_namespaces(term, &key.namespace, namespace, snapshot)
                    && selects(term.label_selector.as_ref(), labels)
                    && let Some(domain) = node.labels().get(&term.topology_key)
                {
                    domains.push((term.topology_key.clone(), domain.clone()));
                }
            }
        }
    }
    domains
}
