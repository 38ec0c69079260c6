//! Whether new pods are kept off an infra node, and who keeps them off.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use steading_infra::labels;

use crate::plan::maintenance::ObservedNode;

/// The cordon of an infra node.
/// Whether and for whom an infra node is cordoned.
pub fn observe_cordon(node: &Node) -> ObservedNode {
    ObservedNode {
        cordoned: node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false),
        cordoned_by: node.annotations().get(labels::CORDONED_BY).cloned(),
    }
}
