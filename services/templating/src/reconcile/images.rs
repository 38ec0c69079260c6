//! Images: a golden DataVolume for the wanted content, the DataSource pointed at it when it is there, old ones deleted.

use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::{Value, json};
use steading_infra::{
    cdi::{DataSource, DataVolume, DataVolumePhase},
    labels,
};
use steading_runtime::clock::Clock;

use super::{RESYNC, RETRY};
use crate::{
    api::{
        convert::image::{read_spec, read_status},
        images::pointing_at,
    },
    domain::image::{CONTENT_LABEL, ImageSpec, ImageStatus, ImportPhase, STATUS_ANNOTATION},
    render,
};

struct Context {
    kube: Client,
    clock: Clock,
}

/// A golden DataVolume as the plan sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    name: String,
    content: String,
    phase: ImportPhase,
    progress: i32,
    restarts: i32,
    failure: String,
}

/// What is to be done for one image.
#[derive(Debug, Clone, PartialEq)]
struct ImagePlan {
    /// Content to import.
    create: Option<String>,
    /// Content that the DataSource should point at.
    point_at: String,
    /// DataVolumes that nobody needs any more.
    delete: Vec<String>,
    /// What should be said of the image.
    status: ImageStatus,
}

/// Runs for ever.
pub async fn run(kube: Client, clock: Clock) {
    let sources: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let volumes: Api<DataVolume> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let ours = watcher::Config::default().labels(labels::IMAGE);
    let context = Arc::new(Context { kube, clock });
    Controller::new(sources, ours.clone())
        .owns(volumes, ours)
        .run(
            reconcile,
            |_, error, _| {
                tracing::warn!(%error, "image cannot be reconciled yet");
                Action::requeue(RETRY)
            },
            context,
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(source: Arc<DataSource>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let Some(spec) = read_spec(&source).filter(|_| source.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let name = source.name_any();
    let volumes: Api<DataVolume> = Api::namespaced(context.kube.clone(), labels::SYSTEM_NAMESPACE);
    let own = ListParams::default().labels(&format!("{}={name}", labels::IMAGE));
    let seen: Vec<Seen> = volumes.list(&own).await?.iter().map(observe).collect();
    let plan = plan(&name, &spec, &read_status(&source), &seen, context.clock.now());
    apply(&source, &spec, &plan, &context.kube).await?;
    Ok(Action::requeue(RESYNC))
}

fn observe(volume: &DataVolume) -> Seen {
    let status = volume.status.clone().unwrap_or_default();
    let running = status.conditions.iter().find(|c| c.type_ == "Running");
    let failing = running.filter(|c| c.reason.as_deref() == Some("Error"));
    let phase = match status.phase {
        None | Some(DataVolumePhase::Pending) => ImportPhase::Pending,
        Some(DataVolumePhase::Succeeded) => ImportPhase::Ready,
        Some(DataVolumePhase::Failed) => ImportPhase::Failed,
        Some(_) => ImportPhase::Importing,
    };
    let percent = status
        .progress
        .as_deref()
        .and_then(|p| p.trim_end_matches('%').split('.').next()?.parse().ok());
    let failure = failing
        .or(running.filter(|_| phase == ImportPhase::Failed))
        .and_then(|c| c.message.clone());
    Seen {
        name: volume.name_any(),
        content: volume.labels().get(CONTENT_LABEL).cloned().unwrap_or_default(),
        phase,
        progress: percent.unwrap_or_default(),
        restarts: status.restart_count.unwrap_or_default(),
        failure: failure.unwrap_or_default(),
    }
}

fn plan(name: &str, spec: &ImageSpec, before: &ImageStatus, seen: &[Seen], now: Timestamp) -> ImagePlan {
    let wanted = spec.content_id();
    let import = seen.iter().find(|s| s.content == wanted);
    let phase = import.map_or(ImportPhase::Pending, |s| s.phase);
    let ready = phase == ImportPhase::Ready;
    let still_there = seen
        .iter()
        .any(|s| s.content == before.content && s.phase == ImportPhase::Ready);
    let content = if ready {
        wanted.clone()
    } else if still_there {
        before.content.clone()
    } else {
        String::new()
    };
    let import_time = match (content.is_empty(), content == before.content) {
        (true, _) => None,
        (false, true) => before.import_time.clone().or(Some(Time(now))),
        (false, false) => Some(Time(now)),
    };
    let delete = seen
        .iter()
        .filter(|s| ready && s.content != wanted)
        .map(|s| s.name.clone())
        .collect();
    ImagePlan {
        create: import.is_none().then(|| wanted.clone()),
        point_at: ImageSpec::data_volume_name(name, if content.is_empty() { &wanted } else { &content }),
        delete,
        status: ImageStatus {
            phase,
            wanted,
            content,
            progress: import.map_or(0, |s| s.progress),
            import_time,
            restarts: import.map_or(0, |s| s.restarts),
            failure: import.map(|s| s.failure.clone()).unwrap_or_default(),
        },
    }
}

/// The import first, then the pointer with the status, deletions last: stopped anywhere, what is cloned is still there.
async fn apply(source: &DataSource, spec: &ImageSpec, plan: &ImagePlan, kube: &Client) -> Result<(), kube::Error> {
    let volumes: Api<DataVolume> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let sources: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    if let Some(content) = &plan.create {
        let volume = golden(source, spec, content).map_err(kube::Error::SerdeError)?;
        match volumes.create(&PostParams::default(), &volume).await {
            Ok(_) => tracing::info!(image = source.name_any(), content, "import begun"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error),
        }
    }
    let content = if plan.status.content.is_empty() {
        &plan.status.wanted
    } else {
        &plan.status.content
    };
    let mut wanted = source.clone();
    wanted.spec = pointing_at(&source.name_any(), content);
    let status = serde_json::to_string(&plan.status).map_err(kube::Error::SerdeError)?;
    wanted.annotations_mut().insert(STATUS_ANNOTATION.into(), status);
    if wanted != *source {
        // With the resource version that was read: a change that was not seen is not overwritten.
        sources
            .replace(&source.name_any(), &PostParams::default(), &wanted)
            .await?;
    }
    for name in &plan.delete {
        match volumes.delete(name, &DeleteParams::default()).await {
            Ok(_) => tracing::info!(image = source.name_any(), volume = name, "old content deleted"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The DataVolume of a content.
fn golden(source: &DataSource, spec: &ImageSpec, content: &str) -> Result<DataVolume, serde_json::Error> {
    let name = source.name_any();
    let origin = if let Some(http) = &spec.http {
        json!({"http": render::http_source(http)})
    } else if let Some(registry) = &spec.registry {
        json!({"registry": render::registry_source(registry)})
    } else {
        json!({"pvc": spec.pvc})
    };
    let mut storage = json!({"resources": {"requests": {"storage": spec.size}}});
    let texts = [
        ("storageClassName", &spec.storage_class),
        ("volumeMode", &spec.volume_mode),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        storage[key] = json!(text);
    }
    if !spec.access_mode.is_empty() {
        storage["accessModes"] = json!([spec.access_mode]);
    }
    let mut body = json!({"source": origin, "storage": storage});
    if spec.preallocation {
        body["preallocation"] = json!(true);
    }
    let mut labels_of_volume = json!({labels::IMAGE: name, CONTENT_LABEL: content,
        labels::MANAGED_BY: labels::MANAGED_BY_STEADING});
    if let Some(project) = source.labels().get(labels::PROJECT) {
        labels_of_volume[labels::PROJECT] = json!(project);
    }
    let volume: Value = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {
            "name": ImageSpec::data_volume_name(&name, content),
            "namespace": labels::SYSTEM_NAMESPACE,
            "labels": labels_of_volume,
            "annotations": {labels::CDI_DELETE_AFTER_COMPLETION: "false", labels::CDI_BIND_IMMEDIATE: "true"},
            "ownerReferences": source.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": body,
    });
    serde_json::from_value(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_spec(refresh: u64) -> ImageSpec {
        ImageSpec {
            size: "1Gi".into(),
            refresh,
            ..ImageSpec::default()
        }
    }

    fn mk_seen(spec: &ImageSpec, phase: ImportPhase) -> Seen {
        let content = spec.content_id();
        Seen {
            name: format!("ubuntu-{content}"),
            content,
            phase,
            progress: 40,
            restarts: 0,
            failure: String::new(),
        }
    }

    #[test]
    fn a_new_image_is_imported_and_pointed_at() {
        let (spec, now) = (mk_spec(0), Timestamp::UNIX_EPOCH);
        let first = plan("ubuntu", &spec, &ImageStatus::default(), &[], now);
        assert_eq!(first.create, Some(spec.content_id()));
        assert_eq!(first.status.phase, ImportPhase::Pending);
        let done = plan(
            "ubuntu",
            &spec,
            &first.status,
            &[mk_seen(&spec, ImportPhase::Ready)],
            now,
        );
        assert_eq!((done.create, done.status.content), (None, spec.content_id()));
        assert_eq!(done.status.import_time, Some(Time(now)));
    }

    #[test]
    fn the_old_content_is_cloned_until_the_new_one_is_there() {
        let (old, new, now) = (mk_spec(0), mk_spec(1), Timestamp::UNIX_EPOCH);
        let before = ImageStatus {
            phase: ImportPhase::Ready,
            wanted: old.content_id(),
            content: old.content_id(),
            ..ImageStatus::default()
        };
        let running = [mk_seen(&old, ImportPhase::Ready), mk_seen(&new, ImportPhase::Importing)];
        let during = plan("ubuntu", &new, &before, &running, now);
        assert_eq!(during.point_at, format!("ubuntu-{}", old.content_id()));
        assert_eq!(
            (during.delete.len(), during.status.content.clone()),
            (0, old.content_id())
        );
        let failed = [mk_seen(&old, ImportPhase::Ready), mk_seen(&new, ImportPhase::Failed)];
        assert_eq!(
            plan("ubuntu", &new, &during.status, &failed, now).status.content,
            old.content_id()
        );
        let there = [mk_seen(&old, ImportPhase::Ready), mk_seen(&new, ImportPhase::Ready)];
        let after = plan("ubuntu", &new, &during.status, &there, now);
        assert_eq!(after.point_at, format!("ubuntu-{}", new.content_id()));
        assert_eq!(after.delete, [format!("ubuntu-{}", old.content_id())]);
    }

    #[test]
    fn a_plan_that_is_done_is_a_fixed_point() {
        let (spec, now) = (mk_spec(0), Timestamp::UNIX_EPOCH);
        let seen = [mk_seen(&spec, ImportPhase::Ready)];
        let first = plan("ubuntu", &spec, &ImageStatus::default(), &seen, now);
        let later = Timestamp::from_second(100).expect("a time");
        assert_eq!(plan("ubuntu", &spec, &first.status, &seen, later), first);
    }
}
