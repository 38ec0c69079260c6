//! `ProjectService`.

use steading_api::lifecycle::v1::{self as proto, project_service_server::ProjectService};
use steading_runtime::standard::{Methods, ResponseStream};
use tonic::{Request, Response, Status};

use super::projects::Projects;
use crate::context::Context;

/// The service.
#[derive(Clone, Debug)]
pub struct ProjectApi {
    projects: Methods<Projects>,
}

impl ProjectApi {
    /// The service with what calls have at hand.
    pub fn new(context: &Context) -> Self {
        let projects = Projects {
            context: context.clone(),
        };
        Self {
            projects: Methods::new(projects, context.clock.clone()),
        }
    }
}

#[tonic::async_trait]
impl ProjectService for ProjectApi {
    type WatchProjectsStream = ResponseStream<proto::WatchProjectsResponse>;

    async fn get_project(
        &self,
        request: Request<proto::GetProjectRequest>,
    ) -> Result<Response<proto::Project>, Status> {
        self.projects.get(request).await
    }

    async fn list_projects(
        &self,
        request: Request<proto::ListProjectsRequest>,
    ) -> Result<Response<proto::ListProjectsResponse>, Status> {
        self.projects.list(request).await
    }

    async fn create_project(
        &self,
        request: Request<proto::CreateProjectRequest>,
    ) -> Result<Response<proto::Project>, Status> {
        self.projects.create(request).await
    }

    async fn update_project(
        &self,
        request: Request<proto::UpdateProjectRequest>,
    ) -> Result<Response<proto::Project>, Status> {
        self.projects.update(request).await
    }

    async fn delete_project(
        &self,
        request: Request<proto::DeleteProjectRequest>,
    ) -> Result<Response<proto::Project>, Status> {
        self.projects.delete(request).await
    }

    async fn watch_projects(
        &self,
        request: Request<proto::WatchProjectsRequest>,
    ) -> Result<Response<Self::WatchProjectsStream>, Status> {
        self.projects.watch(request).await
    }
}
