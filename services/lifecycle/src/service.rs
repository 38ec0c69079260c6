//! Composition: observers, reconcilers under the lease, the gRPC server.

use std::sync::Arc;

use parking_lot::Mutex;
use steading_controller::Sources;
use steading_runtime::{CancellationToken, clock::Clock, lease::LeaderElection, server::GrpcServer, tasks::TaskGroup};
use tokio::net::TcpListener;

use crate::{
    api,
    apply::event::Events,
    config::Config,
    context::Context,
    error::ServiceError,
    observe::{self, Observed},
    peers::Peers,
    reconcile,
    tenant::{self, Connector},
};

/// What the service needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// The infra cluster.
    pub kube: kube::Client,
    /// Time.
    pub clock: Clock,
    /// The other services.
    pub peers: Peers,
    /// How tenants are reached.
    pub tenants: Connector,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").finish_non_exhaustive()
    }
}

impl Deps {
    /// Tenants are reached as their kubeconfigs say.
    pub fn new(kube: kube::Client, clock: Clock, peers: Peers) -> Self {
        Self {
            kube,
            clock,
            peers,
            tenants: Connector::from_kubeconfig(),
        }
    }
}

/// The service; see the crate.
#[derive(Debug)]
pub struct Service {
    config: Config,
    deps: Deps,
}

impl Service {
    /// Binds and connects nothing.
    pub fn new(config: Config, deps: Deps) -> Self {
        Self { config, deps }
    }

    /// Serves and reconciles until `cancel` is cancelled; returns after the drain.
    ///
    /// # Errors
    /// If the server cannot serve or a task dies.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) -> Result<(), ServiceError> {
        let Self { config, deps } = self;
        let observed = Observed::new(&config.source, config.server.metrics.controllers());
        let context = Context {
            kube: deps.kube.clone(),
            clock: deps.clock.clone(),
            peers: deps.peers.clone(),
            allowances: Arc::new(config.load_balancers.clone()),
            observed: Arc::clone(&observed),
            events: Events::new(deps.kube.clone()),
            memory: Arc::new(Mutex::default()),
        };
        let group = TaskGroup::new("lifecycle", cancel.clone());
        let gate = config.server.readiness.gate("lifecycle watches");
        let sources = Sources::default();
        observed.register(&sources);
        config.server.readiness.sources("lifecycle", &sources);
        observe::spawn_watches(&observed, &deps.kube, &group.spawner());
        group.spawn(
            "tenants",
            tenant::run(
                Arc::clone(&observed),
                deps.kube.clone(),
                deps.tenants.clone(),
                deps.clock.clone(),
                config.server.metrics.clone(),
                group.spawner(),
            ),
        );
        group.spawn_finite("readiness", {
            let (observed, cancel) = (Arc::clone(&observed), cancel.clone());
            async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = observed.synced() => gate.ready(),
                }
            }
        });
        let election = LeaderElection::new(deps.kube.clone(), deps.clock.clone(), config.lease.clone());
        group.spawn("reconcilers", {
            let (context, config, cancel) = (context.clone(), config.clone(), cancel.clone());
            async move {
                election
                    .run_while_leading(cancel, |lost| {
                        let (context, config) = (context.clone(), config.clone());
                        async move { reconcile::run(context, &config, lost).await }
                    })
                    .await
            }
        });
        let server = GrpcServer::builder("steading-lifecycle")
            .config(config.server.clone())
            .descriptors(steading_api::FILE_DESCRIPTOR_SET);
        let outcome = api::add_services(server, &context).run(listener, cancel.clone()).await;
        cancel.cancel();
        let joined = group.join(config.drain).await;
        outcome?;
        Ok(joined?)
    }
}
