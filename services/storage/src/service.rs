//! Composition of the service.

use std::{convert::Infallible, time::Duration};

use kube::Client;
use steading_api::storage::v1::{
    storage_class_service_server::StorageClassServiceServer, volume_service_server::VolumeServiceServer,
};
use steading_runtime::{CancellationToken, clock::Clock, lease::LeaderElection, server::GrpcServer, tasks::TaskGroup};
use tokio::net::TcpListener;

use crate::{
    api::{class_service::StorageClassApi, volume_service::VolumeApi},
    config::Config,
    error::ServiceError,
    metrics::StorageMetrics,
    observe::SharedIndex,
    reconcile::{Reconciler, classes, watches},
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

/// The storage service, not yet running.
pub struct Service {
    config: Config,
    deps: Deps,
    index: SharedIndex,
}

impl Service {
    /// Binds and starts nothing.
    pub fn new(config: Config, deps: Deps) -> Self {
        Self {
            config,
            deps,
            index: SharedIndex::default(),
        }
    }

    /// `StorageClassService`, for callers in the same process and for tests.
    pub fn classes(&self) -> StorageClassApi {
        StorageClassApi::new(self.deps.kube.clone(), self.deps.clock.clone())
    }

    /// `VolumeService`, for callers in the same process and for tests. Knows of attachments while
    /// [`Self::run`] or [`Self::run_background`] runs.
    pub fn volumes(&self) -> VolumeApi {
        VolumeApi::new(self.deps.kube.clone(), self.deps.clock.clone(), self.index.clone())
    }

    /// Serves on the listener until cancelled, and reconciles while it holds the lease. Returns after the drain.
    ///
    /// # Errors
    /// If the server cannot serve or a task dies.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) -> Result<(), ServiceError> {
        let drain = self.config.server.limits.drain;
        let group = TaskGroup::new("storage", cancel.clone());
        let server = GrpcServer::builder("storage")
            .config(self.config.server.clone())
            .add_service(StorageClassServiceServer::new(self.classes()))
            .add_service(VolumeServiceServer::new(self.volumes()));
        group.spawn("grpc", server.run(listener, cancel));
        self.spawn(&group);
        Ok(group.join(drain + LAST_SECOND).await?)
    }

    /// Watches and reconciles without serving, for tests that call [`Self::volumes`] directly.
    ///
    /// # Errors
    /// If a task dies.
    pub async fn run_background(self, cancel: CancellationToken) -> Result<(), ServiceError> {
        let group = TaskGroup::new("storage", cancel);
        self.spawn(&group);
        Ok(group.join(LAST_SECOND).await?)
    }

    fn spawn(self, group: &TaskGroup) {
        let Deps { kube, clock } = self.deps;
        let (index, cancel) = (self.index, group.token());
        group.spawn("volumes", watches::volumes(kube.clone(), index.clone(), cancel.clone()));
        group.spawn("claims", watches::claims(kube.clone(), index.clone(), cancel.clone()));
        group.spawn(
            "machines",
            watches::machines(kube.clone(), index.clone(), cancel.clone()),
        );
        group.spawn(
            "instances",
            watches::instances(kube.clone(), index.clone(), cancel.clone()),
        );

        let gate = self.config.server.readiness.gate("storage-index");
        group.spawn_finite("readiness", {
            let (index, cancel) = (index.clone(), cancel.clone());
            async move {
                let mut follow = index.follow();
                while !index.read().is_complete() {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        changed = follow.changed() => if changed.is_err() { return },
                    }
                }
                gate.ready();
            }
        });

        let lease = self.config.lease;
        let reconciler = Reconciler {
            client: kube.clone(),
            index,
            resync: self.config.resync,
            metrics: StorageMetrics::new(&self.config.server.metrics),
        };
        group.spawn("reconcile", async move {
            let election = LeaderElection::new(kube.clone(), clock.clone(), lease);
            let work = |leading: CancellationToken| {
                let classes = classes::run(kube.clone(), clock.clone(), leading.clone());
                let reconciler = &reconciler;
                async move {
                    tokio::join!(reconciler.run(leading), classes);
                    Ok::<(), Infallible>(())
                }
            };
            Box::pin(election.run_while_leading(cancel, work)).await
        });
    }
}
