//! The simulated infra cluster as one thing: the API server, everything that plays on it, and the tenants' clusters.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use steading_kubesim::{
    ApiServer, ApiServerConfig, PodDeletion, counters::Counters, faults::Faults, http, time::SimTime,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    behaviour::{
        Pace,
        guests::Guests,
        nodes::{Power, Shape},
        tenants,
    },
    kinds,
    play::{Part, Play, PlayConfig, Simulated, Source, play},
};

/// What a simulation is made of.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Bare-metal nodes.
    pub infra_nodes: u32,
    /// Zones that they are spread over.
    pub zones: u32,
    /// Seed of uids, names, durations and random faults.
    pub seed: u64,
    /// The clock; `None` for one that follows tokio's.
    pub time: Option<SimTime>,
    /// How long things take.
    pub pace: Pace,
    /// Where the API servers are served over HTTP.
    pub listen: SocketAddr,
    /// Server address to put into kubeconfigs, where others reach this one by another name.
    pub advertise: Option<String>,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            infra_nodes: 3,
            zones: 3,
            seed: 1,
            time: None,
            pace: Pace::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
        }
    }
}

/// An API server that knows the kinds of KubeVirt and CDI; nothing plays on it yet.
pub fn infra_api_server(config: ApiServerConfig) -> ApiServer {
    let server = ApiServer::new(config);
    for kind in kinds::resources() {
        server.register(kind);
    }
    server
}

/// A running simulation. Dropping it ends everything.
pub struct Sim {
    server: ApiServer,
    power: Power,
    play: Play,
    address: SocketAddr,
    url: String,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Sim {
    /// Starts the API server and everything that plays on it.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(config: SimConfig) -> std::io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let url = config.advertise.clone().unwrap_or_else(|| format!("http://{address}"));
        let time = config.time.clone().unwrap_or_else(|| SimTime::automatic(1.0));
        let server = infra_api_server(ApiServerConfig {
            time: time.clone(),
            seed: config.seed,
            pod_deletion: PodDeletion::Graceful,
            ..ApiServerConfig::default()
        });
        let power = Power::default();
        let cancel = CancellationToken::new();
        let clients = server.clone();
        let config = PlayConfig {
            parts: Part::ALL.into(),
            clients: Arc::new(move |agent| clients.client_named(agent)),
            time,
            seed: config.seed,
            pace: config.pace,
            tenants: Source::Memory(url.clone()),
            simulated: Some(Simulated {
                server: server.clone(),
                shape: Shape {
                    nodes: config.infra_nodes,
                    zones: config.zones,
                },
                power: power.clone(),
            }),
        };
        let mut sim = Self {
            server,
            power,
            play: play(&config, &cancel),
            address,
            url,
            cancel,
            tasks: JoinSet::new(),
        };
        sim.serve(listener);
        Ok(sim)
    }

    fn serve(&mut self, listener: TcpListener) {
        let tenants = self.play.tenants().clone();
        let router = http::with_named(self.server.clone(), tenants::BELOW, move |namespace| {
            tenants.get(namespace)
        });
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            if let Err(error) = http::serve(listener, router, cancel).await {
                tracing::error!(%error, "the simulated API is not served any more");
            }
        });
    }

    /// A client of the infra cluster, without a socket.
    pub fn client(&self) -> kube::Client {
        self.server.client()
    }

    /// The infra cluster's API server.
    pub fn api(&self) -> &ApiServer {
        &self.server
    }

    /// Its faults.
    pub fn faults(&self) -> &Faults {
        self.server.faults()
    }

    /// Its request counters.
    pub fn requests(&self) -> &Counters {
        self.server.counters()
    }

    /// A tenant cluster's API server, by the namespace of its cluster.
    pub fn tenant(&self, namespace: &str) -> Option<ApiServer> {
        self.play.tenants().get(namespace)
    }

    /// The guests.
    pub fn guests(&self) -> &Guests {
        self.play.guests()
    }

    /// The power of the bare metal.
    pub fn power(&self) -> &Power {
        &self.power
    }

    /// Where the API is served over HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig of the infra cluster.
    pub fn kubeconfig(&self) -> String {
        let server = &self.url;
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "steading",
            "clusters": [{ "name": "steading", "cluster": { "server": server } }],
            "users": [{ "name": "steading", "user": {} }],
            "contexts": [{ "name": "steading", "context": { "cluster": "steading", "user": "steading" } }],
        });
        // JSON is YAML, and every reader of kubeconfigs reads YAML.
        format!("{config:#}\n")
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        self.play.stop().await;
        self.tasks.shutdown().await;
    }
}
