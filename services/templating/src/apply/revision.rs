//! Storing revisions with what they are made of, and deleting those that nobody needs.

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::OwnerReference, runtime::RawExtension},
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use steading_controller::{Fresh, fresh::Deletion};
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
        revision::{PINNED, Revision, Stored, content, object_name, plan_collection},
    },
    error::Error,
    observe::{
        catalogue::check,
        revisions::{KIND, StoredRevision, api, find, id_of, latest_id, list},
        usage,
    },
};

/// The revision that a template stands for, stored if it is not yet. Whoever stores it first decides what the catalogue had
/// for it; everybody else gets that.
///
/// # Errors
/// If the template is not valid, or the API server does not answer.
pub async fn ensure(
    kube: &Client,
    name: &MachineTemplateName,
    template: &MachineTemplate,
) -> Result<StoredRevision, Error> {
    let id = latest_id(template);
    match find(kube, name, &id).await {
        Ok(stored) => return Ok(stored),
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
            Ok(StoredRevision {
                id,
                number,
                template: name.object_name(),
                revision,
            })
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => find(kube, name, &id).await,
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

/// Deletes revisions that are neither needed nor wanted: the template, its revisions and their users are read again.
///
/// # Errors
/// If the API server does not answer.
pub async fn collect(kube: &Client, name: &MachineTemplateName) -> Result<(), Error> {
    let templates: Api<MachineTemplate> = Api::all(kube.clone());
    let fault = || Error::infra(KIND, name.to_string());
    // Without its template, revisions go by their owner.
    let template = templates.get_opt(&name.object_name()).await.map_err(fault())?;
    let Some(template) = template else { return Ok(()) };
    let objects = list(kube, name).await?;
    let stored = objects.iter().filter_map(|object| {
        Some(Stored {
            id: id_of(name, object)?,
            number: object.revision,
        })
    });
    let stored: Vec<Stored> = stored.collect();
    let latest = latest_id(&template);
    let used = usage::of_template(kube, name, &latest).await?.revisions();
    let unneeded = plan_collection(&stored, &latest, &used, template.spec.revision_history_limit);
    let api = api(kube);
    for id in &unneeded {
        let object = object_name(&name.object_name(), id);
        let Some(object) = Fresh::get(&api, &object).await.map_err(fault())? else {
            continue;
        };
        match object.delete(&api).await.map_err(fault())? {
            Deletion::Accepted => tracing::info!(template = %name, revision = id, "old revision deleted"),
            Deletion::Gone | Deletion::Changed => {}
        }
    }
    Ok(())
}
