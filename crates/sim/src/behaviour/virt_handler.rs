//! Plays virt-handler, KubeVirt's agent on each node, together with the guests' launchers: guests that start and stop, their volumes, their
//! migrations.
//!
//! ```text
//! VMI Scheduled ─► Running, with interfaces, devices, LiveMigratable ─► (deleted, or its pod ends) Succeeded, Failed
//! ```
//! Runs beside the simulated virt-controller and beside the real one. It writes VMIs as virt-handler does, whole and unchanged in what is
//! not its own, and reads pods and ends them as the kubelet would say of a launcher that exits. What happens inside of the guest is played
//! by `guests`. Two annotations on a VM's template make things go wrong: [`NOT_MIGRATABLE`] and [`FAIL_MIGRATION`].

mod draft;
mod guest;
mod migration;
mod steps;
mod volumes;

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::{ApiResource, TypeMeta},
    runtime::watcher,
};
use serde_json::{Value, json};
use steading_infra::{kubevirt::VirtualMachineInstance, labels};
use tokio_util::sync::CancellationToken;

pub use self::steps::{FAIL_MIGRATION, NOT_MIGRATABLE};
use self::{
    draft::{Draft, Instance, text},
    steps::{Steps, is_ending},
    volumes::Plugged,
};
use super::{
    Context,
    drive::{Again, Cache, Index, Seen, follow, unless_gone, work_off},
    kubelet::is_ready,
    timers::Timers,
};
use steading_kubesim::Key;

#[derive(Clone)]
struct Handler {
    context: Context,
    kubelet: Client,
    resource: ApiResource,
    instances: Cache<Instance>,
    launchers: Cache<Pod>,
    nodes: Cache<Node>,
    /// Launcher pods by namespace and uid of their VMI.
    launchers_of: Index,
    timers: Timers,
}

/// Runs until `cancel`. Pods and Nodes are read, and launcher pods ended, with the client `kubelet`: virt-handler itself must not.
pub async fn run(context: Context, kubelet: Client, cancel: CancellationToken) {
    let resource = ApiResource::erase::<VirtualMachineInstance>(&());
    let all: Api<Instance> = Api::all_with(context.client.clone(), &resource);
    let (instances, seen_instances) = follow(all, watcher::Config::default());
    let ours = watcher::Config::default().labels(&format!("{}=virt-launcher", labels::KUBEVIRT_ROLE));
    let (launchers, seen_launchers) = follow(Api::<Pod>::all(kubelet.clone()), ours);
    let (nodes, seen_nodes) = follow(Api::<Node>::all(kubelet.clone()), watcher::Config::default());
    let handler = Handler {
        timers: Timers::new(&context),
        context: context.clone(),
        kubelet,
        resource,
        instances,
        launchers,
        nodes,
        launchers_of: Index::default(),
    };
    let of = |see: fn(&Handler, &str) -> Vec<Key>| {
        let handler = handler.clone();
        move |name: &str| see(&handler, name)
    };
    let on_node = of(Handler::on_node);
    let (of_instance, of_launcher) = (handler.clone(), handler.clone());
    let keys = futures::stream::select_all([
        seen_instances.map(move |seen| of_instance.see_instance(&seen)).boxed(),
        seen_launchers
            .flat_map(move |seen| futures::stream::iter(of_launcher.see_launcher(&seen)))
            .boxed(),
        became_ready(seen_nodes)
            .flat_map(move |name| futures::stream::iter(on_node(&name)))
            .boxed(),
    ]);
    work_off(&context.time, cancel, keys, |key| {
        let handler = handler.clone();
        async move { handler.sync(&key).await }
    })
    .await;
}

/// Names of nodes that answer and did not before.
fn became_ready(
    seen: impl futures::Stream<Item = Seen<Node>> + Send + 'static,
) -> impl futures::Stream<Item = String> + Send + 'static {
    let mut ready = std::collections::BTreeSet::new();
    seen.filter_map(move |seen| {
        let name = seen.key.name;
        let fresh = if !seen.gone && is_ready(&seen.object) {
            ready.insert(name.clone())
        } else {
            ready.remove(&name);
            false
        };
        std::future::ready(fresh.then_some(name))
    })
}

impl Handler {
    fn see_instance(&self, seen: &Seen<Instance>) -> Key {
        if seen.gone {
            self.timers.forget(&seen.key);
            let uid = seen.object.uid().unwrap_or_default();
            self.launchers_of.forget(&Key::new(&seen.key.namespace, &uid));
        }
        seen.key.clone()
    }

    fn see_launcher(&self, seen: &Seen<Pod>) -> Option<Key> {
        let uid = seen.object.labels().get(labels::KUBEVIRT_CREATED_BY)?;
        let name = seen.object.annotations().get(labels::KUBEVIRT_DOMAIN)?;
        self.launchers_of
            .note(Key::new(&seen.key.namespace, uid), &seen.key.name, seen.gone);
        Some(Key::new(&seen.key.namespace, name))
    }

    fn on_node(&self, node: &str) -> Vec<Key> {
        let here =
            |status: &Value| text(status, "/nodeName") == node || text(status, "/migrationState/targetNode") == node;
        let found = self
            .instances
            .select(|instance| instance.status.as_ref().is_some_and(here));
        found
            .iter()
            .map(|instance| Key::new(&instance.namespace().unwrap_or_default(), &instance.name_any()))
            .collect()
    }

    /// Whether a node's agent does its work.
    fn answers(&self, node: &str) -> bool {
        self.nodes.get(&Key::new("", node)).is_some_and(|node| is_ready(&node))
    }

