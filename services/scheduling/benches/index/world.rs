//! The infra cluster that the benchmark speaks of, as objects of the Kubernetes API.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

/// Zones of the world.
const ZONES: usize = 3;
/// Machines of one tenant cluster.
const PER_CLUSTER: usize = 10;

/// Nodes of 64 processors, spread over zones.
pub(crate) fn mk_nodes(count: usize) -> Vec<Node> {
    (0..count).map(|index| object(mk_node(index))).collect()
}

/// Launcher pods of machines: clusters of ten, one pool each, spread over hosts as the default policy says, and rather
/// not two of a cluster in one zone.
pub(crate) fn mk_machines(count: usize, nodes: usize) -> Vec<Pod> {
    (0..count)
        .map(|index| object(mk_machine(index, index * 7 % nodes)))
        .collect()
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

fn mk_node(index: usize) -> Value {
    let name = format!("infra-{index:04}");
    json!({
        "metadata": {"name": name, "uid": name, "resourceVersion": "1", "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("z{}", index % ZONES),
            "kubernetes.io/arch": "amd64", "kubevirt.io/schedulable": "true", "example.org/rack": format!("r{}", index / 20)}},
        "status": {
            "allocatable": {"cpu": "64", "memory": "512Gi", "pods": "250", "ephemeral-storage": "500Gi",
                "devices.kubevirt.io/kvm": "1k", "devices.kubevirt.io/tun": "1k", "devices.kubevirt.io/vhost-net": "1k"},
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// The launcher pod of one machine on one node.
pub(crate) fn mk_machine(index: usize, node: usize) -> Value {
    let (cluster, machine) = (index / PER_CLUSTER, format!("m{index}"));
    let mut labels = pool_labels(cluster);
    labels["kubevirt.io"] = json!("virt-launcher");
    labels["steading.dev/machine"] = json!(machine);
    labels["vm.kubevirt.io/name"] = json!(machine);
    labels["kubevirt.io/created-by"] = json!(format!("uid-{index}"));
    json!({
        "metadata": {"name": format!("virt-launcher-{machine}"), "namespace": namespace(cluster), "labels": labels, "resourceVersion": "1"},
        "spec": {
            "nodeName": format!("infra-{node:04}"),
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": pool_labels(cluster)}}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm": {
                "topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": pool_labels(cluster)}}}]}},
            "containers": [{"name": "compute", "resources": {"requests": {"cpu": "400m", "memory": "8500Mi", "devices.kubevirt.io/kvm": "1"}}}]},
        "status": {"phase": "Running"},
    })
}

/// Labels of the machines of a cluster's pool.
pub(crate) fn pool_labels(cluster: usize) -> Value {
    json!({"steading.dev/project": "acme", "steading.dev/cluster": format!("c{cluster}"), "steading.dev/pool": "workers"})
}

/// Namespace of a cluster.
pub(crate) fn namespace(cluster: usize) -> String {
    format!("acme--c{cluster}")
}
