//! Plays the snapshot controller: a VolumeSnapshot of a bound claim becomes ready to use.

use futures::StreamExt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;
use steading_infra::snapshot::VolumeSnapshot;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, unless_gone, work_off},
    timers::Timers,
};
use steading_kubesim::Key;

/// Pause before a snapshot of a claim that is not there or not bound is looked at again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs until `cancel`.
pub async fn run(context: Context, cancel: CancellationToken) {
    let (snapshots, seen) = follow(
        Api::<VolumeSnapshot>::all(context.client.clone()),
        watcher::Config::default(),
    );
    let timers = Timers::new(&context);
    work_off(&context.time, cancel, seen.map(|seen| seen.key).boxed(), |key| {
        let (context, snapshots, timers) = (context.clone(), snapshots.clone(), timers.clone());
        async move { sync(&context, &snapshots, &timers, &key).await }
    })
    .await;
}

async fn sync(context: &Context, snapshots: &Cache<VolumeSnapshot>, timers: &Timers, key: &Key) -> kube::Result<Again> {
    let Some(snapshot) = snapshots.get(key) else {
        timers.forget(key);
        return Ok(None);
    };
    if snapshot.status.as_ref().and_then(|status| status.ready_to_use) == Some(true) {
        return Ok(None);
    }
    let Some(claim) = snapshot.spec.source.persistent_volume_claim_name.clone() else {
        return Ok(None);
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let size = claims
        .get_opt(&claim)
        .await?
        .and_then(|claim| claim.status)
        .filter(|status| status.phase.as_deref() == Some("Bound"))
        .and_then(|status| status.capacity?.get("storage").cloned());
    let Some(size) = size else { return Ok(Some(RETRY)) };
    if let Some(left) = timers.left(key, "take", context.pace.snapshot) {
        return Ok(Some(left));
    }
    let uid = snapshot.metadata.uid.clone().unwrap_or_default();
    let patch = json!({ "status": {
        "readyToUse": true, "creationTime": context.stamp(), "restoreSize": size,
        "boundVolumeSnapshotContentName": format!("snapcontent-{uid}"),
    }});
    let api: Api<VolumeSnapshot> = Api::namespaced(context.client.clone(), &key.namespace);
    unless_gone(
        api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await,
    )?;
    Ok(None)
}
