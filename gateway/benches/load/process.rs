//! Processes on a core of their own, and what they use.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;

/// Ticks of the kernel's process times a second; 100 on every Linux that Rust runs on.
const TICKS: u64 = 100;
/// Bytes of a page on x86-64 and most arm64.
const PAGE: u64 = 4096;

/// Where a process runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Core {
    /// The gateway that is measured.
    Gateway,
    /// Client and backend.
    Others,
}

impl Core {
    fn number(self) -> &'static str {
        match self {
            Self::Gateway => "0",
            Self::Others => "1",
        }
    }
}

/// A running process, killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it on its core.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(core: Core, program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", core.number()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run taskset (of util-linux), which puts each part on its core")?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, output })
    }

    /// The next line that it prints.
    ///
    /// # Errors
    /// When it ends first.
    pub(crate) fn next_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let output = self.output.as_mut().context("standard output is a pipe")?;
        output.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "ended without a word on standard output");
        Ok(line.trim_end().to_owned())
    }

    /// The address that it prints first.
    ///
    /// # Errors
    /// When it prints something else.
    pub(crate) fn address(&mut self) -> anyhow::Result<SocketAddr> {
        let line = self.next_line()?;
        line.parse().with_context(|| line.clone())
    }

    /// Time on a processor so far, all threads.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is a name in brackets, which may have blanks; user and system time are the 14th and 15th.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages = statm.split_whitespace().nth(1).context("resident pages")?;
        Ok(pages.parse::<u64>()? * PAGE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program in another role.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn itself(core: Core, arguments: &[&str]) -> anyhow::Result<Process> {
    Process::start(core, &std::env::current_exe()?, arguments)
}
