//! Plays the bare metal: Node objects with zones, and what happens when one loses power.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher,
};
use parking_lot::RwLock;
use serde_json::{Value, json};
use steading_infra::labels;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, follow, unless_gone, unless_there, work_off},
};
use steading_kubesim::Key;

/// What one bare-metal node has: enough for the 334 machines that a pool of 1,000 puts on each of three.
const CPUS: &str = "2k";
const MEMORY: &str = "8Ti";
const PODS: &str = "2k";

/// The bare metal of an infra cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many nodes.
    pub nodes: u32,
    /// How many zones they are spread over.
    pub zones: u32,
}

/// Which nodes have power. Clones share it; the kubelets, hypervisors and guests on a node without power do nothing.
#[derive(Clone, Debug)]
pub struct Power {
    off: Arc<RwLock<BTreeSet<String>>>,
    changed: watch::Sender<u64>,
}

impl Default for Power {
    fn default() -> Self {
        Self {
            off: Arc::default(),
            changed: watch::channel(0).0,
        }
    }
}

impl Power {
    /// Takes the power from a node, without warning.
    pub fn cut(&self, node: &str) {
        self.off.write().insert(node.to_owned());
        self.changed.send_modify(|count| *count += 1);
    }

    /// Gives it back.
    pub fn restore(&self, node: &str) {
        self.off.write().remove(node);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Whether a node has power.
    pub fn is_on(&self, node: &str) -> bool {
        !self.off.read().contains(node)
    }

    /// Wakes at every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// The name of the `index`th node, from 1.
pub fn node_name(index: u32) -> String {
    format!("infra-{index}")
}

/// Makes the nodes and keeps their Ready condition true to their power, until `cancel`. A node that is deleted stays away.
pub async fn run(context: Context, shape: Shape, power: Power, cancel: CancellationToken) {
    let api: Api<Node> = Api::all(context.client.clone());
    let (cache, seen) = follow(api.clone(), watcher::Config::default());
    let wanted: BTreeMap<String, Value> = (1..=shape.nodes)
        .map(|index| (node_name(index), manifest(index, shape.zones.max(1))))
        .collect();
    let names: Vec<Key> = wanted.keys().map(|name| Key::new("", name)).collect();
    let powered = tokio_stream::wrappers::WatchStream::new(power.subscribe())
        .flat_map(move |_| futures::stream::iter(names.clone()));
    let keys = futures::stream::select(
        seen.filter(|seen| std::future::ready(!seen.gone)).map(|seen| seen.key),
        powered,
    );
    let made = Arc::new(RwLock::new(BTreeSet::new()));
    work_off(&context.time, cancel, keys.boxed(), |key| {
        let (api, cache, power, made, context) =
            (api.clone(), cache.clone(), power.clone(), made.clone(), context.clone());
        let wanted = wanted.get(&key.name).cloned();
        async move {
            let Some(wanted) = wanted else { return Ok(None) };
            match cache.get(&key) {
                Some(node) => set_ready(&context, &api, &node, power.is_on(&key.name)).await,
                None if made.read().contains(&key.name) => Ok(None),
                None => {
                    make(&context, &api, &wanted).await?;
                    made.write().insert(key.name);
                    Ok(None)
                }
            }
        }
    })
    .await;
}

async fn make(context: &Context, api: &Api<Node>, wanted: &Value) -> kube::Result<Again> {
    let node: Node = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
    let name = node.metadata.name.clone().unwrap_or_default();
    unless_there(api.create(&PostParams::default(), &node).await)?;
    // A real kubelet reports its status right after it has registered.
    let mut status = json!({ "status": wanted["status"] });
    status["status"]["conditions"] = conditions(&context.stamp(), true);
    unless_gone(
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await,
    )?;
    Ok(None)
}

async fn set_ready(context: &Context, api: &Api<Node>, node: &Node, on: bool) -> kube::Result<Again> {
    let wanted = if on { "True" } else { "Unknown" };
    let found = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let name = node.metadata.name.clone().unwrap_or_default();
    if found
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == wanted)
    {
        return Ok(None);
    }
    let patch = json!({ "status": { "conditions": conditions(&context.stamp(), on) } });
    unless_gone(
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await,
    )?;
    set_unreachable(api, node, on).await?;
    Ok(None)
}

/// The taints with which the node controller marks a node that does not answer.
pub async fn set_unreachable(api: &Api<Node>, node: &Node, on: bool) -> kube::Result<()> {
    const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    if taints.iter().any(|taint| taint.key == UNREACHABLE) != on {
        return Ok(());
    }
    let mut taints: Vec<Value> = taints
        .iter()
        .filter(|taint| taint.key != UNREACHABLE)
        .map(|taint| json!(taint))
        .collect();
    if !on {
        taints.push(json!({ "key": UNREACHABLE, "effect": "NoSchedule" }));
        taints.push(json!({ "key": UNREACHABLE, "effect": "NoExecute" }));
    }
    // The version makes this a compare-and-set: a taint that somebody else wrote meanwhile is not lost.
    let patch =
        json!({ "metadata": { "resourceVersion": node.metadata.resource_version }, "spec": { "taints": taints } });
    let name = node.metadata.name.clone().unwrap_or_default();
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let fresh = api.get(&name).await?;
            Box::pin(set_unreachable(api, &fresh, on)).await
        }
        outcome => unless_gone(outcome).map(|_| ()),
    }
}

