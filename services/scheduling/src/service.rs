//! Composition of the service.

use std::{convert::Infallible, time::Duration};

use kube::Client;
use steading_api::scheduling::v1::{
    capacity_service_server::CapacityServiceServer, placement_service_server::PlacementServiceServer,
};
use steading_infra::{apply::FieldManager, install::ensure_system_namespace};
use steading_runtime::{
    CancellationToken, admin::Gate, clock::Clock, lease::LeaderElection, server::GrpcServer, tasks::TaskGroup,
};
use tokio::net::TcpListener;

use crate::{
    api::{capacity::CapacityApi, infra_cluster::InfraCluster, placement::PlacementApi, solver::Solver},
    config::Config,
    error::ServiceError,
    reconcile,
    view::View,
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
    view: View,
    solver: Solver,
}

impl Service {
    /// Binds and starts nothing.
    pub fn new(config: Config, deps: Deps) -> Self {
        Self {
            view: View::new(config.server.metrics.controllers(), &config.sources),
            solver: Solver::default(),
            config,
            deps,
        }
    }

    /// What is seen of the infra cluster. The service fills it while it runs; tests that only call methods fill it themselves.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// `PlacementService`, for callers in the same process and for tests.
    pub fn placement(&self) -> PlacementApi {
        let Deps { kube, clock } = &self.deps;
        PlacementApi::new(kube.clone(), clock.clone(), self.view.clone(), self.solver.clone())
    }

    /// `CapacityService`, for callers in the same process and for tests.
    pub fn capacity(&self) -> CapacityApi {
        CapacityApi {
            kube: self.deps.kube.clone(),
            infra_cluster: InfraCluster::new(self.deps.kube.clone(), self.deps.clock.clone()),
            view: self.view.clone(),
            solver: self.solver.clone(),
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
        let readiness = &self.config.server.readiness;
        let gate = readiness.gate("scheduling-view");
        readiness.sources("scheduling", self.view.sources());
        let (view, watched) = (self.view.clone(), self.deps.kube.clone());
        let seen = view.clone();
        group.spawn("view", {
            let cancel = cancel.clone();
            async move {
                Box::pin(view.run(watched, cancel)).await;
                Ok::<(), Infallible>(())
            }
        });
        group.spawn("readiness", {
            let cancel = cancel.clone();
            async move {
                report(&seen, &gate, &cancel).await;
                Ok::<(), Infallible>(())
            }
        });
        let Deps { kube, clock } = self.deps;
        let lease = self.config.lease;
        group.spawn("reconcile", async move {
            // The lease lives in it; if this does not work yet, neither does the lease, and that is retried.
            if let Err(error) = ensure_system_namespace(&kube, FieldManager::Scheduling).await {
                tracing::warn!(%error, "cannot ensure that the system namespace exists");
            }
            let election = LeaderElection::new(kube.clone(), clock.clone(), lease);
            let led = election.run_while_leading(cancel, move |leading| {
                reconcile::run(kube.clone(), clock.clone(), leading)
            });
            Box::pin(led).await
        });
        Ok(group.join(drain + Duration::from_secs(1)).await?)
    }
}

/// Opens the gate when there is something to answer from. A stale view does not close it again: the replica answers, and says so.
async fn report(view: &View, gate: &Gate, cancel: &CancellationToken) {
    gate.not_ready("the infra cluster has not been listed yet");
    tokio::select! {
        () = cancel.cancelled() => return,
        () = view.synced() => gate.ready(),
    }
    cancel.cancelled().await;
}
