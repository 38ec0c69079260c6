//! A resolved placement: the part of a pod's spec that decides where it may run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeAffinity, PodAffinity, PodAntiAffinity, PodSpec, Toleration, TopologySpreadConstraint,
};

/// Constraints on where a machine may run, in the types of the Kubernetes API.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// Rules on the labels of infra nodes.
    pub node_affinity: Option<NodeAffinity>,
    /// How machines spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Pods that a pod wants to be near. Policies have none.
    pub pod_affinity: Option<PodAffinity>,
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
            pod_affinity: affinity.and_then(|a| a.pod_affinity.clone()),
            pod_anti_affinity: affinity.and_then(|a| a.pod_anti_affinity.clone()),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
        }
    }
}
