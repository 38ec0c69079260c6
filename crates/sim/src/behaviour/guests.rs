//! Plays the guests: a machine that runs boots, reads its user data, joins its tenant cluster, and falls silent with its VMI.
//!
//! A guest does what a real one does: it finds the bootstrap kubeconfig in its cloud-init user data, and the token in there must be
//! one that the tenant cluster knows. Once joined, it has credentials of its own on its disk and needs the token no more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use steading_infra::{kubevirt::VirtualMachineInstance, labels};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, unless_gone, unless_there, work_off},
    nodes::conditions,
    tenants::{Tenants, path_of},
};
use crate::apiserver::Key;

/// Pause before a guest that could not join tries again, as a kubelet does.
const RETRY: Duration = Duration::from_millis(300);
/// How long a Node without signs of life stays Ready; a minute on a real cluster.
const GRACE: Duration = Duration::from_millis(300);

/// The guests. Clones share them.
#[derive(Clone, Default)]
pub struct Guests {
    instances: Arc<Mutex<Option<Cache<VirtualMachineInstance>>>>,
    joined: Arc<Mutex<BTreeMap<Key, Joined>>>,
}

/// What a guest that has joined keeps on its disk.
#[derive(Clone)]
struct Joined {
    client: Client,
    node: String,
    /// Uid of the VMI that it was when its Node was last said to be ready.
    up: Option<String>,
}

impl Guests {
    /// The serial numbers of the hot-plugged disks that a guest sees, in their order.
    pub fn disks(&self, namespace: &str, machine: &str) -> Vec<String> {
        let instances = self.instances.lock().clone();
        let Some(instance) = instances.and_then(|i| i.get(&Key::new(namespace, machine))) else {
            return Vec::new();
        };
        let statuses = instance
            .status
            .as_ref()
            .map(|s| s.volume_status.as_slice())
            .unwrap_or_default();
        let ready = |name: &str| statuses.iter().any(|s| s.name == name && json!(s)["phase"] == "Ready");
        let disks = instance.spec.domain.devices.disks.iter();
        disks
            .filter(|d| ready(&d.name))
            .filter_map(|d| d.serial.clone())
            .collect()
    }
}

/// How guests reach their tenant cluster.
#[derive(Clone)]
pub struct Network {
    /// Tenants of this process, reached without a socket.
    pub tenants: Tenants,
    /// Where they are served, as user data names it.
    pub server_url: String,
}

impl Network {
    async fn dial(&self, kubeconfig: &Kubeconfig) -> Result<Client, String> {
        let server = kubeconfig
            .clusters
            .first()
            .and_then(|c| c.cluster.as_ref()?.server.clone())
            .unwrap_or_default();
        let namespaces = self.tenants.namespaces();
        let own = namespaces
            .iter()
            .find(|n| server == format!("{}{}", self.server_url, path_of(n)));
        if let Some(tenant) = own.and_then(|n| self.tenants.get(n)) {
            return Ok(tenant.client_named("kubelet"));
        }
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await;
        config
            .map_err(|e| e.to_string())
            .and_then(|c| Client::try_from(c).map_err(|e| e.to_string()))
    }
}

/// Runs until `cancel`.
pub async fn run(context: Context, guests: Guests, network: Network, cancel: CancellationToken) {
    let api = Api::<VirtualMachineInstance>::all(context.client.clone());
    let (instances, seen) = follow(api, watcher::Config::default());
    *guests.instances.lock() = Some(instances.clone());
    let keys = seen.map(|s| s.key);
    work_off(&context.time, cancel, keys.boxed(), |key| {
        let (context, guests, network, instances) =
            (context.clone(), guests.clone(), network.clone(), instances.clone());
        async move {
            match instances.get(&key).filter(|i| is_running(i)) {
                Some(instance) => up(&context, &guests, &network, &key, &instance).await,
                None => down(&context, &guests, &key, instances.get(&key).is_some()).await,
            }
        }
    })
    .await;
}

fn is_running(instance: &VirtualMachineInstance) -> bool {
    let phase = instance.status.as_ref().map(|s| json!(s.phase)).unwrap_or_default();
    phase == "Running" && instance.metadata.deletion_timestamp.is_none()
}

async fn up(
    context: &Context,
    guests: &Guests,
    network: &Network,
    key: &Key,
    instance: &VirtualMachineInstance,
) -> kube::Result<Again> {
    let uid = instance.uid().unwrap_or_default();
    let known = guests.joined.lock().get(key).cloned();
    if known.as_ref().is_some_and(|j| j.up.as_deref() == Some(&uid)) {
        return Ok(None);
    }
    context.time.sleep(context.vary(context.pace.boot, &uid)).await;
    let joined = match known {
        Some(joined) => joined,
        None => match join(context, network, key, instance).await {
            Ok(joined) => joined,
            Err(reason) => {
                tracing::debug!(machine = %key.name, reason, "guest cannot join");
                return Ok(Some(RETRY));
            }
        },
    };
    register(context, &joined, instance).await?;
    guests.joined.lock().insert(
        key.clone(),
        Joined {
            up: Some(uid),
            ..joined
        },
    );
    Ok(None)
}

