//! What the leading replica keeps between looks and may forget at any moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::{drain::Progress, rendering::Rendering},
    plan::{
        drain::EvictionAttempts,
        evacuation::{ObservedTenant, Target},
    },
};

/// How long an answer of a tenant or of scheduling is good for. Long against a pass (two a second at worst), short against a
/// pod's start.
pub const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// Where the machines of an infra node could go, by name.
pub type Targets = HashMap<String, Target>;

/// What may be forgotten.
#[derive(Debug, Default)]
pub struct Memory {
    /// Renderings of pools, by namespace and name.
    pub renderings: HashMap<(String, String), Arc<Rendering>>,
    /// Failed evictions of machines that drain, by namespace and name, then by pod uid.
    pub evictions: HashMap<(String, String), BTreeMap<String, EvictionAttempts>>,
    /// How far drains are, by namespace and name.
    pub drains: HashMap<(String, String), Progress>,
    /// When the namespaces of clusters were last seen to exist.
    pub namespaces: HashMap<String, Timestamp>,
    /// What maintenances asked others lately.
    pub evacuations: EvacuationMemory,
}

/// What maintenances asked others within [`FRESH`]. May be forgotten at any moment.
#[derive(Debug, Default)]
pub struct EvacuationMemory {
    /// Answers of tenants about the pods of a machine, by its namespace and name.
    pub tenants: HashMap<(String, String), (Timestamp, ObservedTenant)>,
    /// Answers of scheduling about an infra node; `None` where it gave none.
    pub targets: HashMap<String, (Timestamp, Option<Arc<Targets>>)>,
}

impl EvacuationMemory {
    /// Forgets answers that are too old to be used, so that the maps never outgrow what is being asked.
    pub fn prune(&mut self, now: Timestamp) {
        let fresh = |at: &Timestamp| now.duration_since(*at) < FRESH;
        self.tenants.retain(|_, (at, _)| fresh(at));
        self.targets.retain(|_, (at, _)| fresh(at));
    }
}
