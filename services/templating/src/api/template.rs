//! `TemplateService`.

use kube::Client;
use steading_api::{
    error::RpcError,
    templating::v1::{self as proto, template_service_server::TemplateService},
};
use steading_runtime::{
    CallContext,
    clock::Clock,
    standard::{Methods, ResponseStream},
};
use tonic::{Request, Response, Status};

use super::templates::{Templates, parse};
use crate::observe::usage::{self, last_segment};

/// The service.
#[derive(Clone)]
pub struct TemplateApi {
    templates: Methods<Templates>,
}

impl TemplateApi {
    /// The service on an infra cluster.
    pub fn new(kube: &Client, clock: &Clock) -> Self {
        let templates = Templates { kube: kube.clone() };
        Self {
            templates: Methods::new(templates, clock.clone()),
        }
    }
}

#[tonic::async_trait]
impl TemplateService for TemplateApi {
    type WatchMachineTemplatesStream = ResponseStream<proto::WatchMachineTemplatesResponse>;

    async fn get_machine_template(
        &self,
        request: Request<proto::GetMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        let mut response = self.templates.get(request).await?;
        let template = response.get_mut();
        let (name, latest) = (parse("name", &template.name)?, last_segment(&template.revision));
        let usage = usage::of_template(&self.templates.collection().kube, &name, latest).await;
        template.machine_count = usage.map_err(RpcError::from)?.machines.values().sum();
        Ok(response)
    }

    async fn list_machine_templates(
        &self,
        request: Request<proto::ListMachineTemplatesRequest>,
    ) -> Result<Response<proto::ListMachineTemplatesResponse>, Status> {
        self.templates.list(request).await
    }

    async fn create_machine_template(
        &self,
        request: Request<proto::CreateMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        self.templates.create(request).await
    }

    async fn update_machine_template(
        &self,
        request: Request<proto::UpdateMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        self.templates.update(request).await
    }

    async fn delete_machine_template(
        &self,
        request: Request<proto::DeleteMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        self.templates.delete(request).await
    }

    async fn watch_machine_templates(
        &self,
        request: Request<proto::WatchMachineTemplatesRequest>,
    ) -> Result<Response<Self::WatchMachineTemplatesStream>, Status> {
        self.templates.watch(request).await
    }

    async fn get_machine_template_revision(
        &self,
        request: Request<proto::GetMachineTemplateRevisionRequest>,
    ) -> Result<Response<proto::MachineTemplateRevision>, Status> {
        let context = CallContext::from_request(&request);
        let name = &request.get_ref().name;
        Ok(Response::new(
            self.templates.collection().get_revision(&context, name).await?,
        ))
    }

    async fn list_machine_template_revisions(
        &self,
        request: Request<proto::ListMachineTemplateRevisionsRequest>,
    ) -> Result<Response<proto::ListMachineTemplateRevisionsResponse>, Status> {
        let context = CallContext::from_request(&request);
        let page = self.templates.collection().list_revisions(&context, request.get_ref());
        Ok(Response::new(page.await?))
    }

    async fn rollback_machine_template(
        &self,
        request: Request<proto::RollbackMachineTemplateRequest>,
    ) -> Result<Response<proto::MachineTemplate>, Status> {
        self.templates.revise(request).await
    }

    async fn render_machine_template(
        &self,
        request: Request<proto::RenderMachineTemplateRequest>,
    ) -> Result<Response<proto::RenderMachineTemplateResponse>, Status> {
        let context = CallContext::from_request(&request);
        let rendered = self.templates.collection().render(&context, request.get_ref());
        Ok(Response::new(rendered.await?))
    }

    async fn diff_machine_template(
        &self,
        request: Request<proto::DiffMachineTemplateRequest>,
    ) -> Result<Response<proto::DiffMachineTemplateResponse>, Status> {
        let context = CallContext::from_request(&request);
        let diff = self.templates.collection().diff(&context, request.get_ref());
        Ok(Response::new(diff.await?))
    }
}
