//! Templates: a revision for the present content, also of templates that were applied with `kubectl`, the verdict whether
//! machines can be made from it, and no more old revisions than wanted.

use std::sync::Arc;

use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use steading_infra::{
    apply::{FieldManager, apply_status},
    cdi::DataSource,
    crd::machine_template::{MachineTemplate, MachineTemplateSpec},
    kubevirt::{VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};
use steading_model::name::{ImageName, InstanceTypeName, MachineTemplateName, PreferenceName};
use steading_runtime::clock::Clock;

use super::{RESYNC, RETRY};
use crate::{
    apply::revision::{collect, ensure},
    error::Error,
    observe::{catalogue::check, image::require_contents, revisions::api},
    plan::status::{Verdict, changed, plan_status},
};

/// Pause after which a template is looked at again whose references are missing.
const RECHECK: std::time::Duration = std::time::Duration::from_secs(15);

struct Context {
    kube: Client,
    clock: Clock,
}

/// What did not work.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// Nothing is known.
    #[error("the infra cluster cannot be asked")]
    Unknown(#[source] Error),
    /// The status could not be written.
    #[error("status cannot be written")]
    Status(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs for ever. A change of a catalogue entry is a reason to look at the templates that name it.
pub async fn run(kube: Client, clock: Clock) {
    let templates = Controller::new(Api::<MachineTemplate>::all(kube.clone()), watcher::Config::default());
    let of_types = naming(templates.store(), |object: VirtualMachineClusterInstancetype| {
        InstanceTypeName::from_object_name(&object.name_any()).map(|name| name.to_string())
    });
    let of_preferences = naming(templates.store(), |object: VirtualMachineClusterPreference| {
        PreferenceName::from_object_name(&object.name_any()).map(|name| name.to_string())
    });
    let of_images = naming(templates.store(), |object: DataSource| {
        ImageName::from_object_name(&object.name_any()).map(|name| name.to_string())
    });
    let types: Api<VirtualMachineClusterInstancetype> = Api::all(kube.clone());
    let preferences: Api<VirtualMachineClusterPreference> = Api::all(kube.clone());
    let images: Api<DataSource> = Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE);
    let context = Arc::new(Context { kube, clock });
    templates
        .watches(types, watcher::Config::default(), of_types)
        .watches(preferences, watcher::Config::default(), of_preferences)
        .watches(images, watcher::Config::default().labels(labels::IMAGE), of_images)
        .run(
            reconcile,
            |_, error, _| {
                tracing::warn!(%error, "machine template cannot be reconciled yet");
                Action::requeue(RETRY)
            },
            context,
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

/// The templates that name a catalogue entry.
fn naming<K>(
    templates: Store<MachineTemplate>,
    name_of: impl Fn(K) -> Option<String> + Send + Sync + 'static,
) -> impl Fn(K) -> Vec<ObjectRef<MachineTemplate>> + Send + Sync + 'static {
    move |object| {
        let Some(name) = name_of(object) else {
            return Vec::new();
        };
        let state = templates.state();
        let users = state
            .iter()
            .filter(|template| names(&template.spec).any(|n| *n == name));
        users.map(|template| ObjectRef::from_obj(template.as_ref())).collect()
    }
}

/// What a template names of the catalogue.
fn names(spec: &MachineTemplateSpec) -> impl Iterator<Item = &String> {
    let of_disks = spec.disks.iter().filter_map(|disk| disk.image.as_ref());
    spec.instance_type
        .iter()
        .chain(&spec.preference)
        .chain(&spec.root_disk.image)
        .chain(of_disks)
}

async fn reconcile(template: Arc<MachineTemplate>, context: Arc<Context>) -> Result<Action, Fault> {
    let name = MachineTemplateName::from_object_name(&template.name_any());
    let Some(name) = name.filter(|_| template.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let verdict = verdict(&context.kube, &name, &template).await?;
    if let Some(status) = plan_status(&template, &verdict, context.clock.now()) {
        let api: Api<MachineTemplate> = Api::all(context.kube.clone());
        apply_status(&api, FieldManager::Templating, &template.name_any(), &status)
            .await
            .map_err(|e| Fault::Status(e.into()))?;
        if let Err(refusal) = &verdict.accepted {
            tracing::info!(template = %name, refusal, "machine template refused");
        }
    }
    collect(&context.kube, &name, &template).await.map_err(Fault::Unknown)?;
    let settled = verdict.accepted.is_ok() && verdict.changed.is_some();
    Ok(Action::requeue(if settled { RESYNC } else { RECHECK }))
}

/// Stores the revision if need be and compares it with what the catalogue has. Unknown is not invalid: it is an error.
async fn verdict(kube: &Client, name: &MachineTemplateName, template: &MachineTemplate) -> Result<Verdict, Fault> {
    let known = |error: Error| {
        if error.is_unknown() {
            Err(Fault::Unknown(error))
        } else {
            Ok(error.to_string())
        }
    };
    let (id, revision) = match ensure(kube, name, template).await {
        Ok(stored) => stored,
        Err(error) => {
            return Ok(Verdict {
                accepted: Err(known(error)?),
                revision: None,
                changed: None,
            });
        }
    };
    let object = api(kube)
        .get(&crate::domain::revision::object_name(&name.object_name(), &id))
        .await
        .map_err(|error| Fault::Unknown(Error::infra("MachineTemplateRevision", &id)(error)))?;
    let accepted = match require_contents(kube, &id, &revision.resolved).await {
        Ok(()) => Ok(()),
        Err(error) => Err(known(error)?),
    };
    let changed = match check(kube, &name.project, &template.spec).await {
        Ok(present) => Some(changed(&revision.resolved, &present)),
        Err(error) => {
            known(error)?;
            None
        }
    };
    Ok(Verdict {
        accepted,
        revision: Some((id, object.revision)),
        changed,
    })
}
