//! Revisions in the infra cluster: a ControllerRevision each, named after its content, going with its template.

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::OwnerReference, runtime::RawExtension},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use steading_api::{error::RpcError, templating::v1 as proto};
use steading_infra::{
    crd::machine_template::{MachineTemplate, MachineTemplateSpec},
    labels,
};
use steading_model::name::MachineTemplateName;
use steading_runtime::collection::{etag, kube_error, time};

use super::{convert::machine_template::from_spec, references::Usage};
use crate::{
    domain::revision::{self, Stored, content, content_hash, plan_collection, revision_id},
    error::Error,
};

const KIND: &str = "MachineTemplateRevision";

fn api(kube: &Client) -> Api<ControllerRevision> {
    Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE)
}

/// Id of a stored revision.
fn id_of(name: &MachineTemplateName, object: &ControllerRevision) -> Option<String> {
    object
        .name_any()
        .strip_prefix(&format!("{}-", name.object_name()))
        .map(str::to_owned)
}

/// All stored revisions, newest first.
///
/// # Errors
/// If the API server does not answer.
pub async fn list(kube: &Client, name: &MachineTemplateName) -> Result<Vec<ControllerRevision>, RpcError> {
    let own = ListParams::default().labels(&format!("{}={}", labels::MACHINE_TEMPLATE, name.object_name()));
    let mut all = api(kube)
        .list(&own)
        .await
        .map_err(|e| kube_error(KIND, &name.to_string(), &e))?
        .items;
    all.sort_by_key(|r| std::cmp::Reverse(r.revision));
    Ok(all)
}

/// Makes sure that the present content of a template is stored as its newest revision. Returns id and number.
///
/// # Errors
/// If the API server does not answer.
pub async fn ensure(
    kube: &Client,
    name: &MachineTemplateName,
    template: &MachineTemplate,
) -> Result<(String, i64), RpcError> {
    let fault = |e: kube::Error| kube_error(KIND, &name.to_string(), &e);
    let id = revision_id(&template.spec);
    let object_name = revision::object_name(&name.object_name(), &id);
    let stored = list(kube, name).await?;
    let newest = stored.first().map_or(0, |r| r.revision);
    if let Some(found) = stored.iter().find(|r| r.name_any() == object_name) {
        if found.revision == newest {
            return Ok((id, newest));
        }
        // An old content is wanted again: its number says so.
        let patch = Patch::Merge(json!({"revision": newest + 1}));
        api(kube)
            .patch(&object_name, &PatchParams::default(), &patch)
            .await
            .map_err(fault)?;
        return Ok((id, newest + 1));
    }
    let object = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(object_name),
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
        data: Some(RawExtension(
            serde_json::to_value(content(&template.spec)).map_err(|_| RpcError::internal())?,
        )),
        revision: newest + 1,
    };
    match api(kube).create(&PostParams::default(), &object).await {
        Ok(_) => tracing::info!(template = %name, revision = id, number = newest + 1, "revision stored"),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(fault(error)),
    }
    Ok((id, newest + 1))
}

fn owner(template: &MachineTemplate) -> Option<OwnerReference> {
    template
        .controller_owner_ref(&())
        .filter(|_| template.meta().uid.is_some())
}

/// The content of a revision; an empty id means the newest.
///
/// # Errors
/// If there is none.
pub async fn find(
    kube: &Client,
    name: &MachineTemplateName,
    template: &MachineTemplate,
    id: &str,
) -> Result<(String, MachineTemplateSpec), RpcError> {
    let latest = revision_id(&template.spec);
    if id.is_empty() || id == latest {
        return Ok((latest, content(&template.spec)));
    }
    let full = format!("{name}/revisions/{id}");
    // The id becomes part of an object's name.
    if !id.bytes().all(|b| b.is_ascii_hexdigit()) || id.len() > 64 {
        return Err(Error::UnknownRevision(full).into());
    }
    let object_name = revision::object_name(&name.object_name(), id);
    let found = api(kube)
        .get_opt(&object_name)
        .await
        .map_err(|e| kube_error(KIND, &full, &e))?;
    let found = found.ok_or_else(|| Error::UnknownRevision(full.clone()))?;
    Ok((id.to_owned(), read(&full, &found)?))
}

fn read(name: &str, object: &ControllerRevision) -> Result<MachineTemplateSpec, Error> {
    let data = object.data.as_ref().ok_or_else(|| Error::Unreadable(name.to_owned()))?;
    revision::read(&data.0).map_err(|_| Error::Unreadable(name.to_owned()))
}

/// A stored revision as a message.
///
/// # Errors
/// If it cannot be read.
pub fn message(
    name: &MachineTemplateName,
    object: &ControllerRevision,
    latest: &str,
    usage: &Usage,
) -> Result<proto::MachineTemplateRevision, RpcError> {
    let id = id_of(name, object).ok_or_else(|| Error::Unreadable(object.name_any()))?;
    let full = format!("{name}/revisions/{id}");
    let spec = read(&full, object)?;
    let mut template = from_spec(&spec);
    template.name = name.to_string();
    Ok(proto::MachineTemplateRevision {
        name: full,
        uid: object.uid().unwrap_or_default(),
        etag: etag(&object.metadata),
        create_time: time(object.metadata.creation_timestamp.as_ref()),
        revision_number: object.revision,
        machine_template: Some(template),
        content_hash: content_hash(&spec),
        latest: id == latest,
        machine_count: usage.machines.get(&id).copied().unwrap_or_default(),
        machine_pools: usage.pools.get(&id).into_iter().flatten().cloned().collect(),
    })
}

/// Deletes revisions that are neither needed nor wanted.
///
/// # Errors
/// If the API server does not answer.
pub async fn collect(
    kube: &Client,
    name: &MachineTemplateName,
    template: &MachineTemplate,
    usage: &Usage,
) -> Result<(), RpcError> {
    let stored: Vec<Stored> = list(kube, name)
        .await?
        .iter()
        .filter_map(|r| {
            Some(Stored {
                id: id_of(name, r)?,
                number: r.revision,
            })
        })
        .collect();
    let latest = revision_id(&template.spec);
    for id in plan_collection(
        &stored,
        &latest,
        &usage.revisions(),
        template.spec.revision_history_limit,
    ) {
        let object_name = revision::object_name(&name.object_name(), &id);
        match api(kube).delete(&object_name, &DeleteParams::default()).await {
            Ok(_) => tracing::info!(template = %name, revision = id, "old revision deleted"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(kube_error(KIND, &name.to_string(), &error)),
        }
    }
    Ok(())
}