/// Conditions as the kubelet (`up`) or the node controller (not `up`) writes them.
pub fn conditions(now: &str, up: bool) -> Value {
    let condition = |type_: &str, good: &str, reason: &str| {
        let (status, reason, message) = if up {
            (good, reason, "as it should be")
        } else {
            ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
        };
        json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    json!([
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        condition("Ready", "True", "KubeletReady"),
    ])
}

/// The Ready condition as the kubelet (`up`) or the node controller (not `up`) writes it.
pub fn ready_condition(now: &str, up: bool) -> Value {
    conditions(now, up)[3].take()
}

/// The `index`th node, from 1, as it registers itself, with its status.
pub fn manifest(index: u32, zones: u32) -> Value {
    let name = node_name(index);
    let zone = char::from(b'a' + u8::try_from(index.saturating_sub(1) % zones % 26).unwrap_or_default());
    let resources = json!({
        "cpu": CPUS, "memory": MEMORY, "pods": PODS, "ephemeral-storage": "1Ti",
        "devices.kubevirt.io/kvm": "10k", "devices.kubevirt.io/tun": "10k", "devices.kubevirt.io/vhost-net": "10k",
    });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                labels::HOSTNAME: name,
                labels::ZONE: format!("zone-{zone}"),
                labels::REGION: "region-1",
                labels::KUBEVIRT_SCHEDULABLE: "true",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
                "machine-type.node.kubevirt.io/q35": "true",
                "cpu-model.node.kubevirt.io/Skylake-Server": "true",
            },
        },
        "spec": { "providerID": format!("metal://{name}") },
        "status": {
            "capacity": resources, "allocatable": resources,
            "addresses": [
                { "type": "InternalIP", "address": format!("172.18.{}.{}", index / 250, index % 250 + 1) },
                { "type": "Hostname", "address": name },
            ],
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.3",
                "kernelVersion": "6.12.0", "osImage": "Debian GNU/Linux 13", "containerRuntimeVersion": "containerd://2.2.0",
                "machineID": name, "systemUUID": name, "bootID": name, "kubeProxyVersion": "",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_go_round_the_zones() {
        let zones: Vec<_> = (1..=4)
            .map(|index| manifest(index, 3)["metadata"]["labels"][labels::ZONE].clone())
            .collect();
        assert_eq!(zones, ["zone-a", "zone-b", "zone-c", "zone-a"]);
    }
}
