//! Plays CDI and a storage provisioner: DataVolumes get their claims, claims get their volumes, sources fill them.

mod claims;

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use steading_infra::{
    cdi::{DataSource, DataVolume, DataVolumePhase, DataVolumeSource},
    snapshot::VolumeSnapshot,
};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    drive::{Again, Cache, follow, key_of, unless_gone, unless_there, work_off},
    timers::{Timers, controller_of, owned_by},
};
use steading_kubesim::Key;

pub use claims::{DEFAULT_CLASS, SNAPSHOT_CLASS};

/// Annotation of a DataVolume whose source is not to answer.
pub const FAIL_IMPORT: &str = "sim.steading.dev/fail-import";
/// Pause before something that is waited for is looked at again.
const RETRY: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct Importer {
    context: Context,
    volumes: Cache<DataVolume>,
    claims: Cache<PersistentVolumeClaim>,
    timers: Timers,
}

/// Runs until `cancel`.
pub async fn run(context: Context, cancel: CancellationToken) {
    claims::seed(&context).await;
    let (volumes, seen_volumes) = follow(
        Api::<DataVolume>::all(context.client.clone()),
        watcher::Config::default(),
    );
    let (claims, seen_claims) = follow(
        Api::<PersistentVolumeClaim>::all(context.client.clone()),
        watcher::Config::default(),
    );
    let importer = Importer {
        timers: Timers::new(&context),
        context: context.clone(),
        volumes,
        claims,
    };
    let of_claims = seen_claims
        .filter_map(|seen| {
            let owner = controller_of(seen.object.as_ref(), "DataVolume");
            std::future::ready(owner.map(|name| Key::new(&seen.key.namespace, &name)))
        })
        .boxed();
    let keys = futures::stream::select(seen_volumes.map(|seen| seen.key), of_claims);
    let fill = work_off(&context.time, cancel.clone(), keys.boxed(), |key| {
        let importer = importer.clone();
        async move { importer.sync(&key).await }
    });
    tokio::join!(
        fill,
        claims::run(context.clone(), cancel.clone()),
        sources(context.clone(), cancel.clone())
    );
}

/// What fills a claim, and how much it needs at least.
struct Source {
    phase: DataVolumePhase,
    size: Option<String>,
    takes: Duration,
}

impl Importer {
    async fn sync(&self, key: &Key) -> kube::Result<Again> {
        let Some(volume) = self.volumes.get(key) else {
            self.timers.forget(key);
            return Ok(None);
        };
        let phase = volume.status.as_ref().and_then(|status| status.phase.clone());
        if phase == Some(DataVolumePhase::Succeeded) || volume.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let Some(source) = self.resolve(&volume, key).await? else {
            self.tell(
                &volume,
                &DataVolumePhase::Pending,
                "N/A",
                Some("the source does not exist or is not ready"),
            )
            .await?;
            return Ok(Some(RETRY));
        };
        let Some(claim) = self.claims.get(key) else {
            return self.make_claim(&volume, key, source.size.as_deref()).await;
        };
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        if !bound {
            self.tell(&volume, &DataVolumePhase::Pending, "N/A", None).await?;
            return Ok(None);
        }
        if volume.annotations().contains_key(FAIL_IMPORT) {
            self.timers.reset(key, "fill");
            self.tell(
                &volume,
                &source.phase,
                "N/A",
                Some("Unable to connect to the data source"),
            )
            .await?;
            return Ok(Some(RETRY));
        }
        if let Some(left) = self.timers.left(key, "fill", source.takes) {
            self.tell(&volume, &source.phase, "42.00%", None).await?;
            return Ok(Some(left));
        }
        self.tell(&volume, &DataVolumePhase::Succeeded, "100.0%", None).await
    }

