//! Revisions as clients see them.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use steading_api::templating::v1 as proto;
use steading_model::name::MachineTemplateName;
use steading_runtime::collection::{etag, time};

use super::convert::machine_template::from_spec;
use crate::{
    error::Error,
    observe::{
        revisions::{id_of, read},
        usage::Usage,
    },
};

/// A stored revision as a message.
///
/// # Errors
/// If it cannot be read.
pub fn message(
    name: &MachineTemplateName,
    object: &ControllerRevision,
    latest: &str,
    usage: &Usage,
) -> Result<proto::MachineTemplateRevision, Error> {
    let id = id_of(name, object).ok_or_else(|| Error::Unreadable(object.name_any()))?;
    let full = format!("{name}/revisions/{id}");
    let revision = read(&full, object)?;
    let mut template = from_spec(&revision.template);
    template.name = name.to_string();
    Ok(proto::MachineTemplateRevision {
        name: full,
        uid: object.uid().unwrap_or_default(),
        etag: etag(&object.metadata),
        create_time: time(object.metadata.creation_timestamp.as_ref()),
        revision_number: object.revision,
        machine_template: Some(template),
        content_hash: revision.digest(),
        latest: id == latest,
        machine_count: usage.machines.get(&id).copied().unwrap_or_default(),
        machine_pools: usage.pools.get(&id).into_iter().flatten().cloned().collect(),
    })
}
