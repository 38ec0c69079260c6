//! How a reconciliation ends.

use std::time::Duration;

/// How a reconciliation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Settled,
    /// Look again after this time.
    Again(Duration),
}