    /// `None` while the source is not there.
    async fn resolve(&self, volume: &DataVolume, key: &Key) -> kube::Result<Option<Source>> {
        let source = match (&volume.spec.source, &volume.spec.source_ref) {
            (Some(source), _) => source.clone(),
            (None, Some(reference)) => {
                let namespace = reference.namespace.clone().unwrap_or_else(|| key.namespace.clone());
                let api: Api<DataSource> = Api::namespaced(self.context.client.clone(), &namespace);
                match api.get_opt(&reference.name).await? {
                    Some(found) => found.spec.source,
                    None => return Ok(None),
                }
            }
            (None, None) => DataVolumeSource::default(),
        };
        let import = self.context.pace.import;
        if let Some(pvc) = &source.pvc {
            return Ok(self
                .size_of_claim(&Key::new(&pvc.namespace, &pvc.name))
                .map(|size| Source {
                    phase: DataVolumePhase::CsiCloneInProgress,
                    size: Some(size),
                    takes: import / 4,
                }));
        }
        if let Some(snapshot) = &source.snapshot {
            let api: Api<VolumeSnapshot> = Api::namespaced(self.context.client.clone(), &snapshot.namespace);
            let status = api.get_opt(&snapshot.name).await?.and_then(|found| found.status);
            return Ok(status
                .filter(|status| status.ready_to_use == Some(true))
                .map(|status| Source {
                    phase: DataVolumePhase::CloneFromSnapshotSourceInProgress,
                    size: status.restore_size.map(|size| size.0),
                    takes: import / 4,
                }));
        }
        let takes = if source.http.is_some() || source.registry.is_some() {
            import
        } else {
            Duration::ZERO
        };
        Ok(Some(Source {
            phase: DataVolumePhase::ImportInProgress,
            size: None,
            takes,
        }))
    }

    /// Size of a claim that is filled.
    fn size_of_claim(&self, key: &Key) -> Option<String> {
        let filled = self.volumes.get(key).is_none_or(|volume| {
            volume.status.as_ref().and_then(|status| status.phase.as_ref()) == Some(&DataVolumePhase::Succeeded)
        });
        let capacity = self.claims.get(key).filter(|_| filled)?.status.clone()?.capacity?;
        capacity.get("storage").map(|size| size.0.clone())
    }

    async fn make_claim(&self, volume: &DataVolume, key: &Key, least: Option<&str>) -> kube::Result<Again> {
        let mut spec = match (&volume.spec.pvc, &volume.spec.storage) {
            (Some(pvc), _) => json!(pvc),
            (None, storage) => json!(storage.clone().unwrap_or_default()),
        };
        let defaults =
            json!({ "accessModes": ["ReadWriteMany"], "volumeMode": "Block", "storageClassName": DEFAULT_CLASS });
        for (field, value) in defaults.as_object().into_iter().flatten() {
            if spec[field].is_null() {
                spec[field] = value.clone();
            }
        }
        if spec.pointer("/resources/requests/storage").is_none() {
            spec["resources"] = json!({ "requests": { "storage": least.unwrap_or("1Gi") } });
        }
        let mut labels = volume.metadata.labels.clone().unwrap_or_default();
        labels.insert("app".to_owned(), "containerized-data-importer".to_owned());
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": key.name, "namespace": key.namespace, "labels": labels, "ownerReferences": [owned_by(volume)],
                "annotations": { "cdi.kubevirt.io/storage.usePopulator": "true" },
            },
            "spec": spec,
        });
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).map_err(kube::Error::SerdeError)?;
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &key.namespace);
        unless_there(api.create(&PostParams::default(), &claim).await)?;
        Ok(None)
    }

    /// Writes the status if it says something new.
    async fn tell(
        &self,
        volume: &DataVolume,
        phase: &DataVolumePhase,
        progress: &str,
        trouble: Option<&str>,
    ) -> kube::Result<Again> {
        let done = *phase == DataVolumePhase::Succeeded;
        let started = done || *phase != DataVolumePhase::Pending;
        let status = |yes: bool| if yes { "True" } else { "False" };
        let now = self.context.stamp();
        let condition = |type_: &str, yes: bool, reason: &str, message: &str| {
            json!({
                "type": type_, "status": status(yes), "reason": reason, "message": message,
                "lastTransitionTime": now, "lastHeartbeatTime": now,
            })
        };
        let running = if done {
            "Completed"
        } else if trouble.is_some() {
            "Error"
        } else {
            "Running"
        };
        let conditions = json!([
            condition("Bound", started, if started { "Bound" } else { "Pending" }, ""),
            condition(
                "Ready",
                done,
                if trouble.is_some() { "Error" } else { "" },
                trouble.unwrap_or_default()
            ),
            condition(
                "Running",
                started && !done && trouble.is_none(),
                running,
                trouble.unwrap_or_default()
            ),
        ]);
        let known = volume.status.clone().unwrap_or_default();
        let same_trouble = known
            .conditions
            .iter()
            .find(|found| found.type_ == "Ready")
            .and_then(|found| found.message.as_deref())
            .unwrap_or_default()
            == trouble.unwrap_or_default();
        if known.phase.as_ref() == Some(phase) && same_trouble {
            return Ok(None);
        }
        let key = key_of(volume);
        let restarts = known.restart_count.unwrap_or(0) + i32::from(trouble.is_some());
        let patch = json!({ "status": {
            "phase": phase, "progress": progress, "claimName": volume.name_any(), "conditions": conditions, "restartCount": restarts,
        }});
        let api: Api<DataVolume> = Api::namespaced(self.context.client.clone(), &key.namespace);
        unless_gone(
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(None)
    }
}

