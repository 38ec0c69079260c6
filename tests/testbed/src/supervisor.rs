//! The processes of a test bed: started, kept running, ended together.
//!
//! Every process asks the kernel to be killed when the supervisor is gone (`setpriv --pdeathsig`), so nothing outlives it, however it
//! ends. The request belongs to the thread that forked: the supervisor therefore runs on one thread.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{process::Command, sync::Mutex, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::state::{Phase, Process, State};

/// Pause before a process that has ended is started again; what an init system takes by default, but for its growth.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// A process that ends this often before all is ready will not come up.
const MAX_STARTS: u32 = 6;

/// A command line.
#[derive(Debug, Clone)]
pub struct Program {
    /// Name, unique in the test bed.
    pub name: String,
    /// What runs.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Program {
    /// From its parts.
    pub fn new(name: impl Into<String>, path: PathBuf, args: Vec<String>) -> Self {
        Self {
            name: name.into(),
            path,
            args,
        }
    }
}

/// The running processes and what is said of them. Clones share it.
#[derive(Clone)]
pub struct Supervisor {
    dir: PathBuf,
    state: Arc<std::sync::Mutex<State>>,
    tasks: Arc<Mutex<JoinSet<anyhow::Result<()>>>>,
    cancel: CancellationToken,
    since: std::time::Instant,
}

impl Supervisor {
    /// Without processes yet.
    pub fn new(dir: &Path, state: State) -> Self {
        Self {
            dir: dir.to_owned(),
            state: Arc::new(std::sync::Mutex::new(state)),
            tasks: Arc::default(),
            cancel: CancellationToken::new(),
            since: std::time::Instant::now(),
        }
    }

    /// Changes what is said of the test bed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&self, change: impl FnOnce(&mut State)) -> anyhow::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut state);
        state.write(&self.dir)
    }

    /// What is said of the test bed now.
    pub fn state(&self) -> State {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Says what is being done now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn step(&self, text: &str) -> anyhow::Result<()> {
        eprintln!("{:>7.1} s  {text}", self.since.elapsed().as_secs_f32());
        self.tell(|state| state.phase = Phase::Starting { step: text.to_owned() })
    }

    /// Starts a process and keeps it running.
    pub async fn start(&self, program: Program) {
        let (this, cancel) = (self.clone(), self.cancel.clone());
        self.tasks
            .lock()
            .await
            .spawn(async move { this.keep(program, cancel).await });
    }

    async fn keep(self, program: Program, cancel: CancellationToken) -> anyhow::Result<()> {
        let log = self.log(&program.name);
        loop {
            let output = File::options()
                .create(true)
                .append(true)
                .open(&log)
                .with_context(|| format!("cannot write {}", log.display()))?;
            let mut child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(&program.path)
                .args(&program.args)
                .current_dir(&self.dir)
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot run setpriv (of util-linux) for {}", program.name))?;
            let pid = child.id();
            self.tell(|state| state.processes.entry(program.name.clone()).or_default().pid = pid)?;
            tokio::select! {
                status = child.wait() => eprintln!("{} ended: {:?}", program.name, status),
                () = cancel.cancelled() => {
                    child.kill().await.ok();
                    return Ok(());
                }
            }
            let mut gives_up = false;
            self.tell(|state| {
                let ready = matches!(state.phase, Phase::Ready { .. });
                let process: &mut Process = state.processes.entry(program.name.clone()).or_default();
                process.pid = None;
                process.restarts += 1;
                gives_up = !ready && process.restarts >= MAX_STARTS;
            })?;
            if gives_up {
                anyhow::bail!("{} ends again and again; its last lines:\n{}", program.name, tail(&log));
            }
            tokio::time::sleep(RESTART_AFTER).await;
        }
    }

    /// Where a process writes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// Returns when a process cannot be kept running.
    pub async fn failed(&self) -> anyhow::Error {
        loop {
            let ended = self.tasks.lock().await.try_join_next();
            match ended {
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return error.into(),
                Some(Ok(Ok(()))) | None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Ends all processes.
    pub async fn stop(&self) {
        self.cancel.cancel();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 12;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
