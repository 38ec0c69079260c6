//! All of Steading in one process: what `up` and `demo` run, and what the whole-stack tests drive.
//!
//! ```text
//!  Stack ─┬─ simulated infra cluster (or a client of a real one)
//!         ├─ templating, scheduling, storage ─ each on a port of its own
//!         ├─ lifecycle ── calls the three over gRPC, as it would in processes of their own
//!         └─ gateway ──── calls all four
//! ```
//!
//! The parts are the very libraries that the binaries run. Any of them can be killed and started again on its port while the rest
//! keeps running, which is how tests crash a service.

pub mod part;
pub mod prepare;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use kube::Client;
use serde_json::{Value, json};
use steading_runtime::{admin::Readiness, metrics::Metrics, process::bind};
pub use steading_sim::{Sim, SimConfig};

pub use self::part::Part;
use self::{
    part::{Launch, Running, loopback},
    prepare::Prepared,
};

/// How long the parts may take to be ready: they wait for their first watches.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at a part.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The infra cluster below a stack.
#[derive(Debug, Clone)]
pub enum Infra {
    /// A simulated one of its own.
    Simulated(SimConfig),
    /// The one that a kubeconfig names.
    Kubeconfig(PathBuf),
}

/// How a stack is made.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Where the gateway listens; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The infra cluster.
    pub infra: Infra,
    /// Where the simulated infra cluster's kubeconfig is written; a temporary file if not said.
    pub write_kubeconfig: Option<PathBuf>,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            listen: loopback(0),
            infra: Infra::Simulated(SimConfig::default()),
            write_kubeconfig: None,
        }
    }
}

/// A running stack. Dropping it ends everything at once; [`Stack::stop`] drains first.
pub struct Stack {
    launch: Launch,
    parts: BTreeMap<Part, Running>,
    sim: Option<Sim>,
    prepared: Prepared,
    kubeconfig: PathBuf,
    /// Deletes the temporary kubeconfig with the stack.
    _directory: Option<tempfile::TempDir>,
}

impl Stack {
    /// Starts everything and returns when all parts are ready.
    ///
    /// # Errors
    /// When a port cannot be bound, the infra cluster cannot be reached or is not fit, or a part does not get ready.
    pub async fn start(config: StackConfig) -> anyhow::Result<Self> {
        Self::start_telling(config, &|_| {}).await
    }

    /// As [`Stack::start`], telling what it is about.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_telling(config: StackConfig, tell: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Self> {
        let (sim, kubeconfig, directory) = infra(&config).await?;
        let launch = Launch::new(sim.as_ref(), &kubeconfig);
        let client = launch.client("steading-install").await?;
        let prepared = prepare::prepare(&client, &prepare::whence(&kubeconfig), tell).await?;
        tell("starting the services");

        let mut listeners = BTreeMap::new();
        for part in Part::ALL {
            let address = if part == Part::Gateway {
                config.listen
            } else {
                loopback(0)
            };
            listeners.insert(part, bind(address).await?);
        }
        let addresses = listeners
            .iter()
            .map(|(part, l)| Ok((*part, l.local_addr()?)))
            .collect::<std::io::Result<_>>()?;
        let launch = launch.with_addresses(addresses);
        let mut parts = BTreeMap::new();
        for (part, listener) in listeners {
            parts.insert(part, launch.launch(part, listener, launch.metrics()).await?);
        }
        let mut stack = Self {
            launch,
            parts,
            sim,
            prepared,
            kubeconfig,
            _directory: directory,
        };
        stack.wait_ready().await?;
        Ok(stack)
    }

    /// The gateway's address.
    pub fn gateway(&self) -> SocketAddr {
        self.address(Part::Gateway)
    }

    /// The gateway's URL.
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway())
    }

    /// A part's address.
    pub fn address(&self, part: Part) -> SocketAddr {
        self.launch.address(part)
    }

    /// What all parts wait for, and the sources of their controllers.
    pub fn readiness(&self) -> Readiness {
        self.launch.readiness()
    }

    /// What all parts measure. A part that was started again is no longer among them: a registry takes each metric once.
    pub fn metrics(&self) -> Metrics {
        self.launch.metrics()
    }

    /// The kubeconfig of the infra cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What was found in the infra cluster and done to it before the start.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// A client of the infra cluster.
    ///
    /// # Errors
    /// When the kubeconfig can no longer be read.
    pub async fn infra_client(&self, user_agent: &str) -> anyhow::Result<Client> {
        self.launch.client(user_agent).await
    }

    /// The simulated infra cluster, if it is one.
    pub fn sim(&self) -> Option<&Sim> {
        self.sim.as_ref()
    }

    /// Ends a part without warning, as a crash would, and starts it again on its port.
    ///
    /// # Errors
    /// When its port cannot be had again, or it does not get ready.
    pub async fn kill_and_restart(&mut self, part: Part) -> anyhow::Result<()> {
        if let Some(running) = self.parts.remove(&part) {
            running.kill().await;
        }
        let listener = bind_again(self.address(part)).await?;
        let running = self.launch.launch(part, listener, Metrics::new()).await?;
        self.parts.insert(part, running);
        self.wait_ready().await
    }

    /// Requests that the simulated API server has served, by client.
    pub fn request_counts(&self) -> Option<Value> {
        let counts = self.sim.as_ref()?.requests();
        let mut by_agent: BTreeMap<String, u64> = BTreeMap::new();
        for (key, count) in counts.snapshot() {
            *by_agent
                .entry(key.user_agent.split('/').next().unwrap_or_default().to_owned())
                .or_default() += count;
        }
        Some(json!(by_agent))
    }

    /// Returns when a part ends by itself, which it should not.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            for (part, running) in &mut self.parts {
                if let Some(error) = running.failure() {
                    return error.context(format!("{part} ended"));
                }
            }
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }

    /// Drains and ends everything, the gateway first.
    pub async fn stop(mut self) {
        for part in Part::ALL.into_iter().rev() {
            if let Some(running) = self.parts.remove(&part) {
                running.drain().await;
            }
        }
        if let Some(sim) = self.sim.take() {
            sim.stop().await;
        }
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + READY_DEADLINE;
        for (part, running) in &mut self.parts {
            while !running.is_ready() {
                if let Some(error) = running.failure() {
                    return Err(error.context(format!("{part} did not start")));
                }
                if tokio::time::Instant::now() > deadline {
                    bail!(
                        "{part} is not ready after {}s: {}",
                        READY_DEADLINE.as_secs(),
                        running.waits_for()
                    );
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }
}

async fn infra(config: &StackConfig) -> anyhow::Result<(Option<Sim>, PathBuf, Option<tempfile::TempDir>)> {
    match &config.infra {
        Infra::Kubeconfig(path) => Ok((None, path.clone(), None)),
        Infra::Simulated(simulation) => {
            let sim = Sim::start(simulation.clone())
                .await
                .context("the simulation does not start")?;
            let (path, directory) = match &config.write_kubeconfig {
                Some(path) => (path.clone(), None),
                None => {
                    let directory = tempfile::Builder::new().prefix("steading-").tempdir()?;
                    (directory.path().join("infra.kubeconfig"), Some(directory))
                }
            };
            std::fs::write(&path, sim.kubeconfig()).with_context(|| format!("cannot write {}", path.display()))?;
            Ok((Some(sim), path, directory))
        }
    }
}

/// Binds a port that was in use a moment ago.
async fn bind_again(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let deadline = tokio::time::Instant::now() + READY_DEADLINE;
    loop {
        match bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
