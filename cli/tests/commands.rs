//! The real binary: what it prints, where, and how it ends. One `steading up` on ports that the kernel chooses is shared by the tests that run at
//! the same time; each has names of its own.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, Weak},
};

use serde_json::Value;

fn steading() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steading"));
    command.env_remove("STEADING_SERVER").env_remove("STEADING_PROJECT");
    command.env_remove("STEADING_CLUSTER").env_remove("RUST_LOG");
    command
}

/// A running `steading up`; ended with the last test that uses it.
struct Server {
    child: Child,
    addresses: Value,
    directory: tempfile::TempDir,
}

impl Server {
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *shared = Arc::downgrade(&server);
        server
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut child = steading()
            .args(["up", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addresses = serde_json::from_str(&line).expect("one line of JSON");
        Self {
            child,
            addresses,
            directory,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let server = format!("http://{}", self.addresses["gateway"].as_str().unwrap());
        steading().args(["--server", &server]).args(arguments).output().unwrap()
    }

    /// What a command prints that succeeds.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The body of an answer of the admin port.
    fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addresses["admin"].as_str().unwrap()).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reader_that_has_gone_ends_the_command_quietly() {
    for arguments in [&["kinds", "-o", "json"][..], &["rights", "--user", "ann"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = steading().args(arguments).stdout(writer).output().unwrap();
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(0), String::new()),
            "{arguments:?}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_with_an_exit_code() {
    for arguments in [&["kinds"][..], &["kinds", "-o", "yaml"], &["rights", "--user", "ann"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = steading().args(arguments).stdout(full).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(5), "{arguments:?}: {text}");
        assert!(
            text.starts_with("error: cannot write the output: ") && text.lines().count() == 1,
            "{text}"
        );
    }
}

#[test]
fn a_server_that_is_not_there_has_an_exit_code_of_its_own() {
    let output = steading()
        .args(["--server", "http://127.0.0.1:1", "get", "projects"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert_eq!(steading().arg("nothing").output().unwrap().status.code(), Some(2));
}

#[test]
fn a_drain_is_given_back_and_made_again() {
    let server = Server::shared();
    let drained = server.says(&["drain", "infra-2", "--yes"]);
    assert!(
        drained.contains("steading maintenance complete drain-infra-2"),
        "{drained}"
    );
    let again = server.says(&["drain", "infra-2", "--yes"]);
    assert!(again.contains("in maintenance"), "{again}");
    let ended = server.says(&["maintenance", "complete", "drain-infra-2", "--wait"]);
    assert_eq!(ended, "maintenances/drain-infra-2 completed\n");
    // One that is over is not taken up: the node is really drained again, by another.
    let drained = server.says(&["drain", "infra-2", "--yes", "-o", "json"]);
    let second: Value = serde_json::from_str(&drained).unwrap();
    assert_eq!(second["state"], "STATE_IN_MAINTENANCE");
    let name = second["name"].as_str().unwrap();
    assert_ne!(name, "maintenances/drain-infra-2");
    server.says(&["maintenance", "complete", name, "--wait"]);
    let all = server.says(&["maintenance", "list", "-o", "name"]);
    assert!(
        all.lines().filter(|line| line.contains("drain-infra-2")).count() == 2,
        "{all}"
    );
    let refused = server.run(&["drain", "infra-2", "--yes", "--id", "drain-infra-2"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("choose another --id"), "{}", stderr(&refused));
}

#[test]
fn a_second_apply_of_the_same_file_changes_nothing() {
    let server = Server::shared();
    let file = server.file(
        "same.yaml",
        "kind: InstanceType\nname: instanceTypes/c4-same\nvcpus: 2\nmemory: 1.5Gi\n---\nkind: Project\nname: projects/same\nquota:\n  memory: 0.5Ti\n  storage: 1099511627776\n",
    );
    let file = file.to_str().unwrap();
    let first = server.says(&["apply", "-f", file]);
    assert_eq!(first, "instanceTypes/c4-same created\nprojects/same created\n");
    let second = server.says(&["apply", "-f", file]);
    assert_eq!(second, "instanceTypes/c4-same unchanged\nprojects/same unchanged\n");
}

#[test]
fn nothing_is_applied_when_a_document_does_not_fit() {
    let server = Server::shared();
    let file = server.file(
        "half.yaml",
        "kind: Project\nname: projects/half\n---\nkind: InstanceType\nname: instanceTypes/c4-half\nvcpus: two\nmemory: 1Gi\n",
    );
    let refused = server.run(&["apply", "-f", file.to_str().unwrap()]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text.contains("document 2, line 6: vcpus: ") && text.contains("\"two\""),
        "{text}"
    );
    let missing = server.run(&["get", "project", "half"]);
    assert!(stderr(&missing).contains("NOT_FOUND"), "{}", stderr(&missing));
}

#[test]
fn results_for_programs_are_one_document_with_kinds() {
    let server = Server::shared();
    let file = server.file(
        "list.yaml",
        "kind: Project\nname: projects/list-a\n---\nkind: Project\nname: projects/list-b\n",
    );
    let applied = server.says(&["apply", "-f", file.to_str().unwrap(), "-o", "json"]);
    let applied: Value = serde_json::from_str(&applied).expect("one document");
    let names: Vec<_> = applied
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["projects/list-a", "projects/list-b"]);
    assert_eq!(applied[0]["kind"], "Project");
    let one: Value = serde_json::from_str(&server.says(&["get", "project", "list-a", "-o", "json"])).unwrap();
    assert_eq!(
        (&one["kind"], &one["name"]),
        (&"Project".into(), &"projects/list-a".into())
    );
    let all: Value = serde_json::from_str(&server.says(&["get", "projects", "-o", "json"])).unwrap();
    assert!(all.as_array().unwrap().iter().all(|one| one["kind"] == "Project"));
}

#[test]
fn a_delete_says_what_happened() {
    let server = Server::shared();
    let said = server.says(&["delete", "project", "never-there", "--ignore-not-found"]);
    assert_eq!(said, "projects/never-there not found, nothing to delete\n");
    assert_eq!(server.run(&["delete", "project", "never-there"]).status.code(), Some(1));
}

#[test]
fn up_logs_and_its_admin_port_shows_all_services() {
    let server = Server::shared();
    let log = server.log();
    assert!(log.contains("INFO"), "{log}");
    let ready = server.admin("/readyz");
    for part in ["templating", "scheduling", "storage", "lifecycle", "gateway"] {
        assert!(ready.contains(part), "{part}: {ready}");
    }
    server.says(&["get", "projects"]);
    let metrics = server.admin("/metrics");
    assert!(metrics.contains("steading_gateway_grpc_calls"), "{metrics}");
}
