//! Where a pod goes: filters, then scores. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{
    affinity::{Clash, Neighbours, node_fits, node_preference, tolerates},
    snapshot::{Amounts, NodeState, Snapshot, requests},
    spread::{Breach, Spread},
};

/// What speaks against a node, in the words of the pod's condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Against {
    reasons: Vec<String>,
    /// Whether the node could do if other pods were not there.
    others: bool,
}

impl Against {
    /// Whatever other pods do, the node does not do.
    fn always(reason: &str) -> Self {
        Self {
            reasons: vec![reason.to_owned()],
            others: false,
        }
    }

    /// Other pods are in the way.
    fn for_others(reason: &str) -> Self {
        Self {
            reasons: vec![reason.to_owned()],
            others: true,
        }
    }
}

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Place(String),
    /// Nowhere; the message is that of the pod's PodScheduled condition.
    Unschedulable(String),
}

/// Decides for one pod.
pub fn decide(pod: &Pod, snapshot: &Snapshot) -> Decision {
    let spec = pod.spec.clone().unwrap_or_default();
    let look = Look {
        wants: requests(&spec),
        neighbours: Neighbours::of(pod, &spec, snapshot),
        spread: Spread::of(pod, &spec, snapshot),
        spec,
    };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fits = Vec::new();
    let (mut total, mut crowded) = (0_usize, 0_usize);
    for (name, node) in snapshot.nodes() {
        total += 1;
        let against = look.against(name, node);
        if against.reasons.is_empty() {
            fits.push((name, node));
        }
        crowded += usize::from(against.others);
        for reason in against.reasons {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    match look.best(&fits) {
        Some(name) => Decision::Place(name.to_owned()),
        None => Decision::Unschedulable(message(total, crowded, &reasons)),
    }
}

/// `crowded` of all nodes could do but for other pods; all pods are of one priority here, so that none gives way.
fn message(total: usize, crowded: usize, reasons: &BTreeMap<String, usize>) -> String {
    if total == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut parts: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort();
    let kinds = [
        (crowded, "No preemption victims found for incoming pod"),
        (total - crowded, "Preemption is not helpful for scheduling"),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    format!(
        "0/{total} nodes are available: {}. preemption: 0/{total} nodes are available: {}.",
        parts.join(", "),
        kinds.join(", ")
    )
}

struct Look {
    spec: PodSpec,
    wants: Amounts,
    neighbours: Neighbours,
    spread: Spread,
}

impl Look {
    /// What speaks against a node: the first filter that refuses, in kube-scheduler's order.
    fn against(&self, name: &str, node: &NodeState) -> Against {
        let tolerations = self.spec.tolerations.as_deref().unwrap_or_default();
        if node.is_cordoned() && !tolerates(tolerations, &cordon()) {
            return Against::always("node(s) were unschedulable");
        }
        let mut hard = node
            .taints()
            .iter()
            .filter(|taint| taint.effect != "PreferNoSchedule" && taint.key != CORDON);
        if hard.any(|taint| !tolerates(tolerations, taint)) {
            return Against::always("node(s) had untolerated taint(s)");
        }
        if !node_fits(&self.spec, name, node) {
            return Against::always("node(s) didn't match Pod's node affinity/selector");
        }
        let short = self.short(node);
        if !short.reasons.is_empty() {
            return short;
        }
        match self.spread.breach(node) {
            Some(Breach::NoLabel) => {
                return Against::always(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                );
            }
            Some(Breach::Skew) => return Against::for_others("node(s) didn't match pod topology spread constraints"),
            None => {}
        }
        match self.neighbours.clash(node) {
            Some(Clash::Affinity) => Against::always("node(s) didn't match pod affinity rules"),
            Some(Clash::AntiAffinity) => Against::for_others("node(s) didn't match pod anti-affinity rules"),
            Some(Clash::Existing) => Against::for_others("node(s) didn't satisfy existing pods anti-affinity rules"),
            None => Against::default(),
        }
    }

    /// The resources of which a node has too little.
    fn short(&self, node: &NodeState) -> Against {
        let has = |name: &str| node.allocatable.get(name).copied().unwrap_or(0);
        let free = |name: &str| has(name).saturating_sub(node.requested.get(name).copied().unwrap_or(0));
        let counts = |name: &str| name != "pods" || node.allocatable.contains_key("pods");
        let lacking = self
            .wants
            .iter()
            .filter(|(name, wanted)| **wanted > free(name) && counts(name));
        let mut short = Against::default();
        let mut hopeless = false;
        for (name, wanted) in lacking {
            hopeless |= *wanted > has(name);
            short.reasons.push(if name == "pods" {
                "Too many pods".to_owned()
            } else {
                format!("Insufficient {name}")
            });
        }
        short.others = !short.reasons.is_empty() && !hopeless;
        short
    }

    /// The best of the nodes that fit; among equals the first by name.
    fn best<'a>(&self, fits: &[(&'a str, &NodeState)]) -> Option<&'a str> {
        let crowds: Vec<f64> = fits.iter().map(|(_, node)| self.spread.crowd(node)).collect();
        let tastes: Vec<f64> = fits
            .iter()
            .map(|(name, node)| small(node_preference(&self.spec, name, node)))
            .collect();
        let company: Vec<f64> = fits
            .iter()
            .map(|(_, node)| small(self.neighbours.preference(node)))
            .collect();
        let taints: Vec<f64> = fits.iter().map(|(_, node)| self.soft_taints(node)).collect();
        // kube-scheduler's default weights.
        let (crowds, tastes, company, taints) = (scaled(&crowds), scaled(&tastes), scaled(&company), scaled(&taints));
        let scored = fits.iter().enumerate().map(|(index, (name, node))| {
            let at = |list: &[f64]| list.get(index).copied().unwrap_or(0.0);
            let score = 2.0 * (100.0 - at(&crowds))
                + 2.0 * at(&tastes)
                + 2.0 * at(&company)
                + 3.0 * (100.0 - at(&taints))
                + self.room(node);
            (score, *name)
        });
        scored
            .fold(None, |best: Option<(f64, &str)>, next| match best {
                Some(best) if best.0 >= next.0 => Some(best),
                _ => Some(next),
            })
            .map(|(_, name)| name)
    }

    fn soft_taints(&self, node: &NodeState) -> f64 {
        let tolerations = self.spec.tolerations.as_deref().unwrap_or_default();
        let count = node
            .taints()
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(tolerations, taint))
            .count();
        f64::from(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Share of CPU and memory that stays free, in per cent.
    fn room(&self, node: &NodeState) -> f64 {
        let share = |name: &str| {
            let has = node.allocatable.get(name).copied().unwrap_or(0);
            let used = node.requested.get(name).copied().unwrap_or(0) + self.wants.get(name).copied().unwrap_or(0);
            if has == 0 {
                0.0
            } else {
                100.0 - 100.0 * small_ratio(used.min(has), has)
            }
        };
        f64::midpoint(share("cpu"), share("memory"))
    }
}

const CORDON: &str = "node.kubernetes.io/unschedulable";

fn cordon() -> k8s_openapi::api::core::v1::Taint {
    k8s_openapi::api::core::v1::Taint {
        key: CORDON.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    }
}

/// Values stretched to 0–100; all equal is all 0.
fn scaled(values: &[f64]) -> Vec<f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values
        .iter()
        .map(|value| {
            if high > low {
                100.0 * (value - low) / (high - low)
            } else {
                0.0
            }
        })
        .collect()
}

fn small(value: i64) -> f64 {
    f64::from(i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX }))
}

/// Their quotient, exact enough for a score.
#[allow(clippy::cast_precision_loss, reason = "a score needs no more than 52 bits")]
fn small_ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
