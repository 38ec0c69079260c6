//! What a running test bed says of itself, in a file that is replaced whole at each change.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Name of the file.
const FILE: &str = "state.json";

/// How many of what a test bed has.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Shape {
    /// Bare-metal nodes.
    pub nodes: u32,
    /// Zones that they are spread over.
    pub zones: u32,
    /// Tenant control planes.
    pub tenants: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 3,
            zones: 3,
            tenants: 1,
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub enum Phase {
    /// On its way, and what is being done.
    Starting {
        /// For people.
        step: String,
    },
    /// All of it answers.
    Ready {
        /// Seconds from the start of the supervisor until then.
        seconds: f64,
    },
    /// It could not be brought up.
    Failed {
        /// For people.
        error: String,
    },
}

/// One process.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its process id; `None` between its end and its next start.
    pub pid: Option<u32>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
}

/// The whole.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Process id of the supervisor, which ends all others when it ends.
    pub supervisor: u32,
    /// Its shape.
    pub shape: Shape,
    /// How far it is.
    pub phase: Phase,
    /// An administrator's kubeconfig of the infra cluster.
    pub kubeconfig: PathBuf,
    /// Administrators' kubeconfigs of the tenants' control planes.
    pub tenant_kubeconfigs: Vec<PathBuf>,
    /// The API server's audit log.
    pub audit_log: PathBuf,
    /// The processes, by name.
    pub processes: BTreeMap<String, Process>,
}

impl State {
    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes it in one step: readers see the old or the new.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let unfinished = dir.join(format!("{FILE}.new"));
        fs::write(&unfinished, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&unfinished, dir.join(FILE)).context("cannot write the state")
    }
}
