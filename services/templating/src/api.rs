//! The gRPC services: parse, authorise, ask the domain, convert.

use std::collections::HashMap;

use kube::{Client, api::ObjectMeta};
use steading_api::error::RpcError;
use steading_infra::labels;
use steading_model::{ids::Id, name::Scope, violation::Violations};
use steading_runtime::collection::{self, Keys};

use crate::apply::revision::PINNED;

pub mod catalog;
pub mod convert;
pub mod images;
pub mod instance_types;
pub mod preferences;
pub mod revisions;
pub mod status;
pub mod template;
pub mod templates;

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

/// Annotation: what a catalogue entry is for.
pub(crate) const DESCRIPTION: &str = "steading.dev/description";

/// Which objects belong to a catalogue's parent.
pub(crate) fn catalogue_scope(parent: &str) -> Result<collection::Scope, RpcError> {
    let scope = Scope::parse_parent(parent).map_err(|e| RpcError::invalid_name("parent", &e))?;
    Ok(collection::Scope {
        selector: match scope {
            Scope::Shared => format!("!{},!{PINNED}", labels::PROJECT),
            Scope::Project(project) => format!("{}={project}", labels::PROJECT),
        },
    })
}

/// Scope and id of a catalogue entry that is to be created.
pub(crate) fn new_entry(parent: &str, path: &str, id: &str) -> Result<(Scope, Id), RpcError> {
    let scope = Scope::parse_parent(parent).map_err(|e| RpcError::invalid_name("parent", &e))?;
    Ok((scope, new_id(path, id)?))
}

pub(crate) fn new_id(path: &str, id: &str) -> Result<Id, RpcError> {
    Id::parse(id).map_err(|e| Violations::one(path, e.to_string()).into())
}

/// Puts a user's labels and annotations on an object, and whose it is.
pub(crate) fn stamp(
    meta: &mut ObjectMeta,
    scope: &Scope,
    user: (&HashMap<String, String>, &HashMap<String, String>),
    texts: (&str, &str),
) {
    let mut all = KEYS.merge(meta.labels.as_ref(), user.0);
    all.insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
    if let Some(project) = scope.project() {
        all.insert(labels::PROJECT.into(), project.to_string());
    }
    meta.labels = Some(all);
    let mut annotations = KEYS.merge(meta.annotations.as_ref(), user.1);
    for (key, text) in [(labels::DISPLAY_NAME, texts.0), (DESCRIPTION, texts.1)] {
        if text.is_empty() {
            annotations.remove(key);
        } else {
            annotations.insert(key.to_owned(), text.to_owned());
        }
    }
    meta.annotations = Some(annotations);
}

/// Text of an annotation; empty if it is not there.
pub(crate) fn annotation(meta: &ObjectMeta, key: &str) -> String {
    meta.annotations
        .as_ref()
        .and_then(|a| a.get(key))
        .cloned()
        .unwrap_or_default()
}

/// Access to the infra cluster that the collections share.
#[derive(Clone)]
pub struct Infra {
    /// The infra cluster.
    pub kube: Client,
}
