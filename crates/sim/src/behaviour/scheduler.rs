//! Plays kube-scheduler: filters and scores as the real one does, one pod after the other.
//!
//! The decision ([`decide::decide`]) is a pure function of a pod and a [`snapshot::Snapshot`]; this file keeps the snapshot true and writes
//! the outcome: a binding, or the condition `PodScheduled=False`. Runs on the infra cluster and on tenant clusters alike.

pub mod affinity;
pub mod decide;
pub mod snapshot;
pub mod spread;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod, PodSpec};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::{
    affinity::selects_namespaces,
    decide::{Decision, decide},
    snapshot::Snapshot,
};
use super::Context;
use steading_kubesim::Key;

/// Pause before a pod whose binding failed is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Pause before it is looked again whether a pod's claims are there: they are not watched.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

struct Scheduler {
    context: Context,
    snapshot: Snapshot,
    /// Pods that wait for a node.
    waiting: HashMap<Key, Arc<Pod>>,
    /// In the order of their turn.
    turn: VecDeque<Key>,
    queued: BTreeSet<Key>,
    /// Nothing has changed for them since no node fitted.
    stuck: BTreeSet<Key>,
    /// A pod waits for a claim that is not there.
    lacks_claims: bool,
}

/// Runs until `cancel`.
pub async fn run(context: Context, cancel: CancellationToken) {
    let nodes = watcher(Api::<Node>::all(context.client.clone()), watcher::Config::default())
        .default_backoff()
        .boxed();
    let pods = watcher(Api::<Pod>::all(context.client.clone()), watcher::Config::default())
        .default_backoff()
        .boxed();
    let scheduler = Scheduler {
        context,
        snapshot: Snapshot::default(),
        waiting: HashMap::new(),
        turn: VecDeque::new(),
        queued: BTreeSet::new(),
        stuck: BTreeSet::new(),
        lacks_claims: false,
    };
    cancel.run_until_cancelled(scheduler.work(nodes, pods)).await;
}

type Watch<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