/// Finds the way into the tenant cluster from the user data, and checks the token as the tenant's API server would.
async fn join(
    context: &Context,
    network: &Network,
    key: &Key,
    instance: &VirtualMachineInstance,
) -> Result<Joined, String> {
    let volumes = json!(instance.spec.volumes);
    let secret = volumes
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|v| {
            v.pointer("/cloudInitNoCloud/secretRef/name")
                .or(v.pointer("/cloudInitConfigDrive/secretRef/name"))?
                .as_str()
        })
        .ok_or("no cloud-init volume")?;
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &key.namespace);
    let secret = secrets.get(secret).await.map_err(|e| e.to_string())?;
    let data = secret
        .data
        .unwrap_or_default()
        .remove(labels::USER_DATA_KEY)
        .ok_or("the Secret has no user data")?;
    let user_data = String::from_utf8(data.0).map_err(|e| e.to_string())?;
    let (hostname, kubeconfig) = read_user_data(&user_data)?;
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).map_err(|e| e.to_string())?;
    let client = network.dial(&kubeconfig).await?;
    check_token(&client, &kubeconfig).await?;
    Ok(Joined {
        client,
        node: hostname.unwrap_or_else(|| key.name.clone()),
        up: None,
    })
}

/// The host name and the bootstrap kubeconfig of a cloud-config.
fn read_user_data(text: &str) -> Result<(Option<String>, String), String> {
    let config: Value = serde_saphyr::from_str(text).map_err(|e| format!("user data is not a cloud-config: {e}"))?;
    let files = config.get("write_files").and_then(Value::as_array);
    let kubeconfig = files
        .into_iter()
        .flatten()
        .find(|f| f.get("path").and_then(Value::as_str) == Some(labels::BOOTSTRAP_KUBECONFIG_PATH))
        .and_then(|f| f.get("content")?.as_str())
        .ok_or("user data writes no bootstrap kubeconfig")?;
    Ok((
        config.get("hostname").and_then(Value::as_str).map(ToOwned::to_owned),
        kubeconfig.to_owned(),
    ))
}

async fn check_token(client: &Client, kubeconfig: &Kubeconfig) -> Result<(), String> {
    let json = json!(kubeconfig);
    let token = json
        .pointer("/users/0/user/token")
        .and_then(Value::as_str)
        .ok_or("no token")?;
    let (id, secret) = token.split_once('.').ok_or("the token is no bootstrap token")?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let stored = secrets
        .get(&format!("bootstrap-token-{id}"))
        .await
        .map_err(|e| e.to_string())?;
    let stored = stored
        .data
        .unwrap_or_default()
        .remove("token-secret")
        .map(|d| d.0)
        .unwrap_or_default();
    if stored == secret.as_bytes() {
        Ok(())
    } else {
        Err("the token is wrong".to_owned())
    }
}

/// What a kubelet does at start: registers its Node, tainted until a cloud provider has initialised it, and says that it is ready.
async fn register(context: &Context, joined: &Joined, instance: &VirtualMachineInstance) -> kube::Result<()> {
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
    let now = context.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
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
    crate::apiserver::ApiServerConfig::default().git_version
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

/// Plays the tenant's node controller for a guest that does not run: its Node is not ready after a while.
async fn down(context: &Context, guests: &Guests, key: &Key, there: bool) -> kube::Result<Again> {
    let Some(joined) = guests.joined.lock().get(key).cloned() else {
        return Ok(None);
    };
    if joined.up.is_some() {
        // A VMI that only just went may be back at once.
        context.time.sleep(GRACE).await;
        let now = context.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({ "status": { "conditions": conditions(&now, false) } });
        let api: Api<Node> = Api::all(joined.client.clone());
        unless_gone(
            api.patch_status(&joined.node, &PatchParams::default(), &Patch::Merge(status))
                .await,
        )?;
        if let Some(joined) = guests.joined.lock().get_mut(key) {
            joined.up = None;
        }
    }
    // A guest without a Node and without a VMI will not come back with this disk.
    if !there
        && Api::<Node>::all(joined.client.clone())
            .get_opt(&joined.node)
            .await?
            .is_none()
    {
        guests.joined.lock().remove(key);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_kubeconfig_is_found_in_the_user_data() {
        let text = "#cloud-config\nhostname: web-1\nwrite_files:\n- path: /etc/kubernetes/bootstrap-kubeconfig\n  content: |\n    kind: Config\n";
        assert_eq!(
            read_user_data(text).unwrap(),
            (Some("web-1".to_owned()), "kind: Config\n".to_owned())
        );
        assert!(read_user_data("#cloud-config\n{}").is_err());
    }
}
