//! Plays KubeVirt's central parts: virt-controller, and virt-api's webhooks and subresources.
//!
//! ```text
//! VM ─► DataVolumes ─► VMI ─► launcher pod ─(scheduler, kubelet)─► Scheduled ─(virt_handler)─► Running
//!                      VMI ─► attachment pods of hot-plugged volumes
//! eviction of a launcher pod ─► 429, mark on the VMI ─► (LiveMigrate) migration ─► target pod ─(virt_handler)─► other node
//! ```
//!
//! A VM, its VMI, pods and migrations share one key and are looked at together, one at a time. What happens on a node is played by
//! `virt_handler`. As with KubeVirt, the two meet in the VMI's status, and each leaves the other's fields alone.

mod admission;
mod eviction;
mod hotplug;
mod launcher;
mod merge;
mod migration;
mod start;
mod status;
mod subresources;
mod vm;
mod vmi;

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::json;
use steading_infra::{
    cdi::DataVolume,
    kubevirt::{KubeVirt, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration},
    labels,
};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, Index, Seen, follow, unless_there, work_off},
    timers::Timers,
    virt_api::Webhooks,
};
use steading_kubesim::{ApiServer, Key};

/// Registers the webhooks and KubeVirt's subresources with a simulated API server.
pub fn install(server: &ApiServer, context: &Context) {
    server.add_hook(Arc::new(Webhooks::new(context)));
    server.add_hook(Arc::new(eviction::Interceptor::new(context)));
    server.add_hook(Arc::new(admission::Migrations::new(context)));
    subresources::install(server, context);
}

#[derive(Clone)]
struct Virt {
    context: Context,
    vms: Cache<VirtualMachine>,
    vmis: Cache<VirtualMachineInstance>,
    pods: Cache<Pod>,
    migrations: Cache<VirtualMachineInstanceMigration>,
    volumes: Cache<DataVolume>,
    claims: Cache<PersistentVolumeClaim>,
    timers: Timers,
    /// Pods by namespace and uid of their VMI.
    pods_of: Index,
    /// Migrations by namespace and name of their VMI.
    migrations_of: Index,
    /// VMs and VMIs by namespace and name of a claim that they use.
    users_of: Index,
}

/// The feature gates of KubeVirt that Steading needs; the real test bed opens the same.
pub const FEATURE_GATES: [&str; 3] = ["DeclarativeHotplugVolumes", "ExpandDisks", "Snapshot"];

/// Makes KubeVirt's own object, by which others find its version and features. On a real cluster it is there already.
async fn announce(context: &Context) -> kube::Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kubevirt" } });
    let namespace: Namespace = serde_json::from_value(namespace).map_err(kube::Error::SerdeError)?;
    unless_there(
        Api::all(context.client.clone())
            .create(&PostParams::default(), &namespace)
            .await,
    )?;
    let kubevirt = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": { "name": "kubevirt", "namespace": "kubevirt" },
        "spec": { "configuration": { "developerConfiguration": { "featureGates": FEATURE_GATES } } },
    });
    let kubevirt: KubeVirt = serde_json::from_value(kubevirt).map_err(kube::Error::SerdeError)?;
    let api: Api<KubeVirt> = Api::namespaced(context.client.clone(), "kubevirt");
    if unless_there(api.create(&PostParams::default(), &kubevirt).await)?.is_some() {
        let status = json!({ "status": {
            "phase": "Deployed", "observedKubeVirtVersion": "v1.8.0",
            "conditions": [{ "type": "Available", "status": "True", "reason": "AllComponentsReady", "lastTransitionTime": context.stamp() }],
        }});
        api.patch_status("kubevirt", &PatchParams::default(), &Patch::Merge(status))
            .await?;
    }
    Ok(())
}

/// Runs until `cancel`.
pub async fn run(context: Context, cancel: CancellationToken) {
    if let Err(error) = announce(&context).await {
        tracing::debug!(%error, "KubeVirt's own object was not made");
    }
    let client = || context.client.clone();
    let (machines, seen_machines) = follow(Api::<VirtualMachine>::all(client()), watcher::Config::default());
    let (instances, seen_instances) = follow(Api::<VirtualMachineInstance>::all(client()), watcher::Config::default());
    let ours = watcher::Config::default().labels(labels::KUBEVIRT_ROLE);
    let (pods, seen_pods) = follow(Api::<Pod>::all(client()), ours);
    let (migrations, seen_migrations) = follow(
        Api::<VirtualMachineInstanceMigration>::all(client()),
        watcher::Config::default(),
    );
    let (volumes, seen_volumes) = follow(Api::<DataVolume>::all(client()), watcher::Config::default());
    let (claims, seen_claims) = follow(Api::<PersistentVolumeClaim>::all(client()), watcher::Config::default());
    let virt = Virt {
        timers: Timers::new(&context),
        context: context.clone(),
        vms: machines,
        vmis: instances,
        pods,
        migrations,
        volumes,
        claims,
        pods_of: Index::default(),
        migrations_of: Index::default(),
        users_of: Index::default(),
    };
    let keys = futures::stream::select_all([
        keys(&virt, seen_machines, Virt::see_vm),
        keys(&virt, seen_instances, Virt::see_vmi),
        keys(&virt, seen_pods, Virt::see_pod),
        keys(&virt, seen_migrations, Virt::see_migration),
        keys(&virt, seen_volumes, |virt, seen| virt.users(&seen.key)),
        keys(&virt, seen_claims, |virt, seen| virt.users(&seen.key)),
    ]);
    work_off(&context.time, cancel, keys, |key| {
        let virt = virt.clone();
        async move { virt.sync(&key).await }
    })
    .await;
}

