//! Plays the volume controller of the controller manager: claims are bound to the volumes that were made for them, and volumes are released
//! when their claim is gone.

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, unless_gone, work_off},
};
use steading_kubesim::Key;

/// Runs until `cancel`.
pub async fn run(context: Context, cancel: CancellationToken) {
    let client = || context.client.clone();
    let (claims, seen_claims) = follow(Api::<PersistentVolumeClaim>::all(client()), watcher::Config::default());
    let (volumes, seen_volumes) = follow(Api::<PersistentVolume>::all(client()), watcher::Config::default());
    let of_volumes = volumes.clone();
    // A volume is looked at; a claim by the volumes that were made for it, of which there is one.
    let of_claims = seen_claims.flat_map(move |seen| {
        let uid = seen.object.metadata.uid.clone().unwrap_or_default();
        let own = of_volumes.get(&Key::new("", &format!("pvc-{uid}")));
        futures::stream::iter(own.map(|volume| Key::new("", &volume.name_any())))
    });
    let keys = futures::stream::select(of_claims.boxed(), seen_volumes.map(|seen| seen.key).boxed());
    work_off(&context.time, cancel, keys, |key| {
        let (context, claims, volumes) = (context.clone(), claims.clone(), volumes.clone());
        async move {
            match volumes.get(&key) {
                Some(volume) => sync(&context, &claims, &volume).await,
                None => Ok(None),
            }
        }
    })
    .await;
}

async fn sync(
    context: &Context,
    claims: &Cache<PersistentVolumeClaim>,
    volume: &PersistentVolume,
) -> kube::Result<Again> {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else {
        return Ok(None);
    };
    let key = Key::new(
        &reference.namespace.unwrap_or_default(),
        &reference.name.unwrap_or_default(),
    );
    let claim = claims.get(&key).filter(|claim| claim.metadata.uid == reference.uid);
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let Some(claim) = claim else {
        // A claim that was not seen yet has a volume that was never bound.
        if phase == Some("Bound") {
            tell(context, volume, "Released").await?;
        }
        return Ok(None);
    };
    let name = volume.name_any();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let params = PatchParams::default();
    if claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_none()) {
        let bind = json!({
            "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": name},
        });
        unless_gone(api.patch(&key.name, &params, &Patch::Merge(bind)).await)?;
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        let spec = volume.spec.clone().unwrap_or_default();
        let capacity: Value = json!(spec.capacity);
        let bound = json!({"status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": capacity}});
        unless_gone(api.patch_status(&key.name, &params, &Patch::Merge(bound)).await)?;
    }
    if phase != Some("Bound") {
        tell(context, volume, "Bound").await?;
    }
    Ok(None)
}

async fn tell(context: &Context, volume: &PersistentVolume, phase: &str) -> kube::Result<()> {
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    let patch = Patch::Merge(json!({"status": {"phase": phase}}));
    unless_gone(
        api.patch_status(&volume.name_any(), &PatchParams::default(), &patch)
            .await,
    )
    .map(|_| ())
}
