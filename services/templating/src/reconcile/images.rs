//! Images: a golden disk for the wanted content, the DataSource pointed at it when it is ready, old ones deleted when nothing
//! needs them.

use std::time::Duration;

use kube::{
    Api, Resource, ResourceExt,
    runtime::events::{Event, EventType},
};
use steading_controller::{Fresh, Outcome};
use steading_infra::{cdi::DataSource, labels};
use steading_model::name::ImageName;

use super::pass::Pass;
use crate::{
    apply::image::{Leftovers, carry_out, with_plan},
    domain::{
        ImageSpec,
        image::{GoldenDisk, ImageStatus, ImportPhase},
    },
    error::Error,
    observe::image::{golden_disks, read_spec, read_status},
    plan::image::{ImagePlan, plan_image},
    validate,
};

/// Pause after which golden disks are looked at again that are being cloned, if nothing is heard of the clones before.
const CLONES: Duration = Duration::from_secs(30);
/// Pause before an image is looked at again that changed while it was worked on.
const CROSSED: Duration = Duration::from_millis(50);

impl Pass {
    pub(super) async fn reconcile_image(&self, name: &str) -> Result<Outcome, Error> {
        let Some(seen) = self.seen.images.index().get(labels::SYSTEM_NAMESPACE, name) else {
            return Ok(Outcome::Settled);
        };
        match self.plan(&seen, &self.seen.golden_disks(name)) {
            Some((_, plan)) if self.is_work(&seen, &plan) => {}
            Some(_) | None => return Ok(Outcome::Settled),
        }
        let api: Api<DataSource> = Api::namespaced(self.kube.clone(), labels::SYSTEM_NAMESPACE);
        let source = Fresh::get(&api, name).await.map_err(Error::infra("Image", name))?;
        let Some(source) = source else {
            return Ok(Outcome::Settled);
        };
        let disks = golden_disks(&self.kube, name).await?;
        let Some((spec, plan)) = self.plan(&source, &disks) else {
            return Ok(Outcome::Settled);
        };
        let before = read_status(&source);
        let object = source.object_ref(&());
        let leftovers = carry_out(&self.kube, &source, &spec, &plan).await?;
        self.tell(name, &object, &before, &plan.status).await;
        Ok(match leftovers {
            Leftovers::Settled => Outcome::Settled,
            Leftovers::BeingCloned => Outcome::Again(CLONES),
            Leftovers::Changed => Outcome::Again(CROSSED),
        })
    }

    /// What is wanted of an image and what is to be done for it; `None` if it is none, or is being deleted.
    fn plan(&self, source: &DataSource, disks: &[GoldenDisk]) -> Option<(ImageSpec, ImagePlan)> {
        let spec = read_spec(source).filter(|_| source.metadata.deletion_timestamp.is_none())?;
        let name = source.name_any();
        let refusal = match ImageName::from_object_name(&name) {
            Some(parsed) => validate::image(&parsed.scope, &spec).err().map(|all| all.to_string()),
            None => Some(format!("{name} is not the name of an image")),
        };
        let plan = plan_image(&spec, refusal.as_deref(), &read_status(source), disks, self.now());
        Some((spec, plan))
    }

    /// Whether a plan from what is seen does anything. Golden disks that are seen in use wait until that changes.
    fn is_work(&self, source: &DataSource, plan: &ImagePlan) -> bool {
        let name = source.name_any();
        let is_free = |volume: &String| !self.seen.is_in_revision(&name, volume) && !self.seen.is_being_cloned(volume);
        plan.create.is_some()
            || with_plan(source, plan).is_ok_and(|wanted| wanted != *source)
            || plan.unwanted.iter().any(is_free)
    }

    /// An Event on the DataSource when an import fails or ends. Best effort: the image's status says the same.
    async fn tell(
        &self,
        image: &str,
        object: &k8s_openapi::api::core::v1::ObjectReference,
        before: &ImageStatus,
        now: &ImageStatus,
    ) {
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
        tracing::info!(image, reason, note, "image changed");
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: "Import".into(),
            secondary: None,
        };
        if let Err(error) = self.events.publish(&event, object).await {
            tracing::debug!(%error, image, "event cannot be written");
        }
    }
}
