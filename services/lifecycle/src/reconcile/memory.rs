//! What the leading replica keeps between looks and may forget at any moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{domain::rendering::Rendering, plan::drain::EvictionAttempts};

/// What may be forgotten.
#[derive(Debug, Default)]
pub struct Memory {
    /// Renderings of pools, by namespace and name.
    pub renderings: HashMap<(String, String), Arc<Rendering>>,
    /// Failed evictions of machines that drain, by namespace and name, then by pod uid.
    pub evictions: HashMap<(String, String), BTreeMap<String, EvictionAttempts>>,
    /// How far drains are, by namespace and name.
    pub drains: HashMap<(String, String), DrainSight>,
    /// What maintenances asked others lately.
    pub evacuations: super::evacuation::EvacuationMemory,
}

/// How far a drain is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainSight {
    /// Pods that still have to leave.
    pub remaining: usize,
    /// Whether only volumes are waited for.
    pub detaching: bool,
    /// What holds it up, with its CamelCase reason.
    pub stalled: Option<(String, String)>,
}
