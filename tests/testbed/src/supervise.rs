//! The supervisor of a test bed: brings it up, keeps it running, ends it whole.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
};

use crate::{
    arguments::{DirArgs, ShapeArgs},
    binaries, bring_up,
    home::home,
    progress::Progress,
    state::{Phase, Shape, State},
    supervisor::Supervisor,
};

/// Pause that lets whoever waits read the failure before the folder goes.
const TELL_FAILURE: Duration = Duration::from_secs(2);

/// `supervise`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// End when standard input is closed, as it is when the process that started this one ends.
    #[arg(long)]
    end_with_stdin: bool,
}

/// Runs until it is told to end, or cannot go on.
///
/// # Errors
/// What did not come up or does not stay up.
pub fn run(args: Args) -> anyhow::Result<()> {
    // One thread: the processes' wish to end with us belongs to the thread that forked them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(supervise(args));
    // A read of standard input cannot be cancelled.
    runtime.shutdown_background();
    outcome
}

async fn supervise(args: Args) -> anyhow::Result<()> {
    let (dir, shape) = (args.dir.dir, Shape::from(args.shape));
    // Signals are caught before anything is started.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let state = State {
        supervisor: std::process::id(),
        shape: shape.clone(),
        phase: Phase::Starting {
            step: "preparing".to_owned(),
        },
        kubeconfig: dir.join("pki/admin.kubeconfig"),
        tenant_kubeconfigs: Vec::new(),
        audit_log: dir.join("audit.log"),
        processes: std::collections::BTreeMap::new(),
    };
    let supervisor = Supervisor::new(&dir, state);
    supervisor.tell(|_| {})?;
    let binaries = binaries::ensure(&home()?, &Progress::silent())?;
    let work = async {
        bring_up::run(&dir, &shape, &binaries, &supervisor).await?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let owner = async {
        if args.end_with_stdin {
            tokio::io::stdin().read_u8().await.ok();
        } else {
            std::future::pending::<()>().await;
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        error = supervisor.failed() => Err(error),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = owner => Ok(()),
    };
    if let Err(error) = &outcome {
        let error = format!("{error:#}");
        supervisor.tell(|state| state.phase = Phase::Failed { error })?;
    }
    supervisor.stop().await;
    if outcome.is_err() {
        tokio::time::sleep(TELL_FAILURE).await;
    } else if args.end_with_stdin {
        // Nobody is left to do it.
        std::fs::remove_dir_all(&dir).ok();
    }
    outcome
}
