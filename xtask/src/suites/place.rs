//! Where a suite is kept and played, and the programs of ours that it is played against.

use std::{
    fs,
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;
use serde_json::Value;

use super::{process::Program, verdict::Case};
use crate::run::{cargo, root};

/// Until the examples are as they should be; a few seconds on a free machine.
const APPLIED: Duration = Duration::from_secs(120);

/// Until the gateway has sent its API document.
const SERVED: Duration = Duration::from_secs(20);

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

    /// Starts the gateway on a set of descriptors, or on Steading's own, with one upstream for all.
    pub(crate) fn gateway(&self, descriptors: Option<&Path>, upstream: SocketAddr) -> Result<(Program, SocketAddr)> {
        let mut command = Command::new(build("steading-gateway", "steading-gateway")?);
        command
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .arg("--upstream")
            .arg(format!("http://{upstream}"));
        if let Some(file) = descriptors {
            command.arg("--descriptor-set").arg(file);
        }
        let mut program = Program::start(&self.kept.join("gateway"), &mut command)?;
        let address = program.wait_for(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line.get("listen")?.as_str()?.parse().ok()
        })?;
        println!("    gateway on {address}");
        Ok((program, address))
    }

    /// Starts Steading in one process on a simulated infra cluster, with what `examples/` describes; the gateway's address.
    pub(crate) fn stack(&self) -> Result<(Program, SocketAddr)> {
        let steading = build("steading", "steading")?;
        let mut command = Command::new(&steading);
        command
            .args(["up", "--listen", "127.0.0.1:0", "--json", "--write-kubeconfig"])
            .arg(self.kept.join("kubeconfig.yaml"));
        let mut program = Program::start(&self.kept.join("stack"), &mut command)?;
        let address: SocketAddr = program.wait_for(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line.get("gateway")?.as_str()?.parse().ok()
        })?;
        println!("    steading on {address}");
        let mut apply = Command::new(&steading);
        apply.args(["--server", &format!("http://{address}"), "apply", "--wait"]);
        for file in ["01-catalogue.yaml", "02-cluster.yaml"] {
            apply.arg("--filename").arg(root()?.join("examples").join(file));
        }
        let applied = Program::start(&self.kept.join("apply"), &mut apply)?;
        applied.finish(APPLIED)?.succeeded()?;
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

/// The API document that a gateway serves.
pub(crate) fn api_document(gateway: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(gateway)?;
    stream.set_read_timeout(Some(SERVED))?;
    // HTTP/1.0: the body is not in chunks, and ends with the connection.
    write!(stream, "GET /openapi.json HTTP/1.0\r\nHost: {gateway}\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").context("not an HTTP reply")?;
    if !head.lines().next().is_some_and(|status| status.contains(" 200 ")) {
        bail!("/openapi.json: {head}");
    }
    Ok(body.to_owned())
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
