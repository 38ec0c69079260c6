//! Images: a golden disk for the wanted content, the DataSource pointed at it when it is ready, old ones deleted when nothing
//! needs them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        watcher,
    },
};
use steading_infra::{
    cdi::{DataSource, DataVolume},
    labels,
};
use steading_model::name::ImageName;
use steading_runtime::clock::Clock;

use super::{RESYNC, RETRY};
use crate::{
    apply::image::{Leftovers, carry_out},
    domain::image::{ImageStatus, ImportPhase},
    error::Error,
    observe::image::{golden_disks, read_spec, read_status},
    plan::image::plan_image,
    validate,
};

/// Pause after which golden disks are looked at again that are being cloned: a clone takes seconds to minutes.
const CLONES: Duration = Duration::from_secs(10);

struct Context {
    kube: Client,
    clock: Clock,
    events: Recorder,
}

/// Runs for ever.
pub async fn run(kube: Client, clock: Clock) {
    let sources: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let volumes: Api<DataVolume> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let ours = watcher::Config::default().labels(labels::IMAGE);
    let reporter = Reporter {
        controller: labels::TEMPLATING_MANAGER.into(),
        instance: None,
    };
    let events = Recorder::new(kube.clone(), reporter);
    let context = Arc::new(Context { kube, clock, events });
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

async fn reconcile(source: Arc<DataSource>, context: Arc<Context>) -> Result<Action, Error> {
    let Some(spec) = read_spec(&source).filter(|_| source.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let name = source.name_any();
    let refusal = match ImageName::from_object_name(&name) {
        Some(parsed) => validate::image(&parsed.scope, &spec).err().map(|all| all.to_string()),
        None => Some(format!("{name} is not the name of an image")),
    };
    let disks = golden_disks(&context.kube, &name).await?;
    let before = read_status(&source);
    let plan = plan_image(&spec, refusal.as_deref(), &before, &disks, context.clock.now());
    let leftovers = carry_out(&context.kube, &source, &spec, &plan).await?;
    tell(&context, &source, &before, &plan.status).await;
    Ok(Action::requeue(match leftovers {
        Leftovers::Settled => RESYNC,
        Leftovers::BeingCloned => CLONES,
    }))
}

/// An Event on the DataSource when an import fails or ends. Best effort: the image's status says the same.
async fn tell(context: &Context, source: &DataSource, before: &ImageStatus, now: &ImageStatus) {
    let was = Some(before.phase).filter(|_| before.wanted == now.wanted);
    if was == Some(now.phase) {
        return;
    }
    let (type_, reason, note) = match now.phase {
        ImportPhase::Failed => (EventType::Warning, "ImportFailed", now.failure.clone()),
        ImportPhase::Ready => (
            EventType::Normal,
            "Imported",
            format!("content {} can be cloned", now.wanted),
        ),
        ImportPhase::Pending | ImportPhase::Importing => return,
    };
    tracing::info!(image = source.name_any(), reason, note, "image changed");
    let event = Event {
        type_,
        reason: reason.into(),
        note: Some(note),
        action: "Import".into(),
        secondary: None,
    };
    if let Err(error) = context.events.publish(&event, &source.object_ref(&())).await {
        tracing::debug!(%error, image = source.name_any(), "event cannot be written");
    }
}
