//! What the leading replica keeps between looks and may forget at any moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    domain::{drain::Progress, rendering::Rendering},
    observe::evacuation::EvacuationMemory,
    plan::drain::EvictionAttempts,
};

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
