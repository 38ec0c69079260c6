//! Programs that run while a suite is played.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How often a program is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Until a program serves; debug builds on a busy machine take a few seconds.
const READY: Duration = Duration::from_secs(60);
/// Bytes at the end of a log that are shown when a program ended before its time.
const TAIL: usize = 2000;

/// A running program, killed when it goes out of scope. What it says is kept in files.
pub(crate) struct Program {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Program {
    /// Starts it; its output goes to `LOG.out` and `LOG.err`.
    pub(crate) fn start(log: &Path, command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let (out, err) = (log.with_extension("out"), log.with_extension("err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).with_context(|| out.display().to_string())?)
            .stderr(File::create(&err).with_context(|| err.display().to_string())?)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        Ok(Self { name, child, out, err })
    }

    /// Waits until a line of its output or of its log, which goes to standard error, says something.
    ///
    /// # Errors
    /// It ends or is silent for too long.
    pub(crate) fn wait_for<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let since = Instant::now();
        loop {
            let ended = self.child.try_wait()?;
            for said in [read(&self.out)?, read(&self.err)?] {
                // The last piece may be half a line.
                let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                if let Some(found) = lines.map(str::trim_end).find_map(&find) {
                    return Ok(found);
                }
            }
            if let Some(status) = ended {
                bail!("{} ended with {status}: {}", self.name, self.complaint());
            }
            if since.elapsed() > READY {
                bail!("{} does not say that it serves: {}", self.name, self.complaint());
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It takes longer than `within`; it is killed then.
    pub(crate) fn finish(mut self, within: Duration) -> Result<Finished> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let said = read(&self.out)?;
                let complaint = self.complaint();
                return Ok(Finished {
                    name: self.name.clone(),
                    status,
                    said,
                    complaint,
                });
            }
            if since.elapsed() > within {
                bail!("{} does not end within {within:?}: {}", self.name, self.complaint());
            }
            thread::sleep(LOOK);
        }
    }

    /// The end of its standard error, or of its output if it has not complained.
    fn complaint(&self) -> String {
        let said = [&self.err, &self.out].map(|file| fs::read(file).unwrap_or_default());
        let text = said.iter().find(|said| !said.is_empty());
        let tail = text.map(|text| text.get(text.len().saturating_sub(TAIL)..).unwrap_or(text));
        String::from_utf8_lossy(tail.unwrap_or_default()).trim().to_owned()
    }
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that has ended.
pub(crate) struct Finished {
    name: String,
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) said: String,
    /// The end of what it complained of.
    pub(crate) complaint: String,
}

impl Finished {
    /// Its output, if it succeeded.
    pub(crate) fn succeeded(self) -> Result<String> {
        if !self.status.success() {
            bail!("{} ended with {}: {}", self.name, self.status, self.complaint);
        }
        Ok(self.said)
    }
}
