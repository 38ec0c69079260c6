//! How the work on a key ended, and when it is tried again.

use std::time::Duration;

/// How the work on a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Settled,
    /// Look again after this time.
    Again(Duration),
    /// It failed.
    Failed(Retry),
}

/// When to try again what failed. A property of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Only a change can mend it: wait for one, or for the next resync.
    OnChange,
    /// After a pause that grows with every failure in a row.
    Backoff,
    /// As [`Retry::Backoff`], and not before this time.
    After(Duration),
}

/// An error that knows when to try again.
pub trait RetryPolicy {
    /// When to try again.
    fn retry(&self) -> Retry;
}
