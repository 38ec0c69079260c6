//! scheduling.
pub mod domain;
pub mod snapshot;
pub mod solve;
