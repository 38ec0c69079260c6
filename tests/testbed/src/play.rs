//! The player: the simulation's behaviour controllers on the real control plane, for what has no hardware here.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context as _;
use kube::Client;
use steading_sim::play::{ControlPlane, Part, PlayConfig, play as play_parts};
use tokio_util::sync::CancellationToken;

use crate::{arguments::DirArgs, clients, kubevirt, state::State};

/// The player's name as a kubelet, to read pods and Nodes.
const KUBELET: &str = "kubelet";

/// `play`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArgs,
}

/// Plays until it is killed.
///
/// # Errors
/// When the API server's kubeconfig cannot be used.
pub fn run(args: Args) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,steading_sim=debug".into()),
        )
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(play(args))
}

async fn play(args: Args) -> anyhow::Result<()> {
    let state = State::read(&args.dir.dir)?.ok_or_else(|| anyhow::anyhow!("no test bed here"))?;
    let kubeconfig = std::fs::read_to_string(&state.kubeconfig)?;
    let mut made: BTreeMap<String, Client> = BTreeMap::new();
    for agent in Part::MISSING.iter().map(|part| part.agent()).chain([KUBELET]) {
        // virt-api lets nobody else change VMIs.
        let user = (agent == Part::VirtHandler.agent()).then_some(kubevirt::HANDLER.name);
        let config = clients::config(&kubeconfig, agent, user).await?;
        made.insert(agent.to_owned(), Client::try_from(config)?);
    }
    let fallback = clients::admin(&state.kubeconfig, "player").await?;
    let clients = move |agent: &str| made.get(agent).unwrap_or(&fallback).clone();
    let planes = state
        .tenant_kubeconfigs
        .iter()
        .map(|path| plane(path))
        .collect::<anyhow::Result<_>>()?;
    let config = PlayConfig::beside(Arc::new(clients), planes);
    let cancel = CancellationToken::new();
    play_parts(&config, &cancel).first_ended().await;
    anyhow::bail!("a behaviour has ended")
}

/// A tenant's control plane, named as its kubeconfig's file.
fn plane(path: &Path) -> anyhow::Result<ControlPlane> {
    let name = path.file_stem().and_then(|name| name.to_str());
    Ok(ControlPlane {
        name: name
            .with_context(|| format!("{} names no control plane", path.display()))?
            .to_owned(),
        kubeconfig: std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
    })
}
