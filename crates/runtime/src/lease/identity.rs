//! Names of candidates, and which of them are provably dead.
//!
//! A pod's name is unique while it lives, so a container that is restarted in its pod keeps its name and its lease. A process outside
//! of a pod is named by its host, boot, pid namespace, pid and start time: a later process of the same namespace can look whether that
//! one is still there, and need not wait for its lease to expire. Anything that cannot be looked up counts as alive.

use std::{collections::BTreeMap, fs, path::Path};

use parking_lot::Mutex;

/// What the kernel says of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ProcessIdentity {
    host: String,
    /// The kernel's boot id: the same name on another machine or after a reboot is another host.
    boot: String,
    /// The pid namespace: a pid means nothing in another one.
    namespace: String,
    pid: u32,
    /// Start time in clock ticks since boot: pids are used again.
    started: u64,
}

/// Candidates that this process has made, by lease: two in one process must not share a name, and a process that is started again
/// makes the same ones in the same order.
static CANDIDATES: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// The name of a new candidate for a lease called `name`.
pub(super) fn of_this_process(name: &str) -> String {
    let number = {
        let mut candidates = CANDIDATES.lock();
        let number = candidates.entry(name.to_owned()).or_default();
        *number += 1;
        *number
    };
    if let Some(pod) = std::env::var("POD_NAME").ok().filter(|pod| !pod.is_empty()) {
        return format!("{pod}-{number}");
    }
    ProcessIdentity::current().map_or_else(
        || format!("{name}-{}", uuid::Uuid::new_v4()),
        |process| format!("{number}@{}", process.text()),
    )
}

/// Whether the holder was a process next to this one that is certainly gone.
pub(super) fn is_dead(holder: &str) -> bool {
    let Some((_, text)) = holder.split_once('@') else {
        return false;
    };
    match (ProcessIdentity::parse(text), ProcessIdentity::current()) {
        (Some(theirs), Some(ours)) => {
            theirs.is_neighbour_of(&ours) && started(theirs.pid) != Looked::At(theirs.started)
        }
        _ => false,
    }
}

/// What a look at a pid shows.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    At(u64),
    Absent,
}

fn started(pid: u32) -> Looked {
    match fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) {
        Ok(stat) => start_time(&stat).map_or(Looked::Absent, Looked::At),
        Err(_) => Looked::Absent,
    }
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)). The second field, in parentheses, may hold spaces.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

impl ProcessIdentity {
    fn current() -> Option<Self> {
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let pid = std::process::id();
        let Looked::At(started) = started(pid) else {
            return None;
        };
        Some(Self {
            host: line("/proc/sys/kernel/hostname")?,
            boot: line("/proc/sys/kernel/random/boot_id")?,
            namespace: fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned(),
            pid,
            started,
        })
    }

    fn text(&self) -> String {
        format!(
            "{}/{}/{}/{}/{}",
            self.host, self.boot, self.namespace, self.pid, self.started
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let identity = Self {
            host: parts.next()?,
            boot: parts.next()?,
            namespace: parts.next()?,
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(identity)
    }

    fn is_neighbour_of(&self, other: &Self) -> bool {
        (&self.host, &self.boot, &self.namespace) == (&other.host, &other.boot, &other.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_current() -> ProcessIdentity {
        ProcessIdentity::current().expect("Linux tells")
    }

    #[test]
    fn a_living_process_is_not_dead_and_a_past_one_is() {
        let mut process = mk_current();
        assert!(!is_dead(&format!("a@{}", process.text())));
        process.started += 1;
        assert!(
            is_dead(&format!("a@{}", process.text())),
            "the pid is another process now"
        );
        process.pid = u32::MAX;
        assert!(is_dead(&format!("a@{}", process.text())), "no such pid");
    }

    #[test]
    fn what_cannot_be_looked_up_counts_as_alive() {
        let mut other = mk_current();
        other.pid = u32::MAX;
        other.namespace = "pid:[1]".into();
        assert!(!is_dead(&format!("a@{}", other.text())), "another pid namespace");
        let mut other = mk_current();
        other.pid = u32::MAX;
        other.boot = "other".into();
        assert!(!is_dead(&format!("a@{}", other.text())), "another machine");
        for holder in ["", "a-pod-1", "a@nonsense", "a@h/b/n/1"] {
            assert!(!is_dead(holder), "{holder}");
        }
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let fields = (4..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_time(&format!("1 (a) b) S {fields}")), Some(22));
    }
}