    /// Launcher pods of a VMI, the newest first.
    fn launchers(&self, instance: &Instance) -> Vec<Pod> {
        let namespace = instance.namespace().unwrap_or_default();
        let names = self
            .launchers_of
            .get(&Key::new(&namespace, &instance.uid().unwrap_or_default()));
        let found = names
            .iter()
            .flatten()
            .filter_map(|name| self.launchers.get(&Key::new(&namespace, name)));
        let mut found: Vec<Pod> = found.map(|pod| Pod::clone(&pod)).collect();
        found.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)));
        found
    }

    async fn sync(&self, key: &Key) -> kube::Result<Again> {
        let Some(instance) = self.instances.get(key) else {
            return Ok(None);
        };
        let status = instance.status.as_ref().unwrap_or(&Value::Null);
        let (phase, node) = (text(status, "/phase"), text(status, "/nodeName"));
        if !matches!(phase, "Scheduled" | "Running") || !self.answers(node) {
            return Ok(None);
        }
        let launchers = self.launchers(&instance);
        let now = self.context.stamp();
        let mut draft = Draft::new(&instance, &now);
        let (mut again, mut over) = (None, Vec::new());
        let mut steps = |step: &str, takes: Duration| {
            let left = self.timers.left(key, step, takes);
            match left {
                Some(left) => again = again.into_iter().chain([left]).min(),
                None => over.push(step.to_owned()),
            }
            left.is_none()
        };
        self.look(&mut draft, &launchers, &mut steps);
        let changed = draft.changed();
        let left = migration::leftovers(changed.as_ref().unwrap_or(&instance), &launchers);
        let left: Vec<&Pod> = left.collect();
        if let Some(next) = &changed {
            self.write(key, next).await?;
        }
        // A step that is over is done with the write: the next of its name takes its time anew.
        for step in over {
            self.timers.reset(key, &step);
        }
        for pod in left {
            self.end(pod).await?;
        }
        Ok(again)
    }

    fn look(&self, draft: &mut Draft<'_>, launchers: &[Pod], steps: Steps<'_>) {
        let seen = draft.seen;
        let node = draft.text("/nodeName").to_owned();
        let runs = draft.text("/phase") == "Running";
        let here = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&node);
        let alive = launchers.iter().filter(here).find(|pod| !is_ending(pod));
        let home = alive.or_else(|| launchers.iter().find(here));
        if seen.metadata.deletion_timestamp.is_some() {
            draft.enter(if runs { "Succeeded" } else { "Failed" });
            return;
        }
        // Without a pod it is virt-controller that gives the VMI up; a pod that was not seen yet will be.
        let Some(home) = home else { return };
        if is_ending(home) {
            let failed = home.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
            draft.enter(if runs && !failed { "Succeeded" } else { "Failed" });
            return;
        }
        let pace = &self.context.pace;
        if !runs {
            let plugged = volumes::mount(draft, pace.hotplug / 2, steps);
            match plugged {
                Plugged::All if steps("start", pace.start_vmi) => guest::run(draft, home),
                Plugged::All => {}
                // Without it, virt-controller makes no attachment pod, and says nothing.
                Plugged::NotAll => draft.status["selinuxContext"] = json!(guest::SELINUX),
            }
            return;
        }
        volumes::plug(draft, pace.hotplug / 2, steps);
        guest::report_migratable(draft);
        if migration::target_node_of(seen).is_some_and(|node| self.answers(node)) {
            let target = migration::target_of(seen);
            let target = launchers.iter().find(|pod| target == Some(pod.name_any().as_str()));
            migration::migrate(draft, target, pace.migration, steps);
        }
    }

    async fn write(&self, key: &Key, next: &Instance) -> kube::Result<()> {
        let api: Api<Instance> = Api::namespaced_with(self.context.client.clone(), &key.namespace, &self.resource);
        let kind = TypeMeta {
            api_version: VirtualMachineInstance::api_version(&()).into_owned(),
            kind: VirtualMachineInstance::kind(&()).into_owned(),
        };
        let next = Instance {
            types: Some(kind),
            ..next.clone()
        };
        unless_gone(api.replace(&key.name, &PostParams::default(), &next).await).map(|_| ())
    }

    /// A launcher has exited: the kubelet says so. The pod stays.
    async fn end(&self, pod: &Pod) -> kube::Result<()> {
        let now = self.context.stamp();
        let status = pod.status.clone().unwrap_or_default();
        let ended = |container: &k8s_openapi::api::core::v1::ContainerStatus| {
            let started = container
                .state
                .as_ref()
                .and_then(|state| state.running.as_ref()?.started_at.clone());
            let mut next = json!(container);
            next["ready"] = json!(false);
            next["started"] = json!(false);
            next["state"] = json!({ "terminated": { "exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": now } });
            next
        };
        let containers: Vec<Value> = status.container_statuses.iter().flatten().map(ended).collect();
        let conditions = status.conditions.iter().flatten().map(|found| {
            let mut next = json!(found);
            if matches!(found.type_.as_str(), "Ready" | "ContainersReady") {
                next["status"] = json!("False");
                next["reason"] = json!("PodCompleted");
                next["lastTransitionTime"] = json!(now);
            }
            next
        });
        let conditions: Vec<Value> = conditions.collect();
        let patch =
            json!({ "status": { "phase": "Succeeded", "containerStatuses": containers, "conditions": conditions } });
        let api: Api<Pod> = Api::namespaced(self.kubelet.clone(), &pod.namespace().unwrap_or_default());
        unless_gone(
            api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
        .map(|_| ())
    }
}
