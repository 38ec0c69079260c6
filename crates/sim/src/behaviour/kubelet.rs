//! Plays the kubelets: a pod that is bound to a node with power starts, and stops when it is deleted. Where nobody else does it, pods of
//! nodes that are gone or do not answer go too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, key_of, unless_gone, work_off},
    timers::Timers,
};
use steading_kubesim::Key;

/// How long containers take to stop: simulated processes heed the first signal.
const STOP: Duration = Duration::from_millis(30);
/// How long the pods of a node that does not answer are kept before they are given up.
const GIVE_UP: Duration = Duration::from_secs(2);

/// Who collects the pods of nodes that are gone or do not answer for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// This behaviour, in place of a controller manager.
    Collected,
    /// The controller manager that is there.
    Left,
}

#[derive(Clone)]
struct Kubelet {
    context: Context,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    timers: Timers,
    /// Pod addresses are handed out in order, 16 bits of them.
    addresses: Arc<AtomicU32>,
    network: u8,
    lost: Lost,
}

/// Runs until `cancel`. Pods get addresses in 10.`network`.0.0/16 and fd00:10:`network`::/64.
pub async fn run(context: Context, network: u8, lost: Lost, cancel: CancellationToken) {
    let (pods, seen_pods) = follow(Api::<Pod>::all(context.client.clone()), watcher::Config::default());
    let (nodes, seen_nodes) = follow(Api::<Node>::all(context.client.clone()), watcher::Config::default());
    let kubelet = Kubelet {
        context: context.clone(),
        pods: pods.clone(),
        nodes,
        timers: Timers::new(&context),
        addresses: Arc::new(AtomicU32::new(10)),
        network,
        lost,
    };
    let timers = kubelet.timers.clone();
    let of_node = seen_nodes.flat_map(move |node| {
        let on = pods.select(|pod| node_of(pod) == Some(node.key.name.as_str()));
        futures::stream::iter(on.into_iter().map(|pod| key_of(pod.as_ref())).collect::<Vec<_>>())
    });
    let of_pod = seen_pods.filter_map(move |seen| {
        if seen.gone {
            timers.forget(&seen.key);
        }
        std::future::ready((!seen.gone).then_some(seen.key))
    });
    work_off(
        &context.time,
        cancel,
        futures::stream::select(of_pod, of_node).boxed(),
        |key| {
            let kubelet = kubelet.clone();
            async move { kubelet.sync(&key).await }
        },
    )
    .await;
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
}

impl Kubelet {
    async fn sync(&self, key: &Key) -> kube::Result<Again> {
        let Some(pod) = self.pods.get(key) else { return Ok(None) };
        let Some(node) = node_of(&pod) else { return Ok(None) };
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let host = self.nodes.get(&Key::new("", node));
        match &host {
            None if self.lost == Lost::Left => return Ok(None),
            Some(host) if self.lost == Lost::Left && !is_ready(host) => return Ok(None),
            // Kubernetes' pod collector deletes the pods of a node that is gone; the pause covers a node not seen yet.
            None => match self.timers.left(key, "no-node", STOP * 4) {
                Some(left) => return Ok(Some(left)),
                None => return remove(&api, key).await,
            },
            Some(host) if !is_ready(host) => {
                return match self.timers.left(key, "no-answer", GIVE_UP) {
                    Some(left) => Ok(Some(left)),
                    None => remove(&api, key).await,
                };
            }
            Some(_) => self.timers.reset(key, "no-"),
        }
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            return match self.timers.left(key, "stop", STOP) {
                Some(left) => Ok(Some(left)),
                None => remove(&api, key).await,
            };
        }
        if phase == "Running" {
            return self.report(&api, key, &pod).await;
        }
        if !matches!(phase, "" | "Pending") {
            return Ok(None);
        }
        if let Some(left) = self.timers.left(key, "start", self.context.pace.start_pod) {
            return Ok(Some(left));
        }
        let status = json!({ "status": self.running(&pod, host.as_deref()) });
        unless_gone(
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(status))
                .await,
        )?;
        Ok(None)
    }

    /// Says again that a running pod is ready, after a node controller has said otherwise because the node did not answer.
    async fn report(&self, api: &Api<Pod>, key: &Key, pod: &Pod) -> kube::Result<Again> {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        let lost = |found: &PodCondition| {
            matches!(found.type_.as_str(), "Ready" | "ContainersReady") && found.status != "True"
        };
        if !conditions.iter().any(lost) {
            return Ok(None);
        }
        let now = self.context.stamp();
        let again = conditions.iter().map(|found| match lost(found) {
            true => json!({ "type": found.type_, "status": "True", "lastTransitionTime": now }),
            false => json!(found),
        });
        let status = json!({ "status": { "conditions": again.collect::<Vec<_>>() } });
        unless_gone(
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(status))
                .await,
        )?;
        Ok(None)
    }

    fn running(&self, pod: &Pod, host: Option<&Node>) -> Value {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed) % (1 << 16);
        let (high, low) = (number >> 8, number & 0xff);
        let v4 = format!("10.{}.{high}.{low}", self.network);
        let v6 = format!("fd00:10:{}::{number:x}", self.network);
        let now = self.context.stamp();
        let condition = |type_: &str| json!({ "type": type_, "status": "True", "lastTransitionTime": now });
        let containers = pod
            .spec
            .as_ref()
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default();
        let containers: Vec<Value> = containers
            .iter()
            .map(|container| {
                let image = container.image.clone().unwrap_or_default();
                json!({
                    "name": container.name, "ready": true, "started": true, "restartCount": 0, "image": image,
                    "imageID": format!("{image}@sha256:{:064x}", 1), "state": { "running": { "startedAt": now } },
                })
            })
            .collect();
        let host = host
            .and_then(|host| host.status.as_ref()?.addresses.as_ref())
            .into_iter()
            .flatten();
        let host = host
            .filter(|found| found.type_ == "InternalIP")
            .map(|found| found.address.clone())
            .next();
        let mut running = json!({
            "phase": "Running", "startTime": now, "podIP": v4, "podIPs": [{ "ip": v4 }, { "ip": v6 }],
            "containerStatuses": containers,
            "conditions": [
                condition("PodScheduled"), condition("Initialized"), condition("ContainersReady"), condition("Ready"),
            ],
        });
        // A tenant's Node has no address before its cloud provider has given it one.
        if let Some(host) = host {
            running["hostIPs"] = json!([{ "ip": host }]);
            running["hostIP"] = json!(host);
        }
        running
    }
}

async fn remove(api: &Api<Pod>, key: &Key) -> kube::Result<Again> {
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    unless_gone(api.delete(&key.name, &now).await)?;
    Ok(None)
}

/// Whether a node's kubelet answers.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
