//! What a guest's kubelet tells its API server.

use jiff::SignedDuration;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use steading_infra::{kubevirt::VirtualMachineInstance, labels};

use super::joined::Joined;
use crate::behaviour::{
    Context,
    drive::{is_gone, unless_gone, unless_there},
    nodes::conditions,
};

/// Namespace of the leases with which nodes give signs of life.
const LEASES: &str = "kube-node-lease";
/// How long a sign of life is good for, as with a kubelet.
const LEASE_SECONDS: i32 = 40;
/// Pause between two reports of a status that has not changed, as with a kubelet.
const REPORT: SignedDuration = SignedDuration::from_mins(5);

/// What a kubelet does at start: registers its Node, tainted until a cloud provider has initialised it, and says that it is ready.
pub(super) async fn register(
    context: &Context,
    joined: &Joined,
    instance: &VirtualMachineInstance,
) -> kube::Result<()> {
    let api: Api<Node> = Api::all(joined.client.clone());
    let name = &joined.node;
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { labels::HOSTNAME: name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
        "spec": { "taints": [{ "key": labels::UNINITIALIZED_TAINT, "value": "true", "effect": "NoSchedule" }] },
    });
    let node: Node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
    unless_there(api.create(&PostParams::default(), &node).await)?;
    let (cpu, memory) = size(instance);
    let capacity = json!({ "cpu": cpu, "memory": memory, "pods": "110", "ephemeral-storage": "20Gi" });
    let now = context.stamp();
    let status = json!({ "status": {
        "capacity": capacity, "allocatable": capacity, "conditions": conditions(&now, true),
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": context_version(), "kernelVersion": "6.12.0",
            "osImage": "Debian GNU/Linux 13", "containerRuntimeVersion": "containerd://2.2.0", "kubeProxyVersion": "",
            "machineID": name, "systemUUID": instance.uid(), "bootID": instance.uid(),
        },
    }});
    unless_gone(
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await,
    )?;
    Ok(())
}

/// The kubelet's version: that of the simulated API servers.
fn context_version() -> String {
    steading_kubesim::ApiServerConfig::default().git_version
}

/// CPUs and memory that the guest sees; a small machine where the VMI does not say.
fn size(instance: &VirtualMachineInstance) -> (String, String) {
    let cpu = instance
        .spec
        .domain
        .cpu
        .as_ref()
        .map_or(2, steading_infra::kubevirt::virtual_machine::Cpu::vcpus);
    let memory = instance.spec.domain.memory.as_ref().and_then(|m| m.guest.clone());
    (cpu.to_string(), memory.unwrap_or_else(|| "8Gi".to_owned()))
}

/// Renews the Node's lease; says that the Node is ready if that is not known or is old.
pub(super) async fn beat(context: &Context, joined: &Joined) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(joined.client.clone());
    let Some(node) = nodes.get_opt(&joined.node).await? else {
        return Ok(());
    };
    renew(context, joined, &node).await?;
    let found = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ready = found
        .iter()
        .find(|found| found.type_ == "Ready" && found.status == "True");
    let now = context.time.now();
    let fresh = ready.and_then(|ready| ready.last_heartbeat_time.as_ref());
    if fresh.is_some_and(|time| now.duration_since(time.0) < REPORT) {
        return Ok(());
    }
    let status = json!({ "status": { "conditions": conditions(&context.stamp(), true) } });
    unless_gone(
        nodes
            .patch_status(&joined.node, &PatchParams::default(), &Patch::Merge(status))
            .await,
    )
    .map(|_| ())
}

async fn renew(context: &Context, joined: &Joined, node: &Node) -> kube::Result<()> {
    let leases: Api<Lease> = Api::namespaced(joined.client.clone(), LEASES);
    let name = &joined.node;
    let now = context.time.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now });
    let renewed = Patch::Merge(json!({ "spec": spec }));
    match leases.patch(name, &PatchParams::default(), &renewed).await {
        Err(error) if is_gone(&error) => {}
        renewed => return renewed.map(|_| ()),
    }
    let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": node.uid() });
    let lease: Value = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": name, "namespace": LEASES, "ownerReferences": [owner] }, "spec": spec,
    });
    let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
    unless_there(leases.create(&PostParams::default(), &lease).await).map(|_| ())
}
