//! Composition of the service.

use std::{convert::Infallible, time::Duration};

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use steading_api::storage::v1::{
    storage_class_service_server::StorageClassServiceServer, volume_service_server::VolumeServiceServer,
};
use steading_controller::Sources;
use steading_infra::{
    cdi::DataVolume,
    crd::{MachinePool, StorageClass},
    error::optional,
    kubevirt::{VirtualMachine, VirtualMachineInstance},
};
use steading_runtime::{CancellationToken, clock::Clock, lease::LeaderElection, server::GrpcServer, tasks::TaskGroup};
use tokio::net::TcpListener;

use crate::{
    api::{class_service::StorageClassApi, volume_service::VolumeApi},
    apply::{Events, Executor},
    config::Config,
    error::ServiceError,
    metrics::StorageMetrics,
    observe::{Observed, parse},
    reconcile::{Reconciler, classes},
};

/// Room for the end of tasks after the server's drain.
const LAST_SECOND: Duration = Duration::from_secs(1);

/// How often readiness is looked at while the first lists are under way.
const READINESS_POLL: Duration = Duration::from_millis(20);
/// How often CDI's configuration is read again: people change it once in months.
const OVERHEADS_RESYNC: Duration = Duration::from_secs(300);

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
    observed: Observed,
}

impl Service {
    /// Binds and starts nothing.
    pub fn new(config: Config, deps: Deps) -> Self {
        let observed = Observed::new(&config.source, config.server.metrics.controllers());
        Self { config, deps, observed }
    }

    /// `StorageClassService`, for callers in the same process and for tests.
    pub fn classes(&self) -> StorageClassApi {
        StorageClassApi::new(self.deps.kube.clone(), self.deps.clock.clone())
    }

    /// `VolumeService`, for callers in the same process and for tests. Knows of attachments while
    /// [`Self::run`] or [`Self::run_background`] runs.
    pub fn volumes(&self) -> VolumeApi {
        VolumeApi::new(self.deps.kube.clone(), self.deps.clock.clone(), self.observed.clone())
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
        let (seen, cancel) = (self.observed, group.token());
        spawn_sources(group, &kube, &seen);
        group.spawn(
            "overheads",
            follow_overheads(kube.clone(), seen.clone(), cancel.clone()),
        );

        let sources = Sources::default();
        seen.register(&sources);
        self.config.server.readiness.sources("storage", &sources);
        let gate = self.config.server.readiness.gate("storage-sources");
        group.spawn_finite("readiness", {
            let (seen, cancel) = (seen.clone(), cancel.clone());
            async move {
                while !seen.is_synced() {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(READINESS_POLL) => {}
                    }
                }
                gate.ready();
            }
        });

        let lease = self.config.lease;
        let reconciler = Reconciler {
            executor: Executor {
                client: kube.clone(),
                observed: seen.clone(),
                clock: clock.clone(),
                events: Events::new(kube.clone()),
            },
            observed: seen.clone(),
            resync: self.config.resync,
            metrics: StorageMetrics::new(&self.config.server.metrics),
            runs: self
                .config
                .server
                .metrics
                .controllers()
                .reconciler("storage", "attachments"),
        };
        group.spawn("reconcile", async move {
            let election = LeaderElection::new(kube.clone(), clock.clone(), lease);
            let work = |leading: CancellationToken| {
                let classes = classes::run(kube.clone(), clock.clone(), seen.classes.clone(), leading.clone());
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

fn spawn_sources(group: &TaskGroup, kube: &Client, seen: &Observed) {
    let (client, cancel) = (|| kube.clone(), || group.token());
    let volumes = seen.volumes.clone();
    group.spawn(
        "volumes",
        volumes.run(client(), |object: DataVolume| parse::volume(&object), cancel()),
    );
    let claims = seen.claims.clone();
    group.spawn(
        "claims",
        claims.run(
            client(),
            |object: PersistentVolumeClaim| parse::claim(&object),
            cancel(),
        ),
    );
    let machines = seen.machines.clone();
    group.spawn(
        "machines",
        machines.run(
            client(),
            |object: VirtualMachine| Some(parse::machine(&object)),
            cancel(),
        ),
    );
    let instances = seen.instances.clone();
    group.spawn(
        "instances",
        instances.run(
            client(),
            |object: VirtualMachineInstance| Some(parse::instance(&object)),
            cancel(),
        ),
    );
    let nodes = seen.nodes.clone();
    group.spawn(
        "nodes",
        nodes.run(client(), |object: Node| Some(parse::node(&object)), cancel()),
    );
    let pools = seen.pools.clone();
    group.spawn(
        "pools",
        pools.run(
            client(),
            |object: MachinePool| Some(parse::boot_disks(&object)),
            cancel(),
        ),
    );
    let classes = seen.classes.clone();
    group.spawn(
        "classes",
        classes.run(client(), |object: StorageClass| Some(object), cancel()),
    );
}

/// Reads what CDI keeps of file systems for itself, until cancelled.
async fn follow_overheads(kube: Client, seen: Observed, cancel: CancellationToken) {
    let kind = GroupVersionKind::gvk("cdi.kubevirt.io", "v1beta1", "CDIConfig");
    let api: Api<DynamicObject> = Api::all_with(kube, &ApiResource::from_gvk(&kind));
    let mut resync = tokio::time::interval(OVERHEADS_RESYNC);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = resync.tick() => {}
        }
        match optional(api.get("config").await) {
            Ok(Some(config)) => seen.set_overheads(parse::overheads(&config)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the configuration of CDI cannot be read"),
        }
    }
}
