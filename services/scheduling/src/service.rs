//! Composition of the service.

use kube::Client;
use steading_api::scheduling::v1::{
    capacity_service_server::CapacityServiceServer, placement_service_server::PlacementServiceServer,
};
use steading_infra::{apply::FieldManager, install::ensure_system_namespace};
use steading_runtime::{CancellationToken, clock::Clock, lease::LeaderElection, server::GrpcServer, tasks::TaskGroup};
use tokio::net::TcpListener;

use crate::{
    api::{capacity::CapacityApi, infra_cluster::InfraCluster, placement::PlacementApi},
    config::Config,
    error::ServiceError,
    reconcile,
};

/// What the service needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// The infra cluster.
    pub kube: Client,
    /// Time.
    pub clock: Clock,
}

/// The scheduling service, not yet running.
pub struct Service {
    config: Config,
    deps: Deps,
}

impl Service {
    /// Binds and starts nothing.
    pub fn new(config: Config, deps: Deps) -> Self {
        Self { config, deps }
    }

    /// `PlacementService`, for callers in the same process and for tests.
    pub fn placement(&self) -> PlacementApi {
        PlacementApi {
            kube: self.deps.kube.clone(),
            clock: self.deps.clock.clone(),
        }
    }

    /// `CapacityService`, for callers in the same process and for tests.
    pub fn capacity(&self) -> CapacityApi {
        CapacityApi {
            kube: self.deps.kube.clone(),
            infra_cluster: InfraCluster::new(self.deps.kube.clone(), self.deps.clock.clone()),
        }
    }

    /// Serves on the listener until cancelled, and reconciles while it holds the lease. Returns after the drain.
    ///
    /// # Errors
    /// If the server cannot serve or a task dies.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) -> Result<(), ServiceError> {
        let drain = self.config.server.limits.drain;
        let group = TaskGroup::new("scheduling", cancel.clone());
        let server = GrpcServer::builder("scheduling")
            .config(self.config.server.clone())
            .add_service(PlacementServiceServer::new(self.placement()))
            .add_service(CapacityServiceServer::new(self.capacity()));
        group.spawn("grpc", server.run(listener, cancel.clone()));
        let Deps { kube, clock } = self.deps;
        let lease = self.config.lease;
        group.spawn("reconcile", async move {
            // The lease lives in it; if this does not work yet, neither does the lease, and that is tried again.
            if let Err(error) = ensure_system_namespace(&kube, FieldManager::Scheduling).await {
                tracing::warn!(%error, "system namespace cannot be made sure of");
            }
            let election = LeaderElection::new(kube.clone(), clock.clone(), lease);
            let led = election.run_while_leading(cancel, move |leading| {
                reconcile::run(kube.clone(), clock.clone(), leading)
            });
            Box::pin(led).await
        });
        Ok(group.join(drain + std::time::Duration::from_secs(1)).await?)
    }
}
