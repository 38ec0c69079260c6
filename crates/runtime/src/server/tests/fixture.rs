//! A server whose answers depend on the name that is asked for.

use std::time::Duration;

use std::{net::SocketAddr, sync::Arc};

use steading_api::lifecycle::v1::{
    CreateProjectRequest, DeleteProjectRequest, ListProjectsRequest, ListProjectsResponse, UpdateProjectRequest,
    WatchProjectsRequest, WatchProjectsResponse,
};
use tokio::sync::Notify;

use super::*;

/// Plays the service; its methods tell of what the layers did.
#[derive(Clone)]
pub(super) struct Probe {
    /// Told when a slow call has begun.
    pub(super) began: mpsc::UnboundedSender<()>,
    /// Lets slow calls go on.
    pub(super) release: Arc<Notify>,
    /// Another service that `projects/relay` asks.
    pub(super) peer: Option<PeerChannel>,
}

#[tonic::async_trait]
impl ProjectService for Probe {
    async fn get_project(&self, request: tonic::Request<GetProjectRequest>) -> Result<Response<Project>, Status> {
        let call = CallContext::from_request(&request);
        let name = request.into_inner().name;
        call.authorize(Action::new(Verb::Get, "Project", &name)).await?;
        match name.as_str() {
            "projects/panic" => panic!("as asked"),
            "projects/missing" => return Err(RpcError::not_found("Project", name).into()),
            "projects/slow" => {
                let _ = self.began.send(());
                self.release.notified().await;
            }
            "projects/relay" => {
                let peer = self.peer.clone().ok_or_else(RpcError::internal)?;
                let request = GetProjectRequest {
                    name: "projects/echo".into(),
                };
                return ProjectServiceClient::new(peer).get_project(request).await;
            }
            _ => {}
        }
        let annotations = [
            ("principal", call.principal().name.clone()),
            ("request_id", call.request_id().to_owned()),
            (
                "remaining_ms",
                call.remaining().unwrap_or_default().as_millis().to_string(),
            ),
        ];
        let annotations = annotations.map(|(k, v)| (k.to_owned(), v)).into();
        Ok(Response::new(Project {
            name,
            annotations,
            ..Project::default()
        }))
    }

    async fn list_projects(
        &self,
        _: tonic::Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        Err(RpcError::not_implemented("ListProjects").into())
    }

    async fn create_project(&self, _: tonic::Request<CreateProjectRequest>) -> Result<Response<Project>, Status> {
        Err(RpcError::not_implemented("CreateProject").into())
    }

    async fn update_project(&self, _: tonic::Request<UpdateProjectRequest>) -> Result<Response<Project>, Status> {
        Err(RpcError::not_implemented("UpdateProject").into())
    }

    async fn delete_project(&self, _: tonic::Request<DeleteProjectRequest>) -> Result<Response<Project>, Status> {
        Err(RpcError::not_implemented("DeleteProject").into())
    }

    type WatchProjectsStream = Pin<Box<dyn Stream<Item = Result<WatchProjectsResponse, Status>> + Send>>;

    /// One message, then silence: a watch that does not care for the drain itself.
    async fn watch_projects(
        &self,
        _: tonic::Request<WatchProjectsRequest>,
    ) -> Result<Response<Self::WatchProjectsStream>, Status> {
        let first = futures::stream::iter([Ok(WatchProjectsResponse::default())]);
        Ok(Response::new(Box::pin(first.chain(futures::stream::pending()))))
    }
}

/// A running server and what is needed to talk to it.
pub(super) struct Fixture {
    pub(super) address: SocketAddr,
    pub(super) cancel: CancellationToken,
    pub(super) config: ServerConfig,
    pub(super) began: mpsc::UnboundedReceiver<()>,
    pub(super) release: Arc<Notify>,
    group: TaskGroup,
}

impl Fixture {
    pub(super) async fn start(config: ServerConfig) -> Self {
        Self::start_with(config, "127.0.0.1:0".parse().expect("an address"), None).await
    }

    pub(super) async fn start_with(config: ServerConfig, address: SocketAddr, peer: Option<PeerChannel>) -> Self {
        let listener = crate::process::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (cancel, (tell, began), release) = (CancellationToken::new(), mpsc::unbounded_channel(), Arc::default());
        let probe = Probe {
            began: tell,
            release: Arc::clone(&release),
            peer,
        };
        let server = GrpcServer::builder("test")
            .config(config.clone())
            .add_service(ProjectServiceServer::new(probe));
        // A token of its own: the server must end by `cancel` alone.
        let group = TaskGroup::new("test", CancellationToken::new());
        group.spawn_finite("server", server.run(listener, cancel.clone()));
        Self {
            address,
            cancel,
            config,
            began,
            release,
            group,
        }
    }

    pub(super) fn channel(&self) -> PeerChannel {
        connect_lazy(&format!("http://{}", self.address), &ChannelConfig::new("test")).expect("an address")
    }

    pub(super) fn client(&self) -> ProjectServiceClient<PeerChannel> {
        ProjectServiceClient::new(self.channel())
    }

    /// Waits until the server has drained.
    pub(super) async fn ended(self) {
        self.cancel.cancel();
        self.group.token().cancel();
        self.group
            .join(Duration::from_secs(20))
            .await
            .expect("the server ends in peace");
    }
}

pub(super) fn get(name: &str) -> tonic::Request<GetProjectRequest> {
    tonic::Request::new(GetProjectRequest { name: name.to_owned() })
}
