//! The parts of a stack: how each is started, watched and ended.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use kube::Client;
use steading_gateway::{Gateway, Route};
use steading_infra::labels;
use steading_kubesim::ApiServer;
use steading_runtime::{
    CancellationToken, admin::Readiness, clock::Clock, lease::LeaseConfig, metrics::Metrics, server::ServerConfig,
};
use steading_sim::Sim;
use tokio::{net::TcpListener, task::JoinSet};

use crate::prepare::whence;

/// A port of this machine that only this machine reaches; 0 lets the kernel choose.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A part of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Templates and images.
    Templating,
    /// Placement and capacity.
    Scheduling,
    /// Volumes.
    Storage,
    /// Clusters, pools, machines, maintenances, load balancers.
    Lifecycle,
    /// REST and gRPC for everybody.
    Gateway,
}

impl Part {
    /// All parts, each after those that it calls.
    pub const ALL: [Self; 5] = [
        Self::Templating,
        Self::Scheduling,
        Self::Storage,
        Self::Lifecycle,
        Self::Gateway,
    ];

    /// Its name, as in `steading-storage`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Templating => "templating",
            Self::Scheduling => "scheduling",
            Self::Storage => "storage",
            Self::Lifecycle => "lifecycle",
            Self::Gateway => "gateway",
        }
    }

    /// The lease that its reconcilers hold; the gateway has none.
    fn lease(self) -> &'static str {
        match self {
            Self::Templating => labels::TEMPLATING_MANAGER,
            Self::Scheduling => labels::SCHEDULING_MANAGER,
            Self::Storage => labels::STORAGE_MANAGER,
            Self::Lifecycle => labels::LIFECYCLE_MANAGER,
            Self::Gateway => "",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Starts parts.
pub(crate) struct Launch {
    server: Option<ApiServer>,
    kubeconfig: PathBuf,
    /// Who holds the leases: the same over the life of the stack, and nobody else's anywhere.
    identity: String,
    addresses: BTreeMap<Part, SocketAddr>,
    readiness: Readiness,
    metrics: Metrics,
}

impl Launch {
    pub(crate) fn new(sim: Option<&Sim>, kubeconfig: &Path) -> Self {
        let server = sim.map(|s| s.api().clone());
        Self {
            server,
            kubeconfig: kubeconfig.to_owned(),
            identity: format!("stack-{}", uuid::Uuid::new_v4()),
            addresses: BTreeMap::new(),
            readiness: Readiness::new(),
            metrics: Metrics::new(),
        }
    }

    /// Of all parts.
    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Of all parts as they were started first.
    pub(crate) fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    pub(crate) fn with_addresses(self, addresses: BTreeMap<Part, SocketAddr>) -> Self {
        Self { addresses, ..self }
    }

    pub(crate) fn address(&self, part: Part) -> SocketAddr {
        self.addresses.get(&part).copied().unwrap_or_else(|| loopback(0))
    }

    fn url(&self, part: Part) -> String {
        format!("http://{}", self.address(part))
    }

    /// A client of the infra cluster: in this process where it is simulated, as the kubeconfig says where it is not.
    pub(crate) async fn client(&self, user_agent: &str) -> anyhow::Result<Client> {
        match &self.server {
            Some(server) => Ok(server.client_named(user_agent)),
            None => steading_runtime::kube::client(Some(&self.kubeconfig), user_agent)
                .await
                .with_context(|| format!("{} does not lead to a cluster", whence(&self.kubeconfig))),
        }
    }

    /// Starts a part on its listener.
    pub(crate) async fn launch(&self, part: Part, listener: TcpListener, metrics: Metrics) -> anyhow::Result<Running> {
        let kube = self.client(&format!("steading-{part}")).await?;
        let clock = Clock::system();
        let readiness = self.readiness.within(part.name());
        // A part that is started again is not ready because an earlier one was.
        readiness.clear();
        let server = ServerConfig {
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            ..ServerConfig::dev_mode()
        };
        // The same holder after a crash leads again at once instead of waiting for its own lease to expire.
        let lease = LeaseConfig::new(labels::SYSTEM_NAMESPACE, part.lease())
            .identity(self.identity.clone())
            .client(self.client(&format!("steading-{part}-lease")).await?);
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let mut tasks = JoinSet::new();
        match part {
            Part::Templating => {
                use steading_templating::{Config, Deps, Service};
                let config = Config {
                    server,
                    lease,
                    ..Config::default()
                };
                let service = Service::new(config, Deps { kube, clock });
                tasks.spawn(async move { service.run(listener, stop).await.map_err(anyhow::Error::from) });
            }
            Part::Scheduling => {
                use steading_scheduling::{Config, Deps, Service};
                let config = Config {
                    server,
                    lease,
                    ..Config::default()
                };
                let service = Service::new(config, Deps { kube, clock });
                tasks.spawn(async move { service.run(listener, stop).await.map_err(anyhow::Error::from) });
            }
            Part::Storage => {
                use steading_storage::{Config, Deps, Service};
                let service = Service::new(
                    Config {
                        server,
                        lease,
                        ..Config::default()
                    },
                    Deps { kube, clock },
                );
                tasks.spawn(async move { service.run(listener, stop).await.map_err(anyhow::Error::from) });
            }
            Part::Lifecycle => {
                use steading_lifecycle::{Config, Deps, Peers, Service, config::PeerArgs};
                let peers = Peers::connect(&PeerArgs {
                    templating: self.url(Part::Templating),
                    scheduling: self.url(Part::Scheduling),
                    storage: self.url(Part::Storage),
                })?;
                let service = Service::new(
                    Config {
                        server,
                        lease,
                        ..Config::default()
                    },
                    Deps::new(kube, clock, peers),
                );
                tasks.spawn(async move { service.run(listener, stop).await.map_err(anyhow::Error::from) });
            }
            Part::Gateway => {
                let routes = Part::ALL.into_iter().filter(|p| *p != Part::Gateway).map(|p| {
                    let service = format!("steading.{p}.v1");
                    Ok(Route {
                        service,
                        uri: self.url(p).parse().context("an upstream's address")?,
                    })
                });
                let contracts = Bytes::from_static(steading_api::FILE_DESCRIPTOR_SET);
                let mut config = steading_gateway::Config::new(vec![contracts], routes.collect::<anyhow::Result<_>>()?);
                config.metrics = Some(metrics);
                let gateway = Gateway::new(config).context("the gateway's configuration")?;
                readiness.gate("gateway").ready();
                tasks.spawn(async move {
                    gateway.run(listener, stop).await;
                    Ok(())
                });
            }
        }
        Ok(Running {
            cancel,
            tasks,
            readiness,
        })
    }
}

/// A part that runs. Dropping it kills it.
pub(crate) struct Running {
    cancel: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    readiness: Readiness,
}

impl Running {
    pub(crate) fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// What it still waits for.
    pub(crate) fn waits_for(&self) -> String {
        let waits = self
            .readiness
            .gates()
            .into_iter()
            .filter_map(|(name, state)| Some(format!("{name}: {}", state.err()?)));
        waits.collect::<Vec<_>>().join(", ")
    }

    /// Why it has ended, if it has.
    pub(crate) fn failure(&mut self) -> Option<anyhow::Error> {
        match self.tasks.try_join_next()? {
            Ok(Ok(())) => Some(anyhow!("it returned although nothing asked it to")),
            Ok(Err(error)) => Some(error),
            Err(error) => Some(error.into()),
        }
    }

    pub(crate) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) async fn drain(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!(%error, "did not end well");
            }
        }
    }
}
