//! The collection of projects.

use kube::{Api, ResourceExt};
use steading_api::{error::RpcError, lifecycle::v1 as proto};
use steading_infra::{
    crd::{Cluster, Project},
    labels,
};
use steading_model::name::ProjectName;
use steading_runtime::standard::{Collection, Keys, Writable};

use super::{
    convert::project as convert,
    metadata::{KEYS, write_meta},
};
use crate::{
    apply::consent,
    context::Context,
    error::Refusal,
    observe::{
        list::labelled,
        usage::{Counted, usage},
    },
};

/// Clusters that an error names at most.
const NAMED_CLUSTERS: usize = 5;

/// Projects as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Projects {
    /// What calls have at hand.
    pub context: Context,
}

impl Collection for Projects {
    type Object = Project;
    type Resource = proto::Project;
    type Name = ProjectName;

    const KEYS: Keys = KEYS;

    fn api(&self, _: Option<&str>) -> Api<Project> {
        self.context.all()
    }

    fn resource(&self, object: &Project) -> Option<proto::Project> {
        let mut project = convert::message(object);
        // What is used is always told as it is now.
        let used = usage(&self.context.observed, &object.name_any(), Counted::Existing);
        project.usage = Some(convert::usage(&used));
        Some(project)
    }
}

impl Writable for Projects {
    async fn object(
        &self,
        name: &ProjectName,
        resource: &proto::Project,
        current: Option<&Project>,
    ) -> Result<Project, RpcError> {
        let id = name.object_name();
        let spec = convert::spec(resource).map_err(|violations| Refusal::Invalid {
            field: "project",
            violations,
        })?;
        let mut object = current.cloned().unwrap_or_else(|| Project::new(&id, spec.clone()));
        object.spec = spec;
        let user = (&resource.labels, &resource.annotations);
        write_meta(&mut object.metadata, user, &[(labels::PROJECT, &id)]);
        if current.is_none() {
            object.metadata.finalizers = Some(vec![labels::PROJECT_FINALIZER.into()]);
        }
        Ok(object)
    }

    async fn children(&self, name: &ProjectName, _: &Project) -> Result<Vec<String>, RpcError> {
        // By what they say, not by labels: kubectl sets none.
        let clusters: Api<Cluster> = self.context.all();
        let found = labelled(&clusters, "")
            .await
            .map_err(Refusal::infra(ProjectName::KIND, name))?;
        let id = name.object_name();
        let own = found.iter().filter(|cluster| cluster.spec.project == id);
        Ok(own.take(NAMED_CLUSTERS).map(ResourceExt::name_any).collect())
    }

    async fn prepare_delete(&self, name: &ProjectName, current: &Project, force: bool) -> Result<bool, RpcError> {
        if !force {
            return Ok(false);
        }
        let given = consent::give_to(&self.context.all(), current).await;
        Ok(given.map_err(Refusal::infra(ProjectName::KIND, name))?)
    }
}
