//! Topology spread constraints, as kube-scheduler's PodTopologySpread plugin counts them.
//!
//! Cordoned and tainted nodes are domains too (`nodeTaintsPolicy: Ignore` is the default): a full spread over six nodes stays a spread over six
//! when two of them are cordoned, and pods then wait rather than pile up. Nodes that the pod's own affinity leaves out are none.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::ResourceExt;

use super::{
    affinity::{node_fits, selects, tolerates},
    snapshot::{NodeState, Snapshot},
};

/// A constraint with its domains counted.
struct Counted {
    constraint: TopologySpreadConstraint,
    domains: HashMap<String, u64>,
    lowest: u64,
    itself: u64,
}

/// All constraints of a pod, counted once for all nodes.
pub struct Spread {
    hard: Vec<Counted>,
    soft: Vec<Counted>,
}

/// Why a node breaks a spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The node has no such topology label.
    NoLabel,
    /// Too many are there already.
    Skew,
}

impl Spread {
    /// Counts.
    pub fn of(pod: &Pod, spec: &PodSpec, snapshot: &Snapshot) -> Self {
        let all = spec.topology_spread_constraints.as_deref().unwrap_or_default();
        let (hard, soft): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|constraint| constraint.when_unsatisfiable == "DoNotSchedule");
        let count = |constraints: &[&TopologySpreadConstraint]| {
            let keys: Vec<&str> = constraints
                .iter()
                .map(|constraint| constraint.topology_key.as_str())
                .collect();
            constraints
                .iter()
                .map(|constraint| Counted::of(constraint, pod, spec, snapshot, &keys))
                .collect()
        };
        Self {
            hard: count(&hard),
            soft: count(&soft),
        }
    }

    /// Whether a node would break a hard constraint.
    pub fn breach(&self, node: &NodeState) -> Option<Breach> {
        self.hard.iter().find_map(|counted| {
            let Some(domain) = node.labels().get(&counted.constraint.topology_key) else {
                return Some(Breach::NoLabel);
            };
            let here = counted.domains.get(domain).copied().unwrap_or(0);
            let skew = here.saturating_add(counted.itself).saturating_sub(counted.lowest);
            let max = u64::try_from(counted.constraint.max_skew).unwrap_or(1);
            (skew > max).then_some(Breach::Skew)
        })
    }

    /// How many are in the node's domains of the soft constraints: fewer is better. Narrow domains weigh more.
    pub fn crowd(&self, node: &NodeState) -> f64 {
        self.soft
            .iter()
            .map(|counted| {
                let here = node
                    .labels()
                    .get(&counted.constraint.topology_key)
                    .and_then(|domain| counted.domains.get(domain));
                let weight = f64::from(
                    u32::try_from(counted.domains.len())
                        .unwrap_or(u32::MAX)
                        .saturating_add(2),
                )
                .ln();
                f64::from(u32::try_from(here.copied().unwrap_or(0)).unwrap_or(u32::MAX)) * weight
            })
            .sum()
    }
}

impl Counted {
    fn of(
        constraint: &TopologySpreadConstraint,
        pod: &Pod,
        spec: &PodSpec,
        snapshot: &Snapshot,
        keys: &[&str],
    ) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let selector = with_keys(constraint, &labels);
        let mut domains: HashMap<String, u64> = HashMap::new();
        for (name, node) in snapshot.nodes() {
            let complete = keys.iter().all(|key| node.labels().contains_key(*key));
            let Some(domain) = node.labels().get(&constraint.topology_key).filter(|_| complete) else {
                continue;
            };
            if !eligible(constraint, spec, name, node) {
                continue;
            }
            let here = node.pods.iter().filter(|(key, pod)| {
                key.namespace == namespace && !pod.terminating && selects(selector.as_ref(), &pod.labels)
            });
            *domains.entry(domain.clone()).or_default() += u64::try_from(here.count()).unwrap_or(u64::MAX);
        }
        let enough = u64::try_from(domains.len()).unwrap_or(u64::MAX)
            >= constraint
                .min_domains
                .and_then(|least| u64::try_from(least).ok())
                .unwrap_or(1);
        let lowest = if enough {
            domains.values().min().copied().unwrap_or(0)
        } else {
            0
        };
        let itself = u64::from(selects(selector.as_ref(), &labels));
        Self {
            constraint: constraint.clone(),
            domains,
            lowest,
            itself,
        }
    }
}

fn eligible(constraint: &TopologySpreadConstraint, spec: &PodSpec, name: &str, node: &NodeState) -> bool {
    let affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    (!affinity || node_fits(spec, name, node))
        && (!taints
            || node
                .taints()
                .iter()
                .filter(|taint| taint.effect != "PreferNoSchedule")
                .all(|taint| tolerates(tolerations, taint)))
}

/// The constraint's selector with the values of its `matchLabelKeys` from the pod.
fn with_keys(constraint: &TopologySpreadConstraint, labels: &BTreeMap<String, String>) -> Option<LabelSelector> {
    let mut selector = constraint.label_selector.clone()?;
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.get(key) {
            selector
                .match_labels
                .get_or_insert_default()
                .insert(key.clone(), value.clone());
        }
    }
    Some(selector)
}
