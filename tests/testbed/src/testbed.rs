//! A test bed from outside: started, found, looked at, ended.
//!
//! Its supervisor is a process of its own. One that a person started runs until it is told to end; one that a test started ends with
//! the test, because it watches its standard input.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::{
    binaries,
    home::home,
    interrupts::is_interrupted,
    progress::Progress,
    state::{Phase, Shape, State},
    supervisor::tail,
};

/// How long all of it may take, on top of the deadlines of its parts.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long the supervisor may take to end its processes.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The folder for temporary files below that of a test bed.
const TEMPORARY: &str = "tmp";

/// With what the supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// When it is told to.
    Detached,
    /// With the process that started it.
    Owned,
}

/// A running test bed. One that is owned ends when it is dropped.
#[derive(Debug)]
pub struct Testbed {
    dir: PathBuf,
    supervisor: Option<Child>,
}

impl Testbed {
    /// Builds what is missing, starts the processes, and returns when all of it answers.
    ///
    /// `program` is `steading-testbed`, which runs the supervisor.
    ///
    /// # Errors
    /// When one of this name runs already, a build fails, or a part does not come up. Nothing is left behind then.
    pub fn start(
        program: &Path,
        dir: &Path,
        shape: &Shape,
        lifetime: Lifetime,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        binaries::ensure(&home()?, progress)?;
        if let Some(state) = State::read(dir)? {
            if is_alive(state.supervisor) {
                bail!("{} runs already; end it with `down`", dir.display());
            }
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        for part in ["logs", TEMPORARY] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let log = File::create(dir.join("logs/supervisor.log"))?;
        let mut command = Command::new(program);
        command
            .arg("supervise")
            .arg("--dir")
            .arg(dir)
            .args(["--nodes", &shape.nodes.to_string()])
            .args(["--zones", &shape.zones.to_string()])
            .args(["--tenants", &shape.tenants.to_string()])
            // virt-api leaves certificates in the folder for temporary files; this one goes with the test bed.
            .env("TMPDIR", dir.join(TEMPORARY))
            .stdout(log.try_clone()?)
            .stderr(log);
        match lifetime {
            // A group of its own: Ctrl-C on the terminal is for `up`, not for what it has started.
            Lifetime::Detached => command.stdin(Stdio::null()).process_group(0),
            Lifetime::Owned => command.arg("--end-with-stdin").stdin(Stdio::piped()).process_group(0),
        };
        let supervisor = command
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut testbed = Self {
            dir: dir.to_owned(),
            supervisor: Some(supervisor),
        };
        match testbed.wait_ready(progress) {
            Ok(()) => {
                if lifetime == Lifetime::Detached {
                    testbed.supervisor = None;
                }
                Ok(testbed)
            }
            Err(error) => {
                testbed.stop()?;
                Err(error)
            }
        }
    }

    fn wait_ready(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let until = Instant::now() + DEADLINE;
        let mut shown = String::new();
        loop {
            match State::read(&self.dir)?.map(|state| state.phase) {
                Some(Phase::Ready { .. }) => return Ok(()),
                Some(Phase::Failed { error }) => bail!("{error}"),
                Some(Phase::Starting { step }) if step != shown => {
                    progress.step(&step);
                    shown = step;
                }
                Some(Phase::Starting { .. }) | None => {}
            }
            if let Some(supervisor) = &mut self.supervisor
                && let Some(status) = supervisor.try_wait()?
            {
                let log = tail(&self.dir.join("logs/supervisor.log"));
                bail!("the supervisor ended with {status}:\n{log}");
            }
            if is_interrupted() {
                bail!("interrupted; what was started is ended");
            }
            if Instant::now() > until {
                bail!("not ready after {} s, at: {shown}", DEADLINE.as_secs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The running test bed in a folder, `None` if there is none.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn find(dir: &Path) -> anyhow::Result<Option<Self>> {
        let state = State::read(dir)?.filter(|state| is_alive(state.supervisor));
        Ok(state.map(|_| Self {
            dir: dir.to_owned(),
            supervisor: None,
        }))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it has ended.
    pub fn state(&self) -> anyhow::Result<State> {
        State::read(&self.dir)?.with_context(|| format!("there is no test bed in {}", self.dir.display()))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills one of its processes without warning; the supervisor starts it again. Returns the process id that it had.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&self, process: &str) -> anyhow::Result<u32> {
        let pid = self
            .state()?
            .processes
            .get(process)
            .and_then(|process| process.pid)
            .with_context(|| format!("{process} does not run"))?;
        kill_process(pid_of(pid)?, Signal::KILL)?;
        Ok(pid)
    }

    /// Ends all of its processes and removes its folder.
    ///
    /// # Errors
    /// When they do not end or the folder cannot be removed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let supervisor = match &self.supervisor {
            Some(child) => Some(child.id()),
            None => State::read(&self.dir)?.map(|state| state.supervisor),
        };
        if let Some(pid) = supervisor.filter(|pid| is_alive(*pid)) {
            kill_process(pid_of(pid)?, Signal::TERM)?;
            let until = Instant::now() + STOP_DEADLINE;
            while self.supervisor_runs(pid)? {
                if Instant::now() > until {
                    // Its processes have asked the kernel to be killed when it is.
                    kill_process(pid_of(pid)?, Signal::KILL)?;
                }
                std::thread::sleep(LOOK_EVERY / 4);
            }
        }
        self.supervisor = None;
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.dir.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn supervisor_runs(&mut self, pid: u32) -> anyhow::Result<bool> {
        match &mut self.supervisor {
            // Waited for, so that no zombie stays.
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(is_alive(pid)),
        }
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if self.supervisor.is_some()
            && let Err(error) = self.stop()
        {
            tracing::warn!(%error, "the test bed was not taken down");
        }
    }
}

fn pid_of(pid: u32) -> anyhow::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .with_context(|| format!("{pid} is no process id"))
}

/// Whether a process runs.
pub fn is_alive(pid: u32) -> bool {
    pid_of(pid).is_ok_and(|pid| test_kill_process(pid).is_ok())
}

/// Resident memory of a process in MiB, `None` if it has ended.
pub fn memory_mib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}
