//! The collection of machine templates.

use kube::{Api, Client};
use prost_types::FieldMask;
use steading_api::{error::RpcError, reflect, standard::Resource, templating::v1 as proto};
use steading_infra::{crd::machine_template::MachineTemplate, labels};
use steading_model::{
    name::{MachineTemplateName, ProjectName, Scope, Within},
    violation::Violations,
};
use steading_runtime::standard::{Collection, Keys, Revises, Writable, kube_error};

use super::{
    convert::machine_template as convert_template,
    metadata::{KEYS, Said, stamp},
};
use crate::{
    apply::revision::ensure,
    domain::revision::{Revision, content},
    error::Error,
    observe::{
        catalogue::check,
        revisions::{find, latest_id},
        usage::{self, last_segment, refuse_if_used},
    },
};

/// Machine templates as objects of the infra cluster.
#[derive(Clone)]
pub struct Templates {
    /// The infra cluster.
    pub kube: Client,
}

impl Templates {
    fn objects(&self) -> Api<MachineTemplate> {
        Api::all(self.kube.clone())
    }

    /// A stored template.
    pub(super) async fn stored(&self, name: &MachineTemplateName) -> Result<MachineTemplate, RpcError> {
        let found = self.objects().get_opt(&name.object_name()).await;
        let found = found.map_err(|e| kube_error(MachineTemplateName::KIND, &name.to_string(), &e))?;
        found.ok_or_else(|| RpcError::not_found(MachineTemplateName::KIND, name))
    }

    /// A stored revision; an empty id means the one that the template stands for now.
    pub(super) async fn revision(
        &self,
        name: &MachineTemplateName,
        template: &MachineTemplate,
        id: &str,
    ) -> Result<(String, Revision), Error> {
        let stored = if id.is_empty() || id == latest_id(template) {
            ensure(&self.kube, name, template).await?
        } else {
            find(&self.kube, name, id).await?
        };
        Ok((stored.id, stored.revision))
    }

    /// The revision that a proposal would become.
    pub(super) async fn proposed(
        &self,
        name: &MachineTemplateName,
        proposal: &proto::MachineTemplate,
    ) -> Result<Revision, Error> {
        let spec = convert_template::spec(proposal).map_err(invalid)?;
        Ok(Revision {
            resolved: check(&self.kube, &name.project, &spec).await?,
            template: content(&spec),
        })
    }
}

fn invalid(violations: Violations) -> Error {
    Error::Invalid {
        field: "machine_template",
        violations,
    }
}

/// Parses the name of a template.
///
/// # Errors
/// If it is none.
pub fn parse(path: &str, name: &str) -> Result<MachineTemplateName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name(path, &e))
}

impl Collection for Templates {
    type Object = MachineTemplate;
    type Resource = proto::MachineTemplate;
    type Name = MachineTemplateName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<MachineTemplate> {
        self.objects()
    }

    fn resource(&self, object: &MachineTemplate) -> Option<proto::MachineTemplate> {
        convert_template::machine_template(object)
    }

    fn selector(&self, within: &Within<ProjectName>) -> String {
        let project = within.project();
        project.map_or_else(String::new, |project| format!("{}={project}", labels::PROJECT))
    }
}

impl Writable for Templates {
    async fn object(
        &self,
        name: &MachineTemplateName,
        resource: &proto::MachineTemplate,
        current: Option<&MachineTemplate>,
    ) -> Result<MachineTemplate, RpcError> {
        let spec = convert_template::spec(resource).map_err(invalid)?;
        check(&self.kube, &name.project, &spec).await?;
        let mut object = current
            .cloned()
            .unwrap_or_else(|| MachineTemplate::new(&name.object_name(), spec.clone()));
        object.spec = spec;
        let said = Said {
            labels: &resource.labels,
            annotations: &resource.annotations,
            display_name: "",
            description: "",
        };
        stamp(&mut object.metadata, &Scope::Project(name.project.clone()), &said);
        Ok(object)
    }

    async fn before_delete(
        &self,
        name: &MachineTemplateName,
        current: &MachineTemplate,
        _: bool,
    ) -> Result<(), RpcError> {
        let usage = usage::of_template(&self.kube, name, &latest_id(current)).await?;
        let mut users = usage.some_pools();
        let machines: i32 = usage.machines.values().sum();
        if users.is_empty() && machines > 0 {
            users.push(format!("{machines} machines"));
        }
        Ok(refuse_if_used(MachineTemplateName::KIND, name.to_string(), users)?)
    }

    async fn after_write(
        &self,
        name: &MachineTemplateName,
        stored: &MachineTemplate,
        _: &proto::MachineTemplate,
    ) -> Result<(), RpcError> {
        ensure(&self.kube, name, stored).await?;
        Ok(())
    }
}

impl Revises<proto::RollbackMachineTemplateRequest> for Templates {
    async fn revise(
        &self,
        request: &proto::RollbackMachineTemplateRequest,
        name: &MachineTemplateName,
        before: &proto::MachineTemplate,
    ) -> Result<proto::MachineTemplate, RpcError> {
        let id = revision_of("revision", name, &request.revision)?;
        if id.is_empty() {
            return Err(Violations::one("revision", "must be set").into());
        }
        if id == last_segment(&before.revision) {
            return Ok(before.clone());
        }
        let stored = find(&self.kube, name, id).await?;
        let wanted = proto::MachineTemplate {
            labels: before.labels.clone(),
            annotations: before.annotations.clone(),
            display_name: before.display_name.clone(),
            description: before.description.clone(),
            revision_history_limit: before.revision_history_limit,
            ..convert_template::from_spec(&stored.revision.template)
        };
        let everything = FieldMask {
            paths: vec!["*".into()],
        };
        let (message, field) = (proto::MachineTemplate::MESSAGE, proto::MachineTemplate::FIELD);
        reflect::update(message, field, before, &wanted, Some(&everything))
    }
}

/// Id of a revision that is given by its id or its whole name below the template.
///
/// # Errors
/// If it is a revision of another template.
pub fn revision_of<'a>(path: &str, name: &MachineTemplateName, revision: &'a str) -> Result<&'a str, RpcError> {
    let id = last_segment(revision);
    if revision.contains('/') && revision != format!("{name}/revisions/{id}") {
        return Err(Violations::one(path, format!("must be a revision of {name}")).into());
    }
    Ok(id)
}
