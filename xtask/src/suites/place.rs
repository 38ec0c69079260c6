//! Where a suite is kept and played, and the programs of ours that it is played against.

use std::{
    fs,
    io::BufReader,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;
use serde_json::Value;

use super::{process::Program, verdict::Case};
use crate::run::{cargo, root};

/// The folders of a suite.
pub(crate) struct Place {
    /// What is committed: `gateway/suites/NAME`.
    pub(crate) source: PathBuf,
    /// What is fetched, built and logged: `target/suites/NAME`.
    pub(crate) kept: PathBuf,
}

impl Place {
    /// Makes them.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let root = root()?;
        let kept = root.join("target/suites").join(name);
        fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
        Ok(Self {
            source: root.join("gateway/suites").join(name),
            kept,
        })
    }

    /// Starts the gateway on a set of descriptors; upstreams as its command line takes them.
    pub(crate) fn gateway(&self, descriptors: &Path, upstreams: &[String]) -> Result<(Program, SocketAddr)> {
        let mut command = Command::new(build("steading-gateway", "steading-gateway")?);
        command
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .arg("--descriptor-set")
            .arg(descriptors);
        for upstream in upstreams {
            command.args(["--upstream", upstream]);
        }
        let mut program = Program::start(&self.kept.join("gateway"), &mut command)?;
        let address = program.wait_for(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line.get("listen")?.as_str()?.parse().ok()
        })?;
        println!("    gateway on {address}");
        Ok((program, address))
    }
}

/// Builds a program of ours, and tells where it is.
fn build(package: &str, program: &str) -> Result<PathBuf> {
    println!("    building {program}");
    let mut cargo = cargo(&["build", "--quiet", "--package", package, "--bin", program])?
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = cargo.stdout.take().context("cargo's output is a pipe")?;
    let mut found = None;
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == program
        {
            found = artifact.executable.or(found);
        }
    }
    let status = cargo.wait()?;
    if !status.success() {
        bail!("{program} does not build");
    }
    Ok(found.with_context(|| format!("cargo builds no {program}"))?.into())
}

/// Reads what a player of cases prints: one JSON object a line.
pub(crate) fn cases(said: &str) -> Result<Vec<Case>> {
    said.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a result: {line}")))
        .collect()
}
