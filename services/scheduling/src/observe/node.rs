//! Nodes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use steading_infra::labels;

use crate::domain::{Amounts, interner::Interner, selector::Labels};

/// What the kubelet says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It is ready.
    Ready,
    /// It is not.
    NotReady,
    /// It has not been heard of for too long.
    Unknown,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedNode {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its taints, without the one that says that it is cordoned.
    pub taints: Vec<Taint>,
    /// Whether it takes no new pods.
    pub cordoned: bool,
    /// What its kubelet says.
    pub readiness: Readiness,
    /// Whether KubeVirt runs machines on it.
    pub virtualization: bool,
    /// What pods may use.
    pub allocatable: Amounts,
}

impl ObservedNode {
    /// Projects a node.
    pub fn of(node: &Node, interner: &mut Interner) -> Self {
        let spec = node.spec.as_ref();
        let node_labels = node
            .metadata
            .labels
            .as_ref()
            .map(|l| Labels::new(l, |t| interner.text(t)))
            .unwrap_or_default();
        let taints = spec.and_then(|s| s.taints.clone()).unwrap_or_default();
        Self {
            name: interner.text(node.metadata.name.as_deref().unwrap_or_default()),
            virtualization: node_labels.has(labels::KUBEVIRT_SCHEDULABLE, "true"),
            labels: node_labels,
            // A cordoned node has a taint that says the same; saying it twice would hide the real reason.
            taints: taints.into_iter().filter(|t| t.key != CORDON).collect(),
            cordoned: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            readiness: readiness(node),
            allocatable: Amounts::from_list(node.status.as_ref().and_then(|s| s.allocatable.as_ref())),
        }
    }

    /// Its zone; empty if it has none.
    pub fn zone(&self) -> &str {
        self.labels.get(labels::ZONE).map_or("", AsRef::as_ref)
    }

    /// Whether new machines may be placed on it at all.
    pub fn schedulable(&self) -> bool {
        self.readiness == Readiness::Ready && !self.cordoned && self.virtualization
    }
}

/// Key of the taint of a cordoned node.
pub const CORDON: &str = "node.kubernetes.io/unschedulable";

/// The taint of a cordoned node: who tolerates it may run there.
pub fn cordon() -> Taint {
    Taint {
        key: CORDON.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    }
}

/// What the kubelet of a node says.
pub fn readiness(node: &Node) -> Readiness {
    let mut conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    match conditions.find(|c| c.type_ == "Ready").map(|c| c.status.as_str()) {
        Some("True") => Readiness::Ready,
        Some("False") => Readiness::NotReady,
        _ => Readiness::Unknown,
    }
}