/// DataSources are ready when what they point at is filled.
async fn sources(context: Context, cancel: CancellationToken) {
    let (sources, seen) = follow(
        Api::<DataSource>::all(context.client.clone()),
        watcher::Config::default(),
    );
    work_off(&context.time, cancel, seen.map(|seen| seen.key).boxed(), |key| {
        let (context, sources) = (context.clone(), sources.clone());
        async move {
            let Some(source) = sources.get(&key) else {
                return Ok(None);
            };
            let ready = is_filled(&context, &source.spec.source).await?;
            let known = source
                .status
                .as_ref()
                .and_then(|status| status.conditions.first())
                .map(|found| found.status.clone());
            let wanted = if ready { "True" } else { "False" };
            if known.as_deref() != Some(wanted) {
                let api: Api<DataSource> = Api::namespaced(context.client.clone(), &key.namespace);
                let condition: Value = json!({
                    "type": "Ready", "status": wanted, "reason": if ready { "Ready" } else { "NoSource" },
                    "message": if ready { "DataSource is ready to be consumed" } else { "No source PVC set" },
                    "lastTransitionTime": context.stamp(), "lastHeartbeatTime": context.stamp(),
                });
                let patch = json!({ "status": { "source": source.spec.source, "conditions": [condition] } });
                // CDI's DataSources have no status subresource.
                unless_gone(
                    api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                        .await,
                )?;
            }
            Ok((!ready).then_some(RETRY))
        }
    })
    .await;
}

async fn is_filled(context: &Context, source: &DataVolumeSource) -> kube::Result<bool> {
    if let Some(snapshot) = &source.snapshot {
        let api: Api<VolumeSnapshot> = Api::namespaced(context.client.clone(), &snapshot.namespace);
        return Ok(api
            .get_opt(&snapshot.name)
            .await?
            .and_then(|found| found.status?.ready_to_use)
            .unwrap_or(false));
    }
    let Some(pvc) = &source.pvc else { return Ok(false) };
    let volumes: Api<DataVolume> = Api::namespaced(context.client.clone(), &pvc.namespace);
    if let Some(volume) = volumes.get_opt(&pvc.name).await? {
        return Ok(volume.status.and_then(|status| status.phase) == Some(DataVolumePhase::Succeeded));
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &pvc.namespace);
    Ok(claims
        .get_opt(&pvc.name)
        .await?
        .and_then(|claim| claim.status?.phase)
        .as_deref()
        == Some("Bound"))
}
