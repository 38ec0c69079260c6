//! Labels and annotations of the catalogue's objects: whose they are, and what belongs to users.

use std::collections::HashMap;

use kube::api::ObjectMeta;
use steading_infra::labels;
use steading_model::{
    ids::Id,
    name::{Scope, Within},
};
use steading_runtime::standard::Keys;

use super::convert;
use crate::error::Error;

/// Annotations of requests, and what does not belong to users.
pub const KEYS: Keys = Keys {
    request_id: labels::REQUEST_ID,
    request_hash: labels::REQUEST_HASH,
    reserved: &[
        "steading.dev/",
        "app.kubernetes.io/managed-by",
        "kubectl.kubernetes.io/",
        "cdi.kubevirt.io/",
        "instancetype.kubevirt.io/",
    ],
};

/// What users say of an object.
pub struct Said<'a> {
    /// Their labels.
    pub labels: &'a HashMap<String, String>,
    /// Their annotations.
    pub annotations: &'a HashMap<String, String>,
    /// A title for people, empty for none.
    pub display_name: &'a str,
    /// What it is for, empty for nothing.
    pub description: &'a str,
}

/// Label selector of the objects in a scope. It only narrows what is read.
pub(crate) fn in_scope(within: &Within<Scope>) -> String {
    within.project().map_or_else(
        || format!("!{}", labels::PROJECT),
        |project| format!("{}={project}", labels::PROJECT),
    )
}

/// Whether an object is where its name says: entries of projects carry the project's label, others carry none.
pub(crate) fn is_labelled(meta: &ObjectMeta, scope: &Scope) -> bool {
    let label = meta.labels.as_ref().and_then(|all| all.get(labels::PROJECT));
    label.map(String::as_str) == scope.project().map(Id::as_str)
}

/// Puts on an object what its user says, and whose it is.
pub(crate) fn stamp(meta: &mut ObjectMeta, scope: &Scope, said: &Said<'_>) {
    let mut all = KEYS.merge(meta.labels.as_ref(), said.labels);
    all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
    if let Some(project) = scope.project() {
        all.insert(labels::PROJECT.into(), project.to_string());
    }
    meta.labels = Some(all);
    let mut annotations = KEYS.merge(meta.annotations.as_ref(), said.annotations);
    for (key, text) in [
        (labels::DISPLAY_NAME, said.display_name),
        (convert::DESCRIPTION, said.description),
    ] {
        if text.is_empty() {
            annotations.remove(key);
        } else {
            annotations.insert(key.to_owned(), text.to_owned());
        }
    }
    meta.annotations = Some(annotations);
}

/// Refuses to change what the standard catalogue or the infra cluster provides.
///
/// # Errors
/// If it does.
pub(crate) fn refuse_provided(kind: &'static str, name: String, meta: &ObjectMeta) -> Result<(), Error> {
    use steading_api::templating::v1::CatalogueOrigin;
    let owner = match convert::origin(meta) {
        CatalogueOrigin::Steading => "the standard catalogue",
        CatalogueOrigin::Cluster => "the infra cluster",
        CatalogueOrigin::Project | CatalogueOrigin::Shared | CatalogueOrigin::Unspecified => return Ok(()),
    };
    Err(Error::ReadOnly { kind, name, owner })
}
