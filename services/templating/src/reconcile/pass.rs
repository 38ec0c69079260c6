//! What a pass has at hand.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{Client, runtime::events::Recorder};
use parking_lot::Mutex;
use steading_runtime::clock::Clock;

use crate::observe::Observed;

/// Generations of standard entries as they were applied, by kind and name.
pub(super) type Applied = BTreeMap<(&'static str, &'static str), i64>;

/// What a term remembers.
pub(super) type Memory = Mutex<Applied>;

/// What a pass has at hand.
pub(super) struct Pass {
    /// The infra cluster.
    pub(super) kube: Client,
    /// Time.
    pub(super) clock: Clock,
    /// What is seen.
    pub(super) seen: Observed,
    /// Events on objects.
    pub(super) events: Recorder,
}

impl Pass {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
