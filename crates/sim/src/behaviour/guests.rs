//! Plays the guests: a machine that runs boots, reads its user data, joins its tenant cluster, and falls silent with its VMI.
//!
//! A guest does what a real one does: it finds the bootstrap kubeconfig in its cloud-init user data, and the token in there must be
//! one that the tenant cluster knows. Once joined, it has credentials of its own on its disk and needs the token no more. On a real control
//! plane it gives signs of life, which the node controller there misses when it falls silent; in memory its silence is told at once.

mod join;
mod joined;
mod kubelet;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::watcher,
};
use parking_lot::Mutex;
use serde_json::json;
use steading_infra::kubevirt::VirtualMachineInstance;
use tokio_util::sync::CancellationToken;

use self::joined::Joined;
use super::{
    Context,
    drive::{Again, Cache, follow, unless_gone, work_off},
    nodes::conditions,
    tenants::{Kind, Tenants},
};
use steading_kubesim::Key;

/// Pause before a guest that could not join tries again, as a kubelet does.
const RETRY: Duration = Duration::from_millis(300);
/// How long a Node without signs of life stays Ready; a minute on a real cluster.
const GRACE: Duration = Duration::from_millis(300);
/// Pause between two signs of life, as with a kubelet.
const BEAT: Duration = Duration::from_secs(10);

/// The guests. Clones share them.
#[derive(Clone, Default)]
pub struct Guests {
    instances: Arc<Mutex<Option<Cache<VirtualMachineInstance>>>>,
    joined: Arc<Mutex<BTreeMap<Key, Joined>>>,
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

/// Runs until `cancel`.
pub async fn run(context: Context, guests: Guests, tenants: Tenants, cancel: CancellationToken) {
    let api = Api::<VirtualMachineInstance>::all(context.client.clone());
    let (instances, seen) = follow(api, watcher::Config::default());
    *guests.instances.lock() = Some(instances.clone());
    let keys = seen.map(|s| s.key);
    work_off(&context.time, cancel, keys.boxed(), |key| {
        let (context, guests, tenants, instances) =
            (context.clone(), guests.clone(), tenants.clone(), instances.clone());
        async move {
            match instances.get(&key).filter(|i| is_running(i)) {
                Some(instance) => up(&context, &guests, &tenants, &key, &instance).await,
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
    tenants: &Tenants,
    key: &Key,
    instance: &VirtualMachineInstance,
) -> kube::Result<Again> {
    if join::user_data_of(instance).is_none() {
        return Ok(None);
    }
    let uid = instance.uid().unwrap_or_default();
    let known = guests.joined.lock().get(key).cloned();
    if let Some(joined) = known.as_ref().filter(|joined| joined.up.as_deref() == Some(&uid)) {
        return live(context, guests, key, joined).await;
    }
    context.time.sleep(context.vary(context.pace.boot, &uid)).await;
    let joined = match known {
        Some(joined) => joined,
        None => match join::join(context, tenants, key, instance).await {
            Ok(joined) => joined,
            Err(reason) => {
                tracing::debug!(machine = %key.name, reason, "guest cannot join");
                return Ok(Some(RETRY));
            }
        },
    };
    kubelet::register(context, &joined, instance).await?;
    let joined = Joined {
        up: Some(uid),
        ..joined
    };
    guests.joined.lock().insert(key.clone(), joined.clone());
    live(context, guests, key, &joined).await
}

/// Gives a sign of life where somebody would miss it, if it is time.
async fn live(context: &Context, guests: &Guests, key: &Key, joined: &Joined) -> kube::Result<Again> {
    if joined.kind == Kind::Simulated {
        return Ok(None);
    }
    let now = context.time.elapsed();
    let due = joined.beat.saturating_add(BEAT);
    if !joined.beat.is_zero() && now < due {
        return Ok(Some(due.saturating_sub(now)));
    }
    kubelet::beat(context, joined).await?;
    if let Some(joined) = guests.joined.lock().get_mut(key) {
        joined.beat = now;
    }
    Ok(Some(BEAT))
}

/// In memory, plays the tenant's node controller for a guest that does not run: its Node is not ready after a while.
async fn down(context: &Context, guests: &Guests, key: &Key, there: bool) -> kube::Result<Again> {
    let Some(joined) = guests.joined.lock().get(key).cloned() else {
        return Ok(None);
    };
    if joined.up.is_some() && joined.kind == Kind::Simulated {
        // A VMI that only just went may be back at once.
        context.time.sleep(GRACE).await;
        let now = context.time.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({ "status": { "conditions": conditions(&now, false) } });
        let api: Api<Node> = Api::all(joined.client.clone());
        unless_gone(
            api.patch_status(&joined.node, &PatchParams::default(), &Patch::Merge(status))
                .await,
        )?;
    }
    if let Some(joined) = guests.joined.lock().get_mut(key) {
        (joined.up, joined.beat) = (None, Duration::ZERO);
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
