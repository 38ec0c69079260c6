//! The gateway as a process of its own, in front of a service that it was not built with.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use support::{Rig, descriptor_set};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// A started gateway; killed when this is dropped.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    address: String,
    admin: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steading-gateway"));
    command
        .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
        .args(arguments)
        .env_clear()
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Process {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut process = Self {
            child,
            lines,
            address: String::new(),
            admin: String::new(),
        };
        let line = process.line("starting").await;
        line["listen"].as_str().unwrap().clone_into(&mut process.address);
        line["admin"].as_str().unwrap().clone_into(&mut process.admin);
        process
    }

    /// The next line of the log with this message.
    async fn line(&mut self, message: &str) -> Value {
        let found = async {
            let mut before = String::new();
            while let Some(text) = self.lines.next_line().await.unwrap() {
                let line: Value = serde_json::from_str(&text).unwrap_or_default();
                if line["message"] == message {
                    return line;
                }
                before.push_str(&text);
            }
            panic!("it ended without {message:?}: {before}");
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        http_get(&self.address, path).await
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

async fn http_get(address: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

/// What a gateway says that does not start.
async fn refused(arguments: &[&str]) -> String {
    let output = tokio::time::timeout(Duration::from_secs(30), command(arguments).output());
    let output = output.await.unwrap().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_descriptor_file_and_an_upstream_are_all_it_needs() {
    let (rig, folder) = (Rig::start(|_| {}).await, tempfile::tempdir().unwrap());
    let set = write(folder.path(), "library.binpb", &descriptor_set());
    let upstream = format!("steading.testing.v1.Library={}", rig.upstream);
    let arguments = ["--descriptor-set", &set, "--upstream", &upstream, "--access-log"];
    let mut process = Process::start(&arguments).await;

    let (status, text) = process.get("/v1/shelves/a/books/b").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains(r#""name":"shelves/a/books/b""#), "{text}");
    let logged = process.line("request").await;
    assert_eq!(logged["target"], "access");
    assert_eq!(
        (&logged["route"], &logged["status"]),
        (&Value::from("/v1/{name=shelves/*/books/*}"), &Value::from(200))
    );
    assert_eq!(
        (&logged["complete"], &logged["client"]),
        (&Value::from(true), &Value::from("127.0.0.1"))
    );
    assert!(logged["bytes"].as_u64().unwrap() > 10);
    assert_eq!(process.get("/openapi.json").await.0, 200);
    assert_eq!(http_get(&process.admin, "/readyz").await.0, 200);
    let (_, metrics) = http_get(&process.admin, "/metrics").await;
    assert!(
        metrics.contains("steading_gateway_request_duration_seconds_count"),
        "{metrics}"
    );

    process.signal(rustix::process::Signal::TERM);
    let ended = tokio::time::timeout(Duration::from_secs(30), process.child.wait());
    assert!(ended.await.unwrap().unwrap().success());
}

#[tokio::test]
async fn a_descriptor_file_that_changes_is_read_again() {
    let (rig, folder) = (Rig::start(|_| {}).await, tempfile::tempdir().unwrap());
    let set = descriptor_set();
    let path = write(folder.path(), "library.binpb", &set);
    let upstream = rig.upstream.to_string();
    let mut process = Process::start(&["--descriptor-set", &path, "--upstream", &upstream]).await;
    assert_eq!(process.get("/v1/books/b").await.0, 200);

    // The template stands in the options as text of a length that does not change.
    let (old, new) = (b"/v1/books/{name}", b"/v2/books/{name}");
    let at = set.windows(old.len()).position(|window| window == old).unwrap();
    let changed = [&set[..at], new, &set[at + old.len()..]].concat();
    write(folder.path(), "library.binpb", &changed);
    process.signal(rustix::process::Signal::HUP);
    assert_eq!(process.line("replaced").await["what"], "descriptors");
    assert_eq!(
        (process.get("/v1/books/b").await.0, process.get("/v2/books/b").await.0),
        (404, 200)
    );

    write(folder.path(), "library.binpb", b"nonsense");
    process.signal(rustix::process::Signal::HUP);
    let line = process.line("refused; the present ones stay in use").await;
    assert!(
        line["error"].as_str().unwrap().contains("not a file descriptor set"),
        "{line}"
    );
    assert_eq!(process.get("/v2/books/b").await.0, 200);
    // Without being told, within its period.
    write(folder.path(), "library.binpb", &set);
    process.line("replaced").await;
    assert_eq!(process.get("/v1/books/b").await.0, 200);
}

#[tokio::test]
async fn what_cannot_be_served_is_said_before_anything_is() {
    let folder = tempfile::tempdir().unwrap();
    let nonsense = write(folder.path(), "nonsense", b"nonsense");
    let set = write(folder.path(), "library.binpb", &descriptor_set());
    for (arguments, part) in [
        (
            vec![
                "--upstream",
                "http://127.0.0.1:1",
                "--descriptor-set",
                "/nowhere/x.binpb",
            ],
            "/nowhere/x.binpb",
        ),
        (
            vec!["--upstream", "http://127.0.0.1:1", "--descriptor-set", &nonsense],
            "not a file descriptor set",
        ),
        (vec!["--descriptor-set", &set], "--upstream"),
        (vec!["--upstream", "a.B=127.0.0.1:1"], "http://host:port"),
        (vec!["--upstream", "http://127.0.0.1:1/path"], "without a path"),
        (
            vec!["--upstream", "https://127.0.0.1:1", "--upstream-ca", &nonsense],
            "PEM",
        ),
        (
            vec!["--upstream", "http://127.0.0.1:1", "--upstream-cert", "x"],
            "--upstream-key",
        ),
        (
            vec!["--upstream", "http://127.0.0.1:1", "--rate-limit", "many"],
            "COUNT/UNIT",
        ),
    ] {
        let text = refused(&arguments).await;
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn descriptors_may_leave_out_the_files_that_everybody_has() {
    let (rig, folder) = (Rig::start(|_| {}).await, tempfile::tempdir().unwrap());
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut compiler = protox::Compiler::new([root.join("transcode/tests/proto"), root.join("api/vendor")]).unwrap();
    compiler
        .include_imports(false)
        .open_file("steading/testing/v1/library.proto")
        .unwrap();
    let set = write(folder.path(), "library.binpb", &compiler.encode_file_descriptor_set());
    let upstream = rig.upstream.to_string();
    let process = Process::start(&["--descriptor-set", &set, "--upstream", &upstream]).await;
    assert_eq!(process.get("/v1/shelves/a/books/b").await.0, 200);
}
