//! `ClusterService`.

use steading_api::{
    error::RpcError,
    lifecycle::v1::{self as proto, cluster_service_server::ClusterService},
};
use steading_model::name::ClusterName;
use steading_runtime::{
    CallContext,
    auth::{Action, Verb},
    standard::{Methods, ResponseStream},
};
use tonic::{Request, Response, Status};

use super::clusters::Clusters;
use crate::{context::Context, error::Refusal};

/// The service.
#[derive(Clone, Debug)]
pub struct ClusterApi {
    clusters: Methods<Clusters>,
}

impl ClusterApi {
    /// The service with what calls have at hand.
    pub fn new(context: &Context) -> Self {
        let clusters = Clusters {
            context: context.clone(),
        };
        Self {
            clusters: Methods::new(clusters, context.clock.clone()),
        }
    }
}

#[tonic::async_trait]
impl ClusterService for ClusterApi {
    type WatchClustersStream = ResponseStream<proto::WatchClustersResponse>;

    async fn get_cluster(
        &self,
        request: Request<proto::GetClusterRequest>,
    ) -> Result<Response<proto::Cluster>, Status> {
        self.clusters.get(request).await
    }

    async fn list_clusters(
        &self,
        request: Request<proto::ListClustersRequest>,
    ) -> Result<Response<proto::ListClustersResponse>, Status> {
        self.clusters.list(request).await
    }

    async fn create_cluster(
        &self,
        request: Request<proto::CreateClusterRequest>,
    ) -> Result<Response<proto::Cluster>, Status> {
        self.clusters.create(request).await
    }

    async fn update_cluster(
        &self,
        request: Request<proto::UpdateClusterRequest>,
    ) -> Result<Response<proto::Cluster>, Status> {
        self.clusters.update(request).await
    }

    async fn delete_cluster(
        &self,
        request: Request<proto::DeleteClusterRequest>,
    ) -> Result<Response<proto::Cluster>, Status> {
        self.clusters.delete(request).await
    }

    async fn watch_clusters(
        &self,
        request: Request<proto::WatchClustersRequest>,
    ) -> Result<Response<Self::WatchClustersStream>, Status> {
        self.clusters.watch(request).await
    }

    async fn get_cluster_kubeconfig(
        &self,
        request: Request<proto::GetClusterKubeconfigRequest>,
    ) -> Result<Response<proto::GetClusterKubeconfigResponse>, Status> {
        let call = CallContext::from_request(&request);
        let kubeconfig = self.clusters.collection().kubeconfig(&call, request.get_ref());
        Ok(Response::new(kubeconfig.await?))
    }

    async fn upgrade_cluster(
        &self,
        request: Request<proto::UpgradeClusterRequest>,
    ) -> Result<Response<proto::Cluster>, Status> {
        let call = CallContext::from_request(&request);
        let name = &request.get_ref().name;
        name.parse::<ClusterName>()
            .map_err(|e| RpcError::invalid_name("name", &e))?;
        call.authorize(Action::new(Verb::Custom("upgrade"), ClusterName::KIND, name))
            .await?;
        Err(RpcError::from(Refusal::NotImplemented(
            "steading.lifecycle.v1.ClusterService/UpgradeCluster",
        ))
        .into())
    }
}
