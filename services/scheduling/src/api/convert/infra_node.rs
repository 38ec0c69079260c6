//! Infra nodes: Node and what runs on it → message.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;
use steading_api::{
    convert,
    scheduling::v1::{self as proto, infra_node::State},
    types::v1::{Condition, ConditionStatus},
};
use steading_infra::labels;
use steading_model::quantity::Quantity;
use steading_runtime::standard::time;

use super::placement::taint_effect;
use crate::{
    domain::Amounts,
    observe::{ObservedNode, Readiness},
};

/// What runs on a node, as the view has it.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// What pods on it have requested.
    pub allocated: Amounts,
    /// Names of the machines on it.
    pub machines: BTreeSet<String>,
    /// Machines on it that KubeVirt has marked for evacuation.
    pub evacuating: usize,
    /// Why this may be old; empty if it is fresh.
    pub warnings: Vec<String>,
}

/// A node as a message.
pub fn infra_node(node: &Node, seen: &ObservedNode, load: &Load) -> Option<proto::InfraNode> {
    let meta = &node.metadata;
    let name = meta.name.as_deref()?;
    let status = node.status.clone().unwrap_or_default();
    let info = status.node_info.unwrap_or_default();
    let node_labels = meta.labels.clone().unwrap_or_default();
    let addresses = status
        .addresses
        .iter()
        .flatten()
        .filter(|a| a.type_ == "InternalIP")
        .map(|a| a.address.clone());
    let state = match (meta.deletion_timestamp.is_some(), seen.readiness, seen.cordoned) {
        (true, _, _) => State::Deleting,
        (_, Readiness::NotReady, _) => State::NotReady,
        (_, Readiness::Unknown, _) => State::Unknown,
        (_, Readiness::Ready, true) => State::Cordoned,
        (_, Readiness::Ready, false) => State::Ready,
    };
    let taint = |t: &k8s_openapi::api::core::v1::Taint| proto::Taint {
        key: t.key.clone(),
        value: t.value.clone().unwrap_or_default(),
        effect: taint_effect(&t.effect).into(),
    };
    Some(proto::InfraNode {
        name: format!("infraNodes/{name}"),
        uid: meta.uid.clone().unwrap_or_default(),
        etag: meta.resource_version.clone().unwrap_or_default(),
        create_time: time(meta.creation_timestamp.as_ref()),
        update_time: None,
        delete_time: time(meta.deletion_timestamp.as_ref()),
        annotations: meta.annotations.clone().unwrap_or_default().into_iter().collect(),
        state: state.into(),
        conditions: status
            .conditions
            .iter()
            .flatten()
            .map(condition)
            .chain(stale(&load.warnings))
            .collect(),
        reconciling: false,
        zone: seen.zone().to_owned(),
        region: node_labels.get(labels::REGION).cloned().unwrap_or_default(),
        labels: node_labels.into_iter().collect(),
        allocatable: Some(resources(&seen.allocatable)),
        allocated: Some(resources(&load.allocated)),
        schedulable: seen.schedulable(),
        taints: node
            .spec
            .iter()
            .flat_map(|s| s.taints.iter().flatten())
            .map(taint)
            .collect(),
        machine_count: i32::try_from(load.machines.len()).unwrap_or(i32::MAX),
        machines: load.machines.iter().cloned().collect(),
        evacuating_machine_count: i32::try_from(load.evacuating).unwrap_or(i32::MAX),
        addresses: addresses.collect(),
        architecture: info.architecture,
        kubelet_version: info.kubelet_version,
        kernel_version: info.kernel_version,
        os_image: info.os_image,
    })
}

/// Amounts as quantities.
pub fn resources(amounts: &Amounts) -> proto::NodeResources {
    let unsigned = |n: i64| u64::try_from(n).unwrap_or_default();
    proto::NodeResources {
        cpu: Quantity::from_millis(unsigned(amounts.cpu_millis)).to_string(),
        memory: Quantity::from_bytes(unsigned(amounts.memory)).to_string(),
        pods: amounts.pods,
        extended: amounts
            .extended
            .iter()
            .map(|(name, n)| (name.to_string(), n.to_string()))
            .collect(),
    }
}

/// Says that what runs on the node may have changed meanwhile. A node about which all is fresh has no such condition.
fn stale(warnings: &[String]) -> Option<Condition> {
    (!warnings.is_empty()).then(|| Condition {
        r#type: "LoadCurrent".into(),
        status: ConditionStatus::Unknown.into(),
        reason: "StaleView".into(),
        message: warnings.join("; "),
        ..Condition::default()
    })
}

fn condition(condition: &k8s_openapi::api::core::v1::NodeCondition) -> Condition {
    let status = match condition.status.as_str() {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    Condition {
        r#type: condition.type_.clone(),
        status: status.into(),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        last_transition_time: condition.last_transition_time.as_ref().map(|t| convert::timestamp(t.0)),
        observed_generation: 0,
    }
}
