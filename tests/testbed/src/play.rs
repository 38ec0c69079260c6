//! The player: the simulation's behaviour controllers on the real control plane, for what has no hardware here.

use kube::Client;
use steading_sim::{
    behaviour::{Context, Pace, cdi, load_balancers, snapshots, virt_handler},
    time::SimTime,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{clients, command::DirArgs, kubevirt, state::State};

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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(play(args))
}

async fn play(args: Args) -> anyhow::Result<()> {
    let state = State::read(&args.dir.dir)?.ok_or_else(|| anyhow::anyhow!("no test bed here"))?;
    let kubeconfig = std::fs::read_to_string(&state.kubeconfig)?;
    let client = async |agent: &str, user: Option<&str>| -> anyhow::Result<Client> {
        Ok(Client::try_from(clients::config(&kubeconfig, agent, user).await?)?)
    };
    let context = |client: Client| Context {
        client,
        time: SimTime::automatic(1.0),
        seed: 1,
        pace: Pace::default(),
    };
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(cdi::run(context(client("cdi", None).await?), cancel.clone()));
    tasks.spawn(snapshots::run(context(client("snapshot-controller", None).await?), cancel.clone()));
    tasks.spawn(load_balancers::run(context(client("load-balancer", None).await?), cancel.clone()));
    tasks.spawn(virt_handler::run(
        context(client("virt-handler", Some(kubevirt::HANDLER.name)).await?),
        client("kubelet", None).await?,
        cancel.clone(),
    ));
    tasks.join_next().await;
    anyhow::bail!("a behaviour has ended")
}