type Keys = futures::stream::BoxStream<'static, Key>;

fn keys<K: Send + Sync + 'static>(
    virt: &Virt,
    seen: futures::stream::BoxStream<'static, Seen<K>>,
    of: impl Fn(&Virt, &Seen<K>) -> Vec<Key> + Send + 'static,
) -> Keys {
    let virt = virt.clone();
    seen.flat_map(move |seen| futures::stream::iter(of(&virt, &seen)))
        .boxed()
}

impl Virt {
    fn see_vm(&self, seen: &Seen<VirtualMachine>) -> Vec<Key> {
        let template = seen.object.spec.template.as_ref();
        let claims = template
            .map(|template| template.spec.volumes.as_slice())
            .unwrap_or_default()
            .iter()
            .filter_map(|volume| volume.claim_name());
        for claim in claims {
            self.users_of
                .note(Key::new(&seen.key.namespace, claim), &seen.key.name, seen.gone);
        }
        vec![seen.key.clone()]
    }

    fn see_vmi(&self, seen: &Seen<VirtualMachineInstance>) -> Vec<Key> {
        if seen.gone {
            self.timers.forget(&seen.key);
            self.pods_of
                .forget(&Key::new(&seen.key.namespace, &seen.object.uid().unwrap_or_default()));
        }
        for claim in seen.object.spec.volumes.iter().filter_map(|volume| volume.claim_name()) {
            let claim = Key::new(&seen.key.namespace, claim);
            // A VM of the same name uses it still.
            if !seen.gone || self.vms.get(&seen.key).is_none() {
                self.users_of.note(claim, &seen.key.name, seen.gone);
            }
        }
        vec![seen.key.clone()]
    }

    fn see_pod(&self, seen: &Seen<Pod>) -> Vec<Key> {
        let origin = |of: &BTreeMap<String, String>| of.get(labels::KUBEVIRT_CREATED_BY).cloned();
        // Attachment pods say it in an annotation.
        let Some(uid) = origin(seen.object.labels()).or_else(|| origin(seen.object.annotations())) else {
            return Vec::new();
        };
        let Some(name) = seen.object.annotations().get(labels::KUBEVIRT_DOMAIN) else {
            return Vec::new();
        };
        let key = Key::new(&seen.key.namespace, name);
        let current = self.vmis.get(&key).is_none_or(|vmi| vmi.uid().as_ref() == Some(&uid));
        if current || !seen.gone {
            self.pods_of
                .note(Key::new(&seen.key.namespace, &uid), &seen.key.name, seen.gone);
        }
        vec![key]
    }

    fn see_migration(&self, seen: &Seen<VirtualMachineInstanceMigration>) -> Vec<Key> {
        let key = Key::new(&seen.key.namespace, &seen.object.spec.vmi_name);
        self.migrations_of.note(key.clone(), &seen.key.name, seen.gone);
        vec![key]
    }

    fn users(&self, claim: &Key) -> Vec<Key> {
        let users = self.users_of.get(claim).unwrap_or_default();
        users.iter().map(|name| Key::new(&claim.namespace, name)).collect()
    }

    async fn sync(&self, key: &Key) -> kube::Result<Again> {
        let vmi = self.vmis.get(key);
        self.tidy_migrations(key, vmi.as_deref()).await?;
        let mut again = Vec::new();
        if let Some(vmi) = &vmi {
            again.extend(self.sync_vmi(key, vmi).await?);
        }
        if let Some(vm) = self.vms.get(key) {
            again.extend(self.sync_vm(key, &vm, vmi.as_deref()).await?);
        }
        Ok(again.into_iter().min())
    }

    /// Pods of a VMI, `None` if none was ever seen.
    fn pods_of(&self, vmi: &VirtualMachineInstance) -> Option<Vec<Arc<Pod>>> {
        let namespace = vmi.namespace().unwrap_or_default();
        let names = self
            .pods_of
            .get(&Key::new(&namespace, &vmi.uid().unwrap_or_default()))?;
        Some(
            names
                .iter()
                .filter_map(|name| self.pods.get(&Key::new(&namespace, name)))
                .collect(),
        )
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    async fn write_vmi(&self, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        // KubeVirt's VMIs have no status subresource.
        let api: Api<VirtualMachineInstance> = self.api(&vmi.namespace().unwrap_or_default());
        api.replace(&vmi.name_any(), &PostParams::default(), vmi)
            .await
            .map(|_| ())
    }
}

/// Whether a pod has ended.
fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn role(pod: &Pod) -> &str {
    pod.labels()
        .get(labels::KUBEVIRT_ROLE)
        .map(String::as_str)
        .unwrap_or_default()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
}

/// A few characters that depend on nothing but the text.
pub(super) fn digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(text.as_bytes());
    let number = hash
        .iter()
        .take(4)
        .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:05x}", number & 0xf_ffff)
}
