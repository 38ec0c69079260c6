//! What is kept of a tenant's objects: what the planners read, and no more.

use k8s_openapi::api::core::v1::{Node, NodeStatus, NodeSystemInfo, Service};
use kube::ResourceExt;

use crate::plan::load_balancer::CLEANUP_FINALIZER;

/// Nodes that are kept of one tenant: twice the largest pool.
pub const MAX_NODES: usize = 10_000;
/// Services that are kept of one tenant. Far above what one cluster needs in addresses; a cluster that wants more is told.
pub const MAX_SERVICES: usize = 2_000;
/// Annotations beyond this size are not read by anybody here.
const MAX_ANNOTATION: usize = 4096;

/// A node without images, runtime versions and heartbeats: a few hundred bytes instead of tens of thousands.
pub fn node(mut node: Node) -> Option<Node> {
    strip(&mut node);
    if let Some(status) = node.status.take() {
        let mut conditions = status.conditions.unwrap_or_default();
        for condition in &mut conditions {
            // Written every few minutes without saying anything new.
            condition.last_heartbeat_time = None;
            condition.message = None;
        }
        node.status = Some(NodeStatus {
            addresses: status.addresses,
            conditions: Some(conditions),
            node_info: status.node_info.map(|info| NodeSystemInfo {
                kubelet_version: info.kubelet_version,
                ..NodeSystemInfo::default()
            }),
            volumes_attached: status.volumes_attached,
            volumes_in_use: status.volumes_in_use,
            ..NodeStatus::default()
        });
    }
    Some(node)
}

/// A Service that is a load balancer or was one; no other is kept.
pub fn service(mut service: Service) -> Option<Service> {
    let is_balancer = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    let waits = service.finalizers().iter().any(|one| one == CLEANUP_FINALIZER);
    if !is_balancer && !waits {
        return None;
    }
    strip(&mut service);
    if let Some(spec) = service.spec.as_mut() {
        spec.selector = None;
    }
    Some(service)
}

fn strip<K: kube::Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    object.meta_mut().owner_references = None;
    object
        .annotations_mut()
        .retain(|_, value| value.len() <= MAX_ANNOTATION);
}

/// Whether two objects differ in more than their versions.
pub fn differs<K: kube::Resource + Clone + PartialEq>(before: &K, after: &K) -> bool {
    let (mut before, mut after) = (before.clone(), after.clone());
    for object in [&mut before, &mut after] {
        object.meta_mut().resource_version = None;
        object.meta_mut().generation = None;
    }
    before != after
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_node(heartbeat: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "w-1", "resourceVersion": heartbeat, "managedFields": [{"manager": "kubelet"}]},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": format!("2026-12-01T00:00:0{heartbeat}Z")}],
                "images": [{"names": ["registry.example.test/a"], "sizeBytes": 1}],
                "nodeInfo": {
                    "architecture": "amd64", "bootID": "b", "containerRuntimeVersion": "c", "kernelVersion": "k",
                    "kubeProxyVersion": "p", "kubeletVersion": "v1.36.0", "machineID": "m", "operatingSystem": "linux",
                    "osImage": "o", "systemUUID": "s"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_heartbeat_is_no_change() {
        let (before, after) = (node(mk_node("1")).unwrap(), node(mk_node("2")).unwrap());
        assert!(!differs(&before, &after));
        let status = before.status.unwrap();
        assert_eq!(status.node_info.unwrap().kubelet_version, "v1.36.0");
        assert!(status.images.is_none() && before.metadata.managed_fields.is_none());
    }

    #[test]
    fn a_service_that_is_no_load_balancer_is_not_kept() {
        let mk = |kind: &str, finalizers: &[&str]| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "s", "finalizers": finalizers}, "spec": {"type": kind}}))
                .unwrap()
        };
        assert!(service(mk("ClusterIP", &[])).is_none());
        assert!(service(mk("ClusterIP", &[CLEANUP_FINALIZER])).is_some());
        assert!(service(mk("LoadBalancer", &[])).is_some());
    }
}
