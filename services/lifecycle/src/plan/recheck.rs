//! Decisions that cannot be undone, made again on what was just read.
//!
//! A plan from the indexes is a proposal: a watch may be behind. Before a pool's machines, a Node or a load balancer go, the objects are
//! read and these say whether the proposal still stands. For machines, their own plan does.

use k8s_openapi::api::core::v1::{Node, Service};
use kube::ResourceExt;
use steading_infra::crd::MachinePool;

use super::{
    load_balancer::{Claim, claim_of},
    node::provider_id,
};

/// Whether a tenant's Node is the one that this machine joined as, and not another computer's of the same name. One that no cloud
/// provider has filled in yet is.
pub fn is_node_of(node: &Node, machine: &str) -> bool {
    let id = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
    id.is_none_or(|id| id.is_empty() || id == provider_id(machine))
}

/// Whether a pool as it was just read wants what the known one does.
pub fn is_same_wish(known: &MachinePool, read: &MachinePool) -> bool {
    known.uid() == read.uid()
        && known.metadata.generation == read.metadata.generation
        && read.metadata.deletion_timestamp.is_none()
}

/// Whether no load balancer is wanted for a tenant's Service as it was just read; `None` if there is none.
pub fn is_unclaimed(service: Option<&Service>) -> bool {
    service.is_none_or(|service| matches!(claim_of(service), Claim::NotOurs))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::NodeSpec;

    use super::*;

    fn mk_node(provider_id: Option<&str>) -> Node {
        Node {
            spec: Some(NodeSpec {
                provider_id: provider_id.map(str::to_owned),
                ..NodeSpec::default()
            }),
            ..Node::default()
        }
    }

    #[test]
    fn a_node_of_another_computer_is_not_the_machines() {
        assert!(is_node_of(&mk_node(Some("kubevirt://w-1")), "w-1"));
        assert!(is_node_of(&mk_node(None), "w-1"), "it joined a moment ago");
        assert!(!is_node_of(&mk_node(Some("kubevirt://w-2")), "w-1"));
        assert!(!is_node_of(&mk_node(Some("aws:///eu-1/i-1")), "w-1"));
    }
}
