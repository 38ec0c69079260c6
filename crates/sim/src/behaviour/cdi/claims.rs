//! Plays the provisioner: storage classes, and a volume for every claim. Claims grow when they are asked to.

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
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
use crate::apiserver::Key;

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

/// Binds and grows claims until `cancel`.
pub(super) async fn run(context: Context, cancel: CancellationToken) {
    let (claims, seen) = follow(
        Api::<PersistentVolumeClaim>::all(context.client.clone()),
        watcher::Config::default(),
    );
    let timers = Timers::new(&context);
    // A claim that is gone still tells its uid here, to find its volume by.
    let keys = seen.map(|seen| (seen.key, seen.object.metadata.uid.clone().unwrap_or_default()));
    work_off(&context.time, cancel, keys.boxed(), |(key, uid)| {
        let (context, claims, timers) = (context.clone(), claims.clone(), timers.clone());
        async move {
            let claim = claims
                .get(&key)
                .filter(|claim| claim.metadata.uid.as_deref() == Some(&uid));
            let Some(claim) = claim else {
                timers.forget(&key);
                let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
                unless_gone(volumes.delete(&format!("pvc-{uid}"), &DeleteParams::default()).await)?;
                return Ok(None);
            };
            sync(&context, &timers, &key, &claim, &uid).await
        }
    })
    .await;
}

async fn sync(
    context: &Context,
    timers: &Timers,
    key: &Key,
    claim: &PersistentVolumeClaim,
    uid: &str,
) -> kube::Result<Again> {
    let Some(spec) = &claim.spec else { return Ok(None) };
    let wanted = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref()?.get("storage"))
        .map(|size| size.0.clone());
    let wanted = wanted.unwrap_or_else(|| "1Gi".to_owned());
    let status = claim.status.clone().unwrap_or_default();
    let has = status
        .capacity
        .as_ref()
        .and_then(|capacity| capacity.get("storage"))
        .map(|size| size.0.as_str());
    if status.phase.as_deref() == Some("Bound") && has == Some(wanted.as_str()) {
        return Ok(None);
    }
    if let Some(left) = timers.left(key, &wanted, context.pace.bind) {
        return Ok(Some(left));
    }
    let name = format!("pvc-{uid}");
    let mode = spec.volume_mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": wanted}, "accessModes": spec.access_modes, "volumeMode": mode,
            "storageClassName": spec.storage_class_name, "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": PROVISIONER, "volumeHandle": name},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": key.namespace, "name": key.name, "uid": uid},
        },
    });
    let volume: PersistentVolume = serde_json::from_value(volume).map_err(kube::Error::SerdeError)?;
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let params = PatchParams::default();
    if unless_there(volumes.create(&PostParams::default(), &volume).await)?.is_some() {
        unless_gone(
            volumes
                .patch_status(&name, &params, &Patch::Merge(json!({"status": {"phase": "Bound"}})))
                .await,
        )?;
    } else {
        let grown = json!({"spec": {"capacity": {"storage": wanted}}});
        unless_gone(volumes.patch(&name, &params, &Patch::Merge(grown)).await)?;
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    if spec.volume_name.is_none() {
        let bind = json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": name},
        });
        unless_gone(claims.patch(&key.name, &params, &Patch::Merge(bind)).await)?;
    }
    let bound =
        json!({"status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": {"storage": wanted}}});
    unless_gone(claims.patch_status(&key.name, &params, &Patch::Merge(bound)).await)?;
    Ok(None)
}
