//! Every part as a process of its own, as an installation runs them: the simulated infra cluster over HTTP, four services, the gateway.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    env,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use steading_tests::{
    http::Rest,
    stack::{POOLS, make_cluster, mk_pool, wait_pool},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

/// How long a process may take to say where it listens, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running part. It is killed when it goes out of scope, also when a test fails.
struct Process {
    child: Child,
    listen: SocketAddr,
    /// Read on, since a full pipe would stop the process.
    _output: JoinSet<()>,
}

impl Process {
    /// Starts a program and waits until `address` finds in a line of what it prints or logs where it listens.
    async fn start(program: &str, args: &[String], address: fn(&str) -> Option<SocketAddr>) -> anyhow::Result<Self> {
        let path = built(program)?;
        let mut child = Command::new(&path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| path.display().to_string())?;
        let said = child.stdout.take().context("standard output is a pipe")?;
        let logged = child.stderr.take().context("standard error is a pipe")?;
        let (mut said, mut logged) = (BufReader::new(said).lines(), BufReader::new(logged).lines());
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let line = tokio::select! {
                    line = said.next_line() => line?,
                    line = logged.next_line() => line?,
                };
                if let Some(found) = address(&line.context("it ended")?) {
                    return anyhow::Ok(found);
                }
            }
        });
        let listen = found
            .await
            .with_context(|| format!("{program} did not say where it listens"))?
            .with_context(|| format!("{program} did not listen"))?;
        let mut reader = JoinSet::new();
        reader.spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        reader.spawn(async move { while let Ok(Some(_)) = logged.next_line().await {} });
        Ok(Self {
            child,
            listen,
            _output: reader,
        })
    }

    /// Starts a service, or the gateway.
    async fn service(program: &str, args: &[String]) -> anyhow::Result<Self> {
        let logs = ["--log-format", "json"].map(ToOwned::to_owned);
        Self::start(program, &[args, &logs].concat(), |line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            entry["listen"].as_str()?.parse().ok()
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Ends it as an init system does and says how it ended.
    async fn end(mut self) -> anyhow::Result<ExitStatus> {
        let id = self.child.id().context("it runs")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        Ok(tokio::time::timeout(PATIENCE, self.child.wait()).await??)
    }

    /// Ends it as a power cut does.
    async fn cut(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// A program of this workspace. It lies beside the tests when all of them are built; when only some are, it is built now.
fn built(program: &str) -> anyhow::Result<PathBuf> {
    let test = env::current_exe()?;
    let folder = test.ancestors().nth(2).context("target/PROFILE/deps/TEST")?;
    let path = folder.join(program);
    if !path.is_file() {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--bin", program, "--target-dir"]);
        cargo.arg(folder.parent().context("target/PROFILE")?);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status()?;
        if !status.success() {
            bail!("{program} cannot be built");
        }
    }
    Ok(path)
}

/// `simulated infra cluster on ADDRESS; …`
fn simulation_address(line: &str) -> Option<SocketAddr> {
    let rest = line.strip_prefix("simulated infra cluster on ")?;
    rest.split(';').next()?.parse().ok()
}

fn mk_args<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(ToOwned::to_owned).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn separate_processes_serve_as_one_does_and_outlive_one_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig").display().to_string();
    let sim_args = mk_args(["sim", "--listen", "127.0.0.1:0", "--write-kubeconfig", &kubeconfig]);
    let sim = Process::start("steading", &sim_args, simulation_address)
        .await
        .expect("the simulation");
    let common = mk_args(["--insecure-dev-mode", "--kubeconfig", &kubeconfig]);
    let templating = Process::service("steading-templating", &common)
        .await
        .expect("templating");
    let scheduling = Process::service("steading-scheduling", &common)
        .await
        .expect("scheduling");
    let storage = Process::service("steading-storage", &common).await.expect("storage");
    let peers = mk_args([
        "--templating",
        &templating.url(),
        "--scheduling",
        &scheduling.url(),
        "--storage",
        &storage.url(),
    ]);
    let args = [common, peers].concat();
    let lifecycle = Process::service("steading-lifecycle", &args).await.expect("lifecycle");
    // The next one takes the place of the one that is cut off.
    let again = [args, mk_args(["--listen", &lifecycle.listen.to_string()])].concat();
    let upstream = |package: &str, process: &Process| format!("--upstream=steading.{package}.v1={}", process.url());
    let gateway = Process::service(
        "steading-gateway",
        &[
            "--listen=127.0.0.1:0".to_owned(),
            upstream("templating", &templating),
            upstream("scheduling", &scheduling),
            upstream("storage", &storage),
            upstream("lifecycle", &lifecycle),
        ],
    )
    .await
    .expect("the gateway");

    let rest = Rest::new(gateway.listen);
    steading_tests::wait::until("the infra nodes are served", async || {
        Ok((rest.get("/v1/infraNodes").await?.status == 200).then_some(()))
    })
    .await
    .expect("every part is up");
    make_cluster(&rest).await.expect("a cluster");
    rest.create(&format!("{POOLS}?machinePoolId=general"), &mk_pool(2))
        .await
        .expect("a pool");
    lifecycle.cut().await.expect("lifecycle is cut off");
    let unreachable = rest.get(POOLS).await.expect("the gateway answers");
    assert_eq!(unreachable.status, 503, "{}", unreachable.body);
    assert_eq!(unreachable.body["error"]["status"], "UNAVAILABLE");
    let lifecycle = Process::service("steading-lifecycle", &again)
        .await
        .expect("lifecycle again");
    wait_pool(&rest, "general", 2).await.expect("the pool is ready");
    rest.create(&format!("{POOLS}/general:scale"), &json!({ "replicas": 3 }))
        .await
        .expect("the pool is scaled");
    wait_pool(&rest, "general", 3).await.expect("the pool is ready");

    for (name, process) in [
        ("gateway", gateway),
        ("lifecycle", lifecycle),
        ("storage", storage),
        ("scheduling", scheduling),
        ("templating", templating),
        ("sim", sim),
    ] {
        let status = process.end().await.expect(name);
        assert!(status.success(), "{name} ended with {status}");
    }
}
