//! Stored revisions: a ControllerRevision each, named after its content, deleted with its template.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, Client, ResourceExt, api::ListParams};
use steading_controller::list::list_all;
use steading_infra::{crd::machine_template::MachineTemplate, labels};
use steading_model::name::MachineTemplateName;

use crate::{
    domain::{
        machine::{CatalogueEntry, ResolvedImage},
        revision::{Revision, Stored, object_name, revision_id},
    },
    error::Error,
};

/// Kind of the resource in errors.
pub const KIND: &str = "MachineTemplateRevision";

/// A stored revision.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRevision {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: i64,
    /// The object of its template.
    pub template: String,
    /// What it holds.
    pub revision: Revision,
}

impl StoredRevision {
    /// The objects that keep what it is made of.
    pub fn pinned(&self) -> Vec<String> {
        let resolved = &self.revision.resolved;
        let entries = resolved.instance_type.iter().chain(&resolved.preference);
        entries.map(CatalogueEntry::pinned_object).collect()
    }

    /// What keeping it is decided by.
    pub fn kept(&self) -> Stored {
        Stored {
            id: self.id.clone(),
            number: self.number,
        }
    }

    /// The DataSources of its images.
    pub fn images(&self) -> Vec<String> {
        let images = self.revision.resolved.images.values();
        let mut images: Vec<String> = images
            .map(|ResolvedImage { data_source, .. }| data_source.clone())
            .collect();
        images.sort();
        images.dedup();
        images
    }
}

/// Where revisions are kept.
pub fn api(kube: &Client) -> Api<ControllerRevision> {
    Api::namespaced(kube.clone(), labels::SYSTEM_NAMESPACE)
}

/// Id of the revision that a stored template stands for.
pub fn latest_id(template: &MachineTemplate) -> String {
    revision_id(&template.uid().unwrap_or_default(), &template.spec)
}

/// Id of a stored revision.
pub fn id_of(name: &MachineTemplateName, object: &ControllerRevision) -> Option<String> {
    object
        .name_any()
        .strip_prefix(&format!("{}-", name.object_name()))
        .map(str::to_owned)
}

/// All stored revisions of a template, newest first.
///
/// # Errors
/// If the API server does not answer.
pub async fn list(kube: &Client, name: &MachineTemplateName) -> Result<Vec<ControllerRevision>, Error> {
    let own = format!("{}={}", labels::MACHINE_TEMPLATE, name.object_name());
    let mut all = selected(kube, &own).await?;
    // A second template of the same name may find revisions of the first that are not collected yet.
    all.sort_by_key(|r| (std::cmp::Reverse(r.revision), r.name_any()));
    Ok(all)
}

async fn selected(kube: &Client, selector: &str) -> Result<Vec<ControllerRevision>, Error> {
    let selected = ListParams::default().labels(selector);
    let listed = list_all(&api(kube), &selected).await;
    Ok(listed.map_err(Error::list(KIND, "revisions"))?.items)
}

/// All stored revisions of all templates that can be read, with the object names of their templates.
///
/// # Errors
/// If the API server does not answer.
pub async fn all(kube: &Client) -> Result<Vec<(ControllerRevision, Revision)>, Error> {
    let all = selected(kube, labels::MACHINE_TEMPLATE).await?;
    Ok(all
        .into_iter()
        .filter_map(|object| {
            let revision = read(&object.name_any(), &object).ok()?;
            Some((object, revision))
        })
        .collect())
}

/// A stored revision by its id.
///
/// # Errors
/// If there is none.
pub async fn find(kube: &Client, name: &MachineTemplateName, id: &str) -> Result<StoredRevision, Error> {
    let full = format!("{name}/revisions/{id}");
    // The id becomes part of an object's name.
    if !id.bytes().all(|b| b.is_ascii_hexdigit()) || id.len() > 64 {
        return Err(Error::UnknownRevision(full));
    }
    let found = api(kube)
        .get_opt(&object_name(&name.object_name(), id))
        .await
        .map_err(Error::infra(KIND, &full))?;
    let found = found.ok_or_else(|| Error::UnknownRevision(full.clone()))?;
    Ok(StoredRevision {
        id: id.to_owned(),
        number: found.revision,
        template: name.object_name(),
        revision: read(&full, &found)?,
    })
}

/// What a stored revision holds.
///
/// # Errors
/// If it was not written by this service.
pub fn read(name: &str, object: &ControllerRevision) -> Result<Revision, Error> {
    let data = object.data.as_ref().ok_or_else(|| Error::Unreadable(name.to_owned()))?;
    Revision::read(&data.0).map_err(|_| Error::Unreadable(name.to_owned()))
}

/// A stored revision of ours.
pub fn revision(object: &ControllerRevision) -> Option<StoredRevision> {
    if object.namespace().as_deref() != Some(labels::SYSTEM_NAMESPACE) {
        return None;
    }
    let template = object.labels().get(labels::MACHINE_TEMPLATE)?;
    let name = MachineTemplateName::from_object_name(template)?;
    Some(StoredRevision {
        id: id_of(&name, object)?,
        number: object.revision,
        template: template.clone(),
        revision: read(&object.name_any(), object).ok()?,
    })
}
