//! Filtering: the reasons for which a node cannot take a workload.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use steading_model::ids::Id;

use crate::{
    domain::Constraints,
    observe::{ObservedNode, Readiness, node::cordon},
    solve::problem::{Class, NodeOrd, NodeView, failing_requirement},
};

/// A reason for which a node can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Predicate {
    /// The node is ready.
    Ready,
    /// The node is not cordoned.
    NotCordoned,
    /// KubeVirt runs machines on it.
    Virtualization,
    /// Its taints are tolerated.
    Taints,
    /// It has the labels of the node selector.
    NodeSelector,
    /// It fulfils the required node affinity.
    NodeAffinity,
    /// Enough is left.
    Resources,
    /// It reaches the machine's volumes.
    Volumes,
    /// Strict spread constraints stay within their skew.
    TopologySpread,
    /// Pods that are sought are in its domain.
    PodAffinity,
    /// No machine that is to be avoided is in its domain.
    PodAntiAffinity,
}

impl Predicate {
    /// All of them, in the order in which kube-scheduler judges, after what Steading itself demands: the first that fails is
    /// what a reader should know first.
    pub const ALL: [Self; 11] = [
        Self::Ready,
        Self::NotCordoned,
        Self::Virtualization,
        Self::Taints,
        Self::NodeSelector,
        Self::NodeAffinity,
        Self::Resources,
        Self::Volumes,
        Self::TopologySpread,
        Self::PodAffinity,
        Self::PodAntiAffinity,
    ];

    /// What is the case if it does not hold, after a number of nodes.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Ready => "not ready",
            Self::NotCordoned => "cordoned",
            Self::Virtualization => "without virtualization",
            Self::Taints => "with untolerated taints",
            Self::NodeSelector => "not matching the node selector",
            Self::NodeAffinity => "not matching the node affinity",
            Self::Resources => "without enough resources",
            Self::Volumes => "not reaching the volumes",
            Self::TopologySpread => "exceeding the spread constraints",
            Self::PodAffinity => "without the pods that are sought",
            Self::PodAntiAffinity => "excluded by anti-affinity",
        }
    }
}

/// Why a node was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The predicate that does not hold.
    pub predicate: Predicate,
    /// Why, with the values compared.
    pub message: String,
}

/// The refusals of all nodes, in order of the nodes.
pub type Refusals = Arc<[(NodeOrd, Refusal)]>;

/// For whom reasons are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience<'a> {
    /// Who runs the infra cluster: every machine may be named.
    Operator,
    /// A project: only its own machines may be named.
    Project(&'a Id),
}

/// The first predicate that refuses the node and that no placement changes; `None` if there is none.
pub fn fixed_refusal(view: &NodeView, class: &Class) -> Option<Predicate> {
    let always = [
        Predicate::Ready,
        Predicate::NotCordoned,
        Predicate::Virtualization,
        Predicate::Taints,
        Predicate::NodeSelector,
        Predicate::NodeAffinity,
    ];
    always.into_iter().find(|predicate| !holds(view, class, *predicate))
}

/// Whether a predicate holds, for predicates that only look at the node.
pub fn holds(view: &NodeView, class: &Class, predicate: Predicate) -> bool {
    let (node, constraints) = (&view.node, &*class.workload.constraints);
    match predicate {
        Predicate::Ready => node.readiness == Readiness::Ready,
        Predicate::NotCordoned => !view.closed && (!node.cordoned || constraints.tolerates(&cordon())),
        Predicate::Virtualization => node.virtualization,
        Predicate::Taints => untolerated(node, constraints).is_none(),
        Predicate::NodeSelector => unmet_label(node, constraints).is_none(),
        Predicate::NodeAffinity => unmet_affinity(node, constraints).is_none(),
        Predicate::Volumes => unreachable_volume(node, class).is_none(),
        Predicate::Resources | Predicate::TopologySpread | Predicate::PodAffinity | Predicate::PodAntiAffinity => true,
    }
}

/// The first taint that keeps pods away and is not tolerated.
pub fn untolerated<'a>(node: &'a ObservedNode, constraints: &Constraints) -> Option<&'a Taint> {
    node.taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !constraints.tolerates(taint))
}

/// Whether the node selector and the required node affinity take a node.
pub fn selected(node: &ObservedNode, constraints: &Constraints) -> bool {
    unmet_label(node, constraints).is_none() && unmet_affinity(node, constraints).is_none()
}

pub(super) fn unmet_label(node: &ObservedNode, constraints: &Constraints) -> Option<String> {
    let (key, value) = constraints
        .node_selector
        .iter()
        .find(|(key, value)| !node.labels.has(key, value))?;
    Some(match node.labels.get(key) {
        Some(other) => format!("label {key} must be {value}, is {other}"),
        None => format!("label {key} must be {value}, is absent"),
    })
}

pub(super) fn unmet_affinity(node: &ObservedNode, constraints: &Constraints) -> Option<String> {
    let terms = constraints.node_required.as_ref()?;
    let mut reasons = Vec::new();
    for term in terms {
        reasons.push(failing_requirement(node, term)?);
    }
    Some(if reasons.is_empty() {
        "no term of the node affinity can match".into()
    } else {
        reasons.join("; ")
    })
}

/// A volume binds by its node affinity, and by its zone labels on nodes that have any.
pub(super) fn unreachable_volume(node: &ObservedNode, class: &Class) -> Option<String> {
    for volume in &class.volumes {
        let terms = &volume.reachable_from;
        if !terms.is_empty() && terms.iter().all(|term| failing_requirement(node, term).is_some()) {
            return Some(format!("volume {} cannot be reached from the node", volume.name));
        }
        let labelled = volume.zones.iter().any(|zone| node.labels.get(&zone.key).is_some());
        let elsewhere = volume
            .zones
            .iter()
            .find(|zone| !zone.met_by(node.labels.get(&zone.key).map(AsRef::as_ref)));
        if let Some(zone) = elsewhere.filter(|_| labelled) {
            return Some(format!(
                "volume {} is in {} {}",
                volume.name,
                zone.key,
                zone.values.join(", ")
            ));
        }
    }
    None
}
