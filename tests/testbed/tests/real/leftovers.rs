//! Nothing is left of a test bed, however it ends: no process, no port, no file.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use steading_testbed::{
    progress::Progress,
    state::{Shape, State},
    testbed::{Lifetime, Testbed, is_alive},
};

use crate::bed::{fresh_dir, program};

const DEADLINE: Duration = Duration::from_secs(30);

fn mk_shape() -> Shape {
    Shape {
        nodes: 1,
        zones: 1,
        tenants: 0,
    }
}

/// Everything that may be left: processes by id, and the ports that they listen at.
struct Traces {
    pids: Vec<u32>,
    ports: Vec<u16>,
}

impl Traces {
    fn of(state: &State) -> Self {
        let mut pids: Vec<u32> = state.processes.values().filter_map(|process| process.pid).collect();
        let ports = pids.iter().flat_map(|pid| ports_of(*pid)).collect();
        pids.push(state.supervisor);
        Self { pids, ports }
    }

    fn assert_gone(&self, how: &str) {
        let until = Instant::now() + DEADLINE;
        loop {
            let left: Vec<_> = self.pids.iter().filter(|pid| is_running(**pid)).collect();
            let open: Vec<_> = self
                .ports
                .iter()
                .filter(|port| std::net::TcpStream::connect(("127.0.0.1", **port)).is_ok())
                .collect();
            if left.is_empty() && open.is_empty() {
                return;
            }
            assert!(
                Instant::now() < until,
                "{how} left processes {left:?} and ports {open:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A process that has ended and was not waited for is none.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    is_alive(pid)
        && !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Ports at which a process listens, by the inodes of its sockets.
fn ports_of(pid: u32) -> Vec<u16> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: Vec<String> = files
        .filter_map(|file| fs::read_link(file.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let listening = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // State 0A is LISTEN; the address is hexadecimal.
        let ours = *columns.get(3)? == "0A" && sockets.iter().any(|inode| Some(&inode.as_str()) == columns.get(9));
        ours.then(|| u16::from_str_radix(columns.get(1)?.rsplit(':').next()?, 16).ok())?
    });
    listening.collect()
}

fn start(what: &str) -> (Testbed, Traces) {
    let bed = Testbed::start(
        &program(),
        &fresh_dir(what),
        &mk_shape(),
        Lifetime::Owned,
        &Progress::new(),
    )
    .expect("the test bed comes up");
    let traces = Traces::of(&bed.state().expect("a state"));
    assert!(traces.pids.len() >= 9, "all processes are known: {:?}", traces.pids);
    assert!(traces.ports.len() >= 5, "their ports are known: {:?}", traces.ports);
    let folder = format!("TMPDIR={}/", bed.dir().display());
    for pid in &traces.pids {
        let environment = fs::read(format!("/proc/{pid}/environ")).expect("a process of ours");
        let mut variables = environment.split(|byte| *byte == 0);
        assert!(
            variables.any(|variable| variable.starts_with(folder.as_bytes())),
            "temporary files of {pid} would outlive the test bed"
        );
    }
    (bed, traces)
}

#[test]
fn nothing_is_left_after_an_orderly_end_or_a_killed_supervisor() {
    let (mut bed, traces) = start("orderly");
    let dir = bed.dir().to_owned();
    bed.stop().expect("it ends");
    traces.assert_gone("the end");
    assert!(!dir.exists(), "{} is left", dir.display());

    let (mut bed, traces) = start("killed");
    let supervisor = bed.state().expect("a state").supervisor;
    let killed = Command::new("kill")
        .args(["-9", &supervisor.to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    traces.assert_gone("a killed supervisor");
    bed.stop().expect("its files go");
}

#[test]
fn nothing_is_left_of_an_interrupted_start() {
    let name = format!("interrupted-{}", std::process::id());
    let mut up = Command::new(program())
        .args(["up", "--name", &name, "--tenants", "0"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("up runs");
    let dir = fresh_dir("interrupted");
    let traces = wait_for(&dir, |state| (state.processes.len() >= 2).then(|| Traces::of(state)));
    Command::new("kill")
        .args(["-INT", &up.id().to_string()])
        .status()
        .expect("kill");
    let status = up.wait().expect("it ends");
    assert!(!status.success(), "an interrupted start is no success");
    traces.assert_gone("an interrupted start");
    assert!(!dir.exists(), "{} is left", dir.display());
}

fn wait_for<T>(dir: &Path, look: impl Fn(&State) -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = State::read(dir).expect("readable").as_ref().and_then(&look) {
            return found;
        }
        assert!(Instant::now() < until, "nothing started in {}", dir.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
