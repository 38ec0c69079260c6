//! Plays the storage driver's sidecars: storage classes, a volume for every claim, claims that grow, volumes that go with their claims.
//!
//! Binding is not theirs: that is done by `volumes` in the simulation and by the controller manager of a real control plane.

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, StorageClass},
};
use kube::{
    Api, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use steading_infra::{cdi::StorageProfile, snapshot::VolumeSnapshotClass};
use tokio_util::sync::CancellationToken;

use super::super::{
    Context,
    drive::{Again, follow, unless_gone, unless_there, work_off},
    timers::Timers,
};
use steading_kubesim::Key;

/// Name of the infra cluster's default storage class; its claims can be read and written by several nodes at once.
pub const DEFAULT_CLASS: &str = "standard";
/// A class whose claims only one node can have: VMs on it cannot be migrated.
const LOCAL_CLASS: &str = "local";
/// Name of the infra cluster's snapshot class.
pub const SNAPSHOT_CLASS: &str = "standard";

const PROVISIONER: &str = "csi.sim.steading.dev";

/// Makes the classes. Failures are logged: on a real cluster they may not be ours to make.
pub(super) async fn seed(context: &Context) {
    for (name, default, modes) in [
        (
            DEFAULT_CLASS,
            "true",
            json!([
                {"accessModes": ["ReadWriteMany"], "volumeMode": "Block"},
                {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block"},
                {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"},
            ]),
        ),
        (
            LOCAL_CLASS,
            "false",
            json!([{"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}]),
        ),
    ] {
        make::<StorageClass>(context, json!({
            "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default}},
            "provisioner": PROVISIONER, "allowVolumeExpansion": true, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
        }))
        .await;
        make::<StorageProfile>(context, json!({"metadata": {"name": name}, "spec": {}})).await;
        let status = json!({"status": {
            "storageClass": name, "provisioner": PROVISIONER, "cloneStrategy": "csi-clone", "snapshotClass": SNAPSHOT_CLASS,
            "claimPropertySets": modes,
        }});
        let api: Api<StorageProfile> = Api::all(context.client.clone());
        if let Err(error) = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
        {
            tracing::debug!(name, %error, "storage profile not filled in");
        }
    }
    // Without this, a real controller manager would wait for somebody to attach the volumes of each pod.
    make::<CSIDriver>(
        context,
        json!({"metadata": {"name": PROVISIONER}, "spec": {"attachRequired": false, "podInfoOnMount": false}}),
    )
    .await;
    make::<VolumeSnapshotClass>(context, json!({
        "metadata": {"name": SNAPSHOT_CLASS, "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
        "driver": PROVISIONER, "deletionPolicy": "Delete",
    }))
    .await;
}

async fn make<K>(context: &Context, mut object: Value)
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    let Ok(object) = serde_json::from_value::<K>(object) else {
        return;
    };
    let api: Api<K> = Api::all(context.client.clone());
    if let Err(error) = unless_there(api.create(&PostParams::default(), &object).await) {
        tracing::debug!(kind = %K::kind(&()), %error, "not made");
    }
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Work {
    Claim(Key),
    Volume(Key),
}

/// Makes, grows and removes volumes until `cancel`.
pub(super) async fn run(context: Context, cancel: CancellationToken) {
    let client = || context.client.clone();
    let (claims, seen_claims) = follow(Api::<PersistentVolumeClaim>::all(client()), watcher::Config::default());
    let (volumes, seen_volumes) = follow(Api::<PersistentVolume>::all(client()), watcher::Config::default());
    let timers = Timers::new(&context);
    let keys = futures::stream::select(
        seen_claims.map(|seen| Work::Claim(seen.key)),
        seen_volumes.map(|seen| Work::Volume(seen.key)),
    );
    work_off(&context.time, cancel, keys.boxed(), |work| {
        let (context, claims, volumes, timers) = (context.clone(), claims.clone(), volumes.clone(), timers.clone());
        async move {
            match work {
                Work::Claim(key) => match claims.get(&key) {
                    Some(claim) => provide(&context, &timers, &key, &claim).await,
                    None => {
                        timers.forget(&key);
                        Ok(None)
                    }
                },
                Work::Volume(key) => match volumes.get(&key) {
                    Some(volume) => remove(&context, &volume).await,
                    None => Ok(None),
                },
            }
        }
    })
    .await;
}

/// Makes the volume of a claim that has none, and grows a claim that wants more than it has.
async fn provide(context: &Context, timers: &Timers, key: &Key, claim: &PersistentVolumeClaim) -> kube::Result<Again> {
    let Some(spec) = &claim.spec else { return Ok(None) };
    let ours = spec.storage_class_name.as_deref() != Some("");
    if !ours || claim.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let wanted = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref()?.get("storage"));
    let wanted = wanted.map_or_else(|| "1Gi".to_owned(), |size| size.0.clone());
    let status = claim.status.as_ref();
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    let has = status.and_then(|status| status.capacity.as_ref()?.get("storage").map(|size| size.0.as_str()));
    if (bound && has == Some(wanted.as_str())) || (!bound && spec.volume_name.is_some()) {
        return Ok(None);
    }
    if let Some(left) = timers.left(key, &wanted, context.pace.bind) {
        return Ok(Some(left));
    }
    if bound {
        grow(context, key, spec.volume_name.as_deref().unwrap_or_default(), &wanted).await
    } else {
        make_volume(context, key, claim, &wanted).await
    }
}

async fn make_volume(context: &Context, key: &Key, claim: &PersistentVolumeClaim, size: &str) -> kube::Result<Again> {
    let spec = claim.spec.clone().unwrap_or_default();
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let name = format!("pvc-{uid}");
    let mode = spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned());
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": size}, "accessModes": spec.access_modes, "volumeMode": mode,
            "storageClassName": spec.storage_class_name, "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": PROVISIONER, "volumeHandle": name},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": key.namespace, "name": key.name, "uid": uid},
        },
    });
    let volume: PersistentVolume = serde_json::from_value(volume).map_err(kube::Error::SerdeError)?;
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    unless_there(volumes.create(&PostParams::default(), &volume).await).map(|_| None)
}

async fn grow(context: &Context, key: &Key, volume: &str, size: &str) -> kube::Result<Again> {
    let params = PatchParams::default();
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let grown = json!({"spec": {"capacity": {"storage": size}}});
    unless_gone(volumes.patch(volume, &params, &Patch::Merge(grown)).await)?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let grown = json!({"status": {"capacity": {"storage": size}}});
    unless_gone(claims.patch_status(&key.name, &params, &Patch::Merge(grown)).await).map(|_| None)
}

/// Removes a volume that was ours and that its claim has let go of.
async fn remove(context: &Context, volume: &PersistentVolume) -> kube::Result<Again> {
    let spec = volume.spec.clone().unwrap_or_default();
    let ours = spec.csi.is_some_and(|csi| csi.driver == PROVISIONER);
    let released = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
    let goes = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    if ours && released && goes && volume.metadata.deletion_timestamp.is_none() {
        let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
        let name = volume.metadata.name.clone().unwrap_or_default();
        unless_gone(volumes.delete(&name, &DeleteParams::default()).await)?;
    }
    Ok(None)
}
