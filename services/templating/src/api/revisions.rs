//! Revisions as clients see them.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt;
use steading_api::{
    error::RpcError,
    reflect::{self, Filterable},
    standard::Resource,
    templating::v1 as proto,
};
use steading_model::{
    name::{MachineTemplateName, NameError},
    page::PageRequest,
    violation::Violations,
};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    standard::time,
};

use super::{
    convert::machine_template::from_spec,
    templates::{Templates, parse},
};
use crate::{
    error::Error,
    observe::{
        revisions::{KIND, id_of, latest_id, list, read},
        usage::{self, Usage, last_segment},
    },
};

/// Form of a revision's name.
const PATTERN: &str = "projects/{project}/machineTemplates/{template}/revisions/{revision}";

impl Templates {
    /// The stored revisions of a template, newest first.
    ///
    /// # Errors
    /// If a parameter is wrong, the template does not exist, or the caller may not.
    pub(super) async fn list_revisions(
        &self,
        context: &CallContext,
        request: &proto::ListMachineTemplateRevisionsRequest,
    ) -> Result<proto::ListMachineTemplateRevisionsResponse, RpcError> {
        const MESSAGE: &str = proto::MachineTemplateRevision::MESSAGE;
        let name = parse("parent", &request.parent)?;
        if !request.order_by.is_empty() {
            return Err(Violations::one("order_by", "revisions come newest first only").into());
        }
        let filter = reflect::filter(MESSAGE, &request.filter)?;
        let binding = [MESSAGE, &request.parent, &request.filter];
        let page = PageRequest::parse(request.page_size, &request.page_token, &binding)?;
        context.authorize(Action::new(Verb::List, KIND, &name)).await?;
        let template = self.stored(&name).await?;
        let latest = latest_id(&template);
        let usage = usage::of_template(&self.kube, &name, &latest).await?;
        let mut all = Vec::new();
        for object in list(&self.kube, &name).await? {
            let message = message(&name, &object, &latest, &usage)?;
            if filter.matches(&Filterable(reflect::dynamic(MESSAGE, &message)?)) {
                all.push(message);
            }
        }
        // Newest first: the cursor counts down, so that it grows with the list. Numbers never change, so no page moves.
        let key = |r: &proto::MachineTemplateRevision| {
            format!("{:020} {}", i64::MAX - r.revision_number, last_segment(&r.name))
        };
        let (machine_template_revisions, next_page_token) = page.cut(all, key);
        Ok(proto::ListMachineTemplateRevisionsResponse {
            machine_template_revisions,
            next_page_token,
        })
    }

    /// A stored revision.
    ///
    /// # Errors
    /// If it does not exist, the name is wrong, or the caller may not.
    pub(super) async fn get_revision(
        &self,
        context: &CallContext,
        full: &str,
    ) -> Result<proto::MachineTemplateRevision, RpcError> {
        let (template, id) = full.rsplit_once("/revisions/").ok_or_else(|| {
            let no_name = NameError::Pattern {
                text: full.to_owned(),
                pattern: PATTERN,
            };
            RpcError::invalid_name("name", &no_name)
        })?;
        let name = parse("name", template)?;
        context.authorize(Action::new(Verb::Get, KIND, full)).await?;
        let stored = self.stored(&name).await?;
        let latest = latest_id(&stored);
        let usage = usage::of_template(&self.kube, &name, &latest).await?;
        for object in list(&self.kube, &name).await? {
            let message = message(&name, &object, &latest, &usage)?;
            if last_segment(&message.name) == id {
                return Ok(message);
            }
        }
        Err(Error::UnknownRevision(full.to_owned()).into())
    }
}

/// A stored revision as a message.
///
/// # Errors
/// If it cannot be read.
fn message(
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
        // Nobody changes a revision.
        etag: id.clone(),
        create_time: time(object.metadata.creation_timestamp.as_ref()),
        revision_number: object.revision,
        machine_template: Some(template),
        content_hash: revision.digest(),
        latest: id == latest,
        machine_count: usage.machines.get(&id).copied().unwrap_or_default(),
        machine_pools: usage.pools.get(&id).into_iter().flatten().cloned().collect(),
    })
}