impl Scheduler {
    async fn work(mut self, mut nodes: Watch<Node>, mut pods: Watch<Pod>) {
        let (mut nodes_known, mut pods_known) = (false, false);
        let (mut seen_nodes, mut seen_pods) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let ready = nodes_known && pods_known && !self.turn.is_empty();
            tokio::select! {
                biased;
                Some(event) = nodes.next() => match event {
                    Ok(watcher::Event::InitDone) => {
                        let gone: Vec<String> =
                            self.snapshot.nodes().map(|(name, _)| name.to_owned()).filter(|name| !seen_nodes.contains(name)).collect();
                        for name in gone {
                            self.snapshot.remove_node(&name);
                        }
                        nodes_known = true;
                        self.unstick();
                    }
                    Ok(watcher::Event::Init) => seen_nodes.clear(),
                    Ok(watcher::Event::InitApply(node) | watcher::Event::Apply(node)) => {
                        seen_nodes.insert(node.name_any());
                        self.snapshot.put_node(Arc::new(node));
                        self.unstick();
                    }
                    Ok(watcher::Event::Delete(node)) => self.snapshot.remove_node(&node.name_any()),
                    Err(error) => tracing::debug!(%error, "node watch failed"),
                },
                Some(event) = pods.next() => match event {
                    Ok(watcher::Event::InitDone) => {
                        self.drop_unseen(&seen_pods);
                        pods_known = true;
                    }
                    Ok(watcher::Event::Init) => seen_pods.clear(),
                    Ok(watcher::Event::InitApply(pod)) => {
                        seen_pods.insert(super::drive::key_of(&pod));
                        self.see(pod);
                    }
                    Ok(watcher::Event::Apply(pod)) => self.see(pod),
                    Ok(watcher::Event::Delete(pod)) => self.forget(&super::drive::key_of(&pod)),
                    Err(error) => tracing::debug!(%error, "pod watch failed"),
                },
                () = std::future::ready(()), if ready => self.next().await,
                () = self.context.time.sleep(LOOK_AGAIN), if self.lacks_claims => {
                    self.lacks_claims = false;
                    self.unstick();
                }
            }
        }
    }

    fn drop_unseen(&mut self, seen: &BTreeSet<Key>) {
        for key in self
            .snapshot
            .placed_keys()
            .into_iter()
            .chain(self.waiting.keys().cloned().collect::<Vec<_>>())
        {
            if !seen.contains(&key) {
                self.forget(&key);
            }
        }
    }

    fn see(&mut self, pod: Pod) {
        let key = super::drive::key_of(&pod);
        let spec = pod.spec.as_ref();
        let unplaced = spec.is_some_and(|spec| {
            spec.node_name.is_none()
                && spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == "default-scheduler"
                && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        });
        let over = pod.metadata.deletion_timestamp.is_some()
            || matches!(
                pod.status.as_ref().and_then(|status| status.phase.as_deref()),
                Some("Succeeded" | "Failed")
            );
        self.snapshot.put_pod(&pod);
        if over {
            self.unstick();
        }
        if !unplaced || over {
            self.waiting.remove(&key);
            self.stuck.remove(&key);
            return;
        }
        let fresh = self.waiting.insert(key.clone(), Arc::new(pod)).is_none();
        if fresh {
            self.enqueue(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        self.snapshot.remove_pod(key);
        self.waiting.remove(key);
        self.stuck.remove(key);
        self.unstick();
    }

    fn enqueue(&mut self, key: Key) {
        if self.queued.insert(key.clone()) {
            self.turn.push_back(key);
        }
    }

    /// Something changed: those that found no node get another turn.
    fn unstick(&mut self) {
        for key in std::mem::take(&mut self.stuck) {
            self.enqueue(key);
        }
    }

    /// Places the pod whose turn it is.
    async fn next(&mut self) {
        let Some(key) = self.turn.pop_front() else { return };
        self.queued.remove(&key);
        let Some(pod) = self.waiting.get(&key).cloned() else {
            return;
        };
        let decision = match self.look_up(&key, &pod).await {
            Ok(None) => decide(&pod, &self.snapshot),
            Ok(Some(missing)) => {
                self.lacks_claims = true;
                let total = self.snapshot.nodes().count();
                Decision::Unschedulable(format!("0/{total} nodes are available: {missing}. not found"))
            }
            Err(error) => {
                tracing::debug!(?key, %error, "what the pod refers to was not read");
                self.context.time.sleep(RETRY).await;
                return self.enqueue(key);
            }
        };
        match decision {
            Decision::Place(node) => {
                self.snapshot.place(&pod, &node);
                self.waiting.remove(&key);
                if let Err(error) = self.bind(&key, &pod, &node).await {
                    tracing::debug!(?key, node, %error, "not bound");
                    self.snapshot.remove_pod(&key);
                    if !super::drive::is_gone(&error)
                        && !matches!(&error, kube::Error::Api(status) if status.code == 409)
                    {
                        self.waiting.insert(key.clone(), pod);
                        self.context.time.sleep(RETRY).await;
                        self.enqueue(key);
                    }
                }
            }
            Decision::Unschedulable(message) => {
                self.stuck.insert(key.clone());
                if let Err(error) = self.tell(&key, &pod, &message).await {
                    tracing::debug!(?key, %error, "could not be told that no node fits");
                }
            }
        }
    }

    /// Reads what a decision needs and few pods have: namespaces that are selected by labels, and claims; what of the latter is not there.
    async fn look_up(&mut self, key: &Key, pod: &Pod) -> kube::Result<Option<String>> {
        let spec = pod.spec.clone().unwrap_or_default();
        if selects_namespaces(&spec) || self.snapshot.specs().any(selects_namespaces) {
            let all: Api<Namespace> = Api::all(self.context.client.clone());
            let all = all.list(&ListParams::default()).await?;
            let labels = all
                .into_iter()
                .map(|found| (found.name_any(), found.metadata.labels.unwrap_or_default()));
            self.snapshot.put_namespaces(labels.collect());
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &key.namespace);
        for claim in claims_of(&spec) {
            if api.get_opt(claim).await?.is_none() {
                return Ok(Some(format!("persistentvolumeclaim {claim:?} not found")));
            }
        }
        Ok(None)
    }

    async fn bind(&self, key: &Key, pod: &Pod, node: &str) -> kube::Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let _: Value = api
            .create_subresource("binding", &key.name, &PostParams::default(), &binding)
            .await?;
        Ok(())
    }

    async fn tell(&self, key: &Key, pod: &Pod, message: &str) -> kube::Result<()> {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        let told = |condition: &k8s_openapi::api::core::v1::PodCondition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.message.as_deref() == Some(message)
        };
        if conditions.iter().any(told) {
            return Ok(());
        }
        let now = self.context.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut all: Vec<Value> = conditions
            .iter()
            .filter(|found| found.type_ != "PodScheduled")
            .map(|found| json!(found))
            .collect();
        all.push(json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, "lastTransitionTime": now,
        }));
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let patch = Patch::Merge(json!({"status": {"phase": "Pending", "conditions": all}}));
        api.patch_status(&key.name, &PatchParams::default(), &patch)
            .await
            .map(|_| ())
    }
}

fn claims_of(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let volumes = spec.volumes.iter().flatten();
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}
