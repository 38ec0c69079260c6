//! What the infra cluster looks like to Steading: names, object types, and the few ways of reading and
//! writing them.
//!
//! Inputs are a [`kube::Client`] and plain values; nothing here knows whether the API server behind the
//! client is real or simulated. No decision is taken in this crate: it turns calls into requests and
//! answers into typed values and [`error::InfraError`]s that carry their own retry policy.
//!
//! Invariants: every list and every loop is bounded; writes name their [`apply::FieldManager`]; strings
//! that other processes see (labels, annotations, finalizers) exist only in [`labels`].

pub mod apply;
pub mod capabilities;
pub mod cdi;
pub mod crd;
pub mod error;
pub mod install;
pub mod intent;
pub mod kubevirt;
pub mod labels;
pub mod protection;
pub mod rights;
pub mod samples;
pub mod snapshot;
