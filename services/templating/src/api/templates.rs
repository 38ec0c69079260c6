//! The collection of machine templates.

use kube::{Api, ResourceExt};
use steading_api::{error::RpcError, templating::v1 as proto};
use steading_infra::{crd::machine_template::MachineTemplate, labels};
use steading_model::name::{MachineTemplateName, ProjectName, Scope as Owner};
use steading_runtime::collection::{Collection, Keys, Scope};

use super::{Infra, KEYS, convert::machine_template as convert_template, new_id, stamp};
use crate::{
    apply::revision::ensure,
    error::Error,
    observe::{
        catalogue::check,
        revisions::latest_id,
        usage::{self, last_segment, refuse_if_used},
    },
};

/// Machine templates as objects of the infra cluster.
#[derive(Clone)]
pub struct Templates(pub Infra);

/// Parses the name of a template.
///
/// # Errors
/// If it is none.
pub fn parse(path: &str, name: &str) -> Result<MachineTemplateName, RpcError> {
    name.parse().map_err(|e| RpcError::invalid_name(path, &e))
}

impl Collection for Templates {
    type Object = MachineTemplate;
    type Message = proto::MachineTemplate;

    const KIND: &'static str = "MachineTemplate";
    const MESSAGE: &'static str = "steading.templating.v1.MachineTemplate";
    const FIELD: &'static str = "machine_template";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<MachineTemplate>, RpcError> {
        Ok(Api::all(self.0.kube.clone()))
    }

    fn scope(&self, parent: &str) -> Result<Scope, RpcError> {
        let project: ProjectName = parent.parse().map_err(|e| RpcError::invalid_name("parent", &e))?;
        Ok(Scope {
            selector: format!("{}={}", labels::PROJECT, project.project),
        })
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        Ok(parse("name", name)?.object_name())
    }

    fn name_in(&self, parent: &str, id: &str) -> Result<String, RpcError> {
        let project: ProjectName = parent.parse().map_err(|e| RpcError::invalid_name("parent", &e))?;
        Ok(MachineTemplateName::new(project.project, new_id("machine_template_id", id)?).to_string())
    }

    fn identity<'a>(&self, message: &'a proto::MachineTemplate) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &MachineTemplate) -> Option<proto::MachineTemplate> {
        convert_template::machine_template(object)
    }

    async fn object(
        &self,
        name: &str,
        message: &proto::MachineTemplate,
        current: Option<&MachineTemplate>,
    ) -> Result<MachineTemplate, RpcError> {
        let name = parse("name", name)?;
        let spec = convert_template::spec(message).map_err(|violations| Error::Invalid {
            field: "machine_template",
            violations,
        })?;
        check(&self.0.kube, &name.project, &spec).await?;
        let mut object = current
            .cloned()
            .unwrap_or_else(|| MachineTemplate::new(&name.object_name(), spec.clone()));
        object.spec = spec;
        let owner = Owner::Project(name.project.clone());
        stamp(
            &mut object.metadata,
            &owner,
            (&message.labels, &message.annotations),
            ("", ""),
        );
        Ok(object)
    }

    async fn before_delete(&self, current: &MachineTemplate) -> Result<(), RpcError> {
        let Some(name) = MachineTemplateName::from_object_name(&current.name_any()) else {
            return Ok(());
        };
        let usage = usage::of_template(&self.0.kube, &name, &latest_id(current)).await?;
        let mut users = usage.some_pools();
        let machines: i32 = usage.machines.values().sum();
        if users.is_empty() && machines > 0 {
            users.push(format!("{machines} machines"));
        }
        Ok(refuse_if_used(Self::KIND, name.to_string(), users)?)
    }

    async fn after_write(&self, stored: &MachineTemplate) -> Result<(), RpcError> {
        let Some(name) = MachineTemplateName::from_object_name(&stored.name_any()) else {
            return Ok(());
        };
        ensure(&self.0.kube, &name, stored).await?;
        Ok(())
    }
}

/// Id of a revision that is given by its id or its whole name below the template.
///
/// # Errors
/// If it is a revision of another template.
pub fn revision_of<'a>(path: &str, name: &MachineTemplateName, revision: &'a str) -> Result<&'a str, RpcError> {
    let id = last_segment(revision);
    if revision.contains('/') && revision != format!("{name}/revisions/{id}") {
        return Err(steading_model::violation::Violations::one(path, format!("must be a revision of {name}")).into());
    }
    Ok(id)
}
