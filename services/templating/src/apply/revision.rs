//! Storing revisions with what they are made of, and deleting those that nobody needs.

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::OwnerReference, runtime::RawExtension},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use steading_infra::{
    crd::machine_template::MachineTemplate,
    kubevirt::{VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};
use steading_model::name::MachineTemplateName;

use crate::{
    domain::{
        Resolved,
        machine::CatalogueEntry,
        revision::{Revision, Stored, content, object_name, plan_collection},
    },
    error::Error,
    observe::{
        catalogue::check,
        revisions::{KIND, api, find, id_of, latest_id, list, read},
        usage,
    },
};

/// Label of an object that keeps what a catalogue entry was: it belongs to revisions, not to the catalogue.
pub const PINNED: &str = "steading.dev/pinned";

/// The revision that a template stands for, stored if it is not yet. Whoever stores it first decides what the catalogue had
/// for it; everybody else gets that.
///
/// # Errors
/// If the template is not valid, or the API server does not answer.
pub async fn ensure(
    kube: &Client,
    name: &MachineTemplateName,
    template: &MachineTemplate,
) -> Result<(String, Revision), Error> {
    let id = latest_id(template);
    match find(kube, name, &id).await {
        Ok(revision) => return Ok((id, revision)),
        Err(Error::UnknownRevision(_)) => {}
        Err(error) => return Err(error),
    }
    let revision = Revision {
        template: content(&template.spec),
        resolved: check(kube, &name.project, &template.spec).await?,
    };
    // First, so that a stored revision is one from which machines can be made.
    pin(kube, &revision.resolved).await?;
    let object = controller_revision(name, template, &id, &revision)?;
    let number = object.revision;
    match api(kube).create(&PostParams::default(), &object).await {
        Ok(_) => {
            tracing::info!(template = %name, revision = id, number, "revision stored");
            Ok((id, revision))
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let stored = find(kube, name, &id).await?;
            Ok((id, stored))
        }
        Err(error) => Err(Error::infra(KIND, name.to_string())(error)),
    }
}

fn controller_revision(
    name: &MachineTemplateName,
    template: &MachineTemplate,
    id: &str,
    revision: &Revision,
) -> Result<ControllerRevision, Error> {
    let data = serde_json::to_value(revision).map_err(|_| Error::Unreadable(name.to_string()))?;
    Ok(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(object_name(&name.object_name(), id)),
            namespace: Some(labels::SYSTEM_NAMESPACE.into()),
            labels: Some(
                [
                    (labels::MACHINE_TEMPLATE, name.object_name()),
                    (labels::PROJECT, name.project.to_string()),
                    (labels::MANAGED_BY, labels::MANAGED_BY_STEADING.to_owned()),
                ]
                .map(|(k, v)| (k.to_owned(), v))
                .into(),
            ),
            owner_references: owner(template).map(|o| vec![o]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        // The API server counts a template's changes: no two contents have one number, whoever stores them, and a number
        // never changes.
        revision: template.metadata.generation.unwrap_or_default(),
    })
}

fn owner(template: &MachineTemplate) -> Option<OwnerReference> {
    template
        .controller_owner_ref(&())
        .filter(|_| template.meta().uid.is_some())
}

/// Makes sure that the objects exist by which KubeVirt is told a revision's instance type and preference.
///
/// # Errors
/// If the API server does not answer.
pub async fn pin(kube: &Client, resolved: &Resolved) -> Result<(), Error> {
    if let Some(entry) = &resolved.instance_type {
        pin_one::<VirtualMachineClusterInstancetype>(kube, "VirtualMachineClusterInstancetype", entry).await?;
    }
    if let Some(entry) = &resolved.preference {
        pin_one::<VirtualMachineClusterPreference>(kube, "VirtualMachineClusterPreference", entry).await?;
    }
    Ok(())
}

async fn pin_one<K>(kube: &Client, kind: &'static str, entry: &CatalogueEntry) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let name = entry.pinned_object();
    let api: Api<K> = Api::all(kube.clone());
    let found = api.get_metadata_opt(&name).await.map_err(Error::infra(kind, &name))?;
    if found.is_some() {
        return Ok(());
    }
    let object = json!({
        "apiVersion": K::api_version(&()),
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {PINNED: "true", labels::MANAGED_BY: labels::MANAGED_BY_STEADING},
        },
        "spec": entry.spec,
    });
    let object: K = serde_json::from_value(object).map_err(|_| Error::Unreadable(entry.name.clone()))?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => tracing::info!(name, of = entry.name, "catalogue entry pinned"),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(Error::infra(kind, name)(error)),
    }
    Ok(())
}

/// Deletes revisions that are neither needed nor wanted, and puts back what the others are made of.
///
/// # Errors
/// If the API server does not answer.
pub async fn collect(kube: &Client, name: &MachineTemplateName, template: &MachineTemplate) -> Result<(), Error> {
    let objects = list(kube, name).await?;
    let stored: Vec<Stored> = objects
        .iter()
        .filter_map(|r| {
            Some(Stored {
                id: id_of(name, r)?,
                number: r.revision,
            })
        })
        .collect();
    let (latest, limit) = (latest_id(template), template.spec.revision_history_limit);
    let mut unneeded = plan_collection(&stored, &latest, &[], limit);
    if !unneeded.is_empty() {
        // Who uses them is worth looking up only if there are too many.
        let used = usage::of_template(kube, name, &latest).await?;
        unneeded = plan_collection(&stored, &latest, &used.revisions(), limit);
    }
    for object in &objects {
        let Some(id) = id_of(name, object) else { continue };
        if !unneeded.contains(&id) {
            // An administrator may have deleted what it is made of.
            pin(kube, &read(&id, object)?.resolved).await?;
            continue;
        }
        match api(kube).delete(&object.name_any(), &DeleteParams::default()).await {
            Ok(_) => tracing::info!(template = %name, revision = id, "old revision deleted"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(Error::infra(KIND, name.to_string())(error)),
        }
    }
    Ok(())
}
