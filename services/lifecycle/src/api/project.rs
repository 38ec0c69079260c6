//! `ProjectService`.

use kube::{Api, ResourceExt};
use steading_api::{
    error::RpcError,
    lifecycle::v1::{
        CreateProjectRequest, DeleteProjectRequest, GetProjectRequest, ListProjectsRequest, ListProjectsResponse,
        Project as Message, UpdateProjectRequest, WatchProjectsRequest, WatchProjectsResponse,
        project_service_server::{ProjectService, ProjectServiceServer},
    },
    types::v1::ErrorReason,
};
use steading_infra::{
    crd::{Cluster, Project},
    labels,
};
use steading_model::{ids::Id, name::ProjectName, violation::Violations};
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    collection::{
        self, Collection, CreateRequest, DeleteRequest, Keys, ListRequest, Scope, UpdateRequest, WatchRequest,
    },
};
use tonic::{Request, Response, Status};

use super::{
    KEYS,
    convert::{ResponseStream, nested, project as convert, responses, write_meta},
    status::infra_error,
};
use crate::{
    apply::consent,
    context::Context,
    observe::list::labelled,
    reconcile::project::{Counted, usage},
};

/// Projects as objects of the infra cluster.
#[derive(Clone, Debug)]
pub struct Projects {
    context: Context,
}

impl Collection for Projects {
    type Object = Project;
    type Message = Message;

    const KIND: &'static str = "Project";
    const MESSAGE: &'static str = "steading.lifecycle.v1.Project";
    const FIELD: &'static str = "project";
    const KEYS: Keys = KEYS;

    fn api(&self, _: &str) -> Result<Api<Project>, RpcError> {
        Ok(self.context.all())
    }

    fn scope(&self, _: &str) -> Result<Scope, RpcError> {
        Ok(Scope::default())
    }

    fn object_name(&self, name: &str) -> Result<String, RpcError> {
        let name: ProjectName = name.parse().map_err(|e| RpcError::invalid_name("name", &e))?;
        Ok(name.object_name())
    }

    fn name_in(&self, _: &str, id: &str) -> Result<String, RpcError> {
        let id = Id::parse(id).map_err(|e| RpcError::from(Violations::one("project_id", e.to_string())))?;
        Ok(ProjectName::new(id).to_string())
    }

    fn identity<'a>(&self, message: &'a Message) -> (&'a str, &'a str) {
        (&message.name, &message.etag)
    }

    fn message(&self, object: &Project) -> Option<Message> {
        let mut message = convert::message(object);
        // What is used is always told as it is now.
        message.usage = Some(convert::usage(&usage(
            &self.context.observed,
            &object.name_any(),
            Counted::Existing,
        )));
        Some(message)
    }

    async fn object(&self, name: &str, message: &Message, current: Option<&Project>) -> Result<Project, RpcError> {
        let id = self.object_name(name)?;
        let spec = match convert::spec(message) {
            Ok(spec) => spec,
            Err(found) => return Err(nested(Self::FIELD, found).err().unwrap_or_else(RpcError::internal)),
        };
        let mut object = current.cloned().unwrap_or_else(|| Project::new(&id, spec.clone()));
        object.spec = spec;
        write_meta(
            &mut object.metadata,
            (&message.labels, &message.annotations),
            &[(labels::PROJECT, &id)],
        );
        if current.is_none() {
            object.metadata.finalizers = Some(vec![labels::PROJECT_FINALIZER.into()]);
        }
        Ok(object)
    }
}

/// The service.
pub fn service(context: &Context) -> ProjectServiceServer<ProjectApi> {
    ProjectServiceServer::new(ProjectApi {
        projects: Projects {
            context: context.clone(),
        },
    })
}

/// The service's methods.
#[derive(Clone, Debug)]
pub struct ProjectApi {
    projects: Projects,
}

#[tonic::async_trait]
impl ProjectService for ProjectApi {
    type WatchProjectsStream = ResponseStream<WatchProjectsResponse>;

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        Ok(Response::new(
            collection::get(&self.projects, &call, &request.get_ref().name).await?,
        ))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let list = ListRequest {
            parent: String::new(),
            page_size: r.page_size,
            page_token: r.page_token,
            filter: r.filter,
            order_by: r.order_by,
        };
        let (projects, next_page_token) = collection::list(&self.projects, &call, &list).await?;
        Ok(Response::new(ListProjectsResponse {
            projects,
            next_page_token,
        }))
    }

    async fn create_project(&self, request: Request<CreateProjectRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let create = CreateRequest {
            parent: String::new(),
            id: r.project_id,
            message: r.project,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(collection::create(&self.projects, &call, &create).await?))
    }

    async fn update_project(&self, request: Request<UpdateProjectRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let update = UpdateRequest {
            message: r.project,
            mask: r.update_mask,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(collection::update(&self.projects, &call, &update).await?))
    }

    async fn delete_project(&self, request: Request<DeleteProjectRequest>) -> Result<Response<Message>, Status> {
        let call = CallContext::from_request(&request);
        let mut r = request.into_inner();
        let id = self.projects.object_name(&r.name)?;
        if !r.force {
            call.authorize(Action::new(Verb::Delete, Projects::KIND, &r.name))
                .await?;
            // By what they say, not by labels: kubectl sets none.
            let clusters: Api<Cluster> = self.projects.context.all();
            let found = labelled(&clusters, "")
                .await
                .map_err(|error| infra_error("Cluster", &r.name, &error))?;
            let own = found.iter().filter(|cluster| cluster.spec.project == id);
            has_children(
                Projects::KIND,
                &r.name,
                own.take(5).map(ResourceExt::name_any).collect(),
            )?;
        } else if !r.validate_only {
            call.authorize(Action::new(Verb::Delete, Projects::KIND, &r.name))
                .await?;
            let projects: Api<Project> = self.projects.context.all();
            r.etag = consent::give_at(&projects, &id, &r.etag)
                .await
                .map_err(|error| infra_error(Projects::KIND, &r.name, &error))?;
        }
        let delete = DeleteRequest {
            name: r.name,
            etag: r.etag,
            allow_missing: r.allow_missing,
            request_id: r.request_id,
            validate_only: r.validate_only,
        };
        Ok(Response::new(
            collection::delete(&self.projects, &call, &self.projects.context.clock, &delete).await?,
        ))
    }

    async fn watch_projects(
        &self,
        request: Request<WatchProjectsRequest>,
    ) -> Result<Response<Self::WatchProjectsStream>, Status> {
        let call = CallContext::from_request(&request);
        let r = request.into_inner();
        let watch = WatchRequest {
            parent: String::new(),
            filter: r.filter,
            resume_token: r.resume_token,
        };
        let events = collection::watch(&self.projects, &call, &watch).await?;
        Ok(Response::new(responses(events, |event| WatchProjectsResponse {
            r#type: event.kind.into(),
            project: event.message,
            resume_token: event.resume_token,
        })))
    }
}

/// Refuses a deletion that would leave children behind.
///
/// # Errors
/// If there are children.
pub fn has_children(kind: &str, name: &str, children: Vec<String>) -> Result<(), RpcError> {
    if children.is_empty() {
        return Ok(());
    }
    let mut error = RpcError::new(
        ErrorReason::HasChildren,
        format!("{name} is not empty; set force to delete what is in it"),
    )
    .with_resource(kind, name);
    for child in children {
        error = error.with_precondition("CHILD", child, "exists");
    }
    Err(error)
}
