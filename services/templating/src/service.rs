//! Composition of the service.

use std::{convert::Infallible, time::Duration};

use kube::Client;
use steading_api::templating::v1::{
    catalog_service_server::CatalogServiceServer, template_service_server::TemplateServiceServer,
};
use steading_controller::Sources;
use steading_infra::{apply::FieldManager, install::ensure_system_namespace};
use steading_runtime::{
    CancellationToken,
    clock::Clock,
    lease::LeaderElection,
    server::GrpcServer,
    tasks::{Chain, TaskGroup},
};
use tokio::net::TcpListener;

use crate::{
    api::{catalog::CatalogApi, template::TemplateApi},
    config::Config,
    error::ServiceError,
    observe::Observed,
    reconcile::Reconciler,
};

/// Room for the end of tasks after the server's drain.
const LAST_SECOND: Duration = Duration::from_secs(1);

/// What the service needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// The infra cluster.
    pub kube: Client,
    /// Time.
    pub clock: Clock,
}

/// The templating service, not yet running.
pub struct Service {
    config: Config,
    deps: Deps,
    observed: Observed,
}

impl Service {
    /// Binds and starts nothing.
    pub fn new(config: Config, deps: Deps) -> Self {
        let observed = Observed::new(&config.source, config.server.metrics.controllers());
        Self { config, deps, observed }
    }

    /// `CatalogService`, for callers in the same process and for tests.
    pub fn catalog(&self) -> CatalogApi {
        CatalogApi::new(&self.deps.kube, &self.deps.clock)
    }

    /// `TemplateService`, for callers in the same process and for tests.
    pub fn template(&self) -> TemplateApi {
        TemplateApi::new(&self.deps.kube, &self.deps.clock)
    }

    /// Serves on the listener until cancelled, and reconciles while it holds the lease. Returns after the drain.
    ///
    /// # Errors
    /// If the server cannot serve or a task dies.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) -> Result<(), ServiceError> {
        let drain = self.config.server.limits.drain;
        let group = TaskGroup::new("templating", cancel.clone());
        let server = GrpcServer::builder("templating")
            .config(self.config.server.clone())
            .add_service(CatalogServiceServer::new(self.catalog()))
            .add_service(TemplateServiceServer::new(self.template()));
        group.spawn("grpc", server.run(listener, cancel));
        self.spawn(&group);
        Ok(group.join(drain + LAST_SECOND).await?)
    }

    /// Watches and reconciles without serving, for tests that call [`Self::catalog`] and [`Self::template`] directly.
    ///
    /// # Errors
    /// If a task dies.
    pub async fn run_background(self, cancel: CancellationToken) -> Result<(), ServiceError> {
        let group = TaskGroup::new("templating", cancel);
        self.spawn(&group);
        Ok(group.join(LAST_SECOND).await?)
    }

    fn spawn(self, group: &TaskGroup) {
        let Deps { kube, clock } = self.deps;
        self.observed.spawn(group, &kube);
        let sources = Sources::default();
        self.observed.register(&sources);
        let server = &self.config.server;
        server.readiness.sources("templating", &sources);
        let gate = server.readiness.gate("templating-sources");
        group.spawn_finite("readiness", {
            let (sources, cancel) = (sources.clone(), group.token());
            async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = sources.synced() => gate.ready(),
                }
            }
        });
        let runs = server.metrics.controllers().reconciler("templating", "catalogue");
        let reconciler = Reconciler::new(
            (kube.clone(), clock.clone()),
            self.observed,
            sources,
            self.config.resync,
            runs,
        );
        let (lease, cancel) = (self.config.lease, group.token());
        group.spawn("reconcile", async move {
            // The lease lives in it; if this does not work yet, neither does the lease, and that is tried again.
            if let Err(error) = ensure_system_namespace(&kube, FieldManager::Templating).await {
                tracing::warn!(error = %Chain(&error), "cannot ensure that the system namespace exists");
            }
            let election = LeaderElection::new(kube, clock, lease);
            let work = |leading: CancellationToken| async {
                reconciler.run(leading).await;
                Ok::<(), Infallible>(())
            };
            Box::pin(election.run_while_leading(cancel, work)).await
        });
    }
}
