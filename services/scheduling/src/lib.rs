//! Scheduling: where machines may run on the bare metal, why they go where they go, and what is left.
//!
//! ```text
//!  PlacementService ─► policies (CR PlacementPolicy) ─► resolve ─► Placement for templates and pools
//!                  └─► explain ─┐
//!  CapacityService ─► nodes     ├─► snapshot (Nodes, Pods) ─► solve: filter ─► score ─► assignments
//!                  └─► drain ───┘
//! ```
//!
//! It writes PlacementPolicy objects and their status, nothing else; it places nothing itself: Kubernetes' own
//! scheduler does, under the constraints that are resolved here. The solver predicts that scheduler.
//!
//! Invariants: the solver is pure and deterministic; an explanation changes nothing; a policy that breaks rules is
//! never resolved. If the API server is away, calls answer `UNAVAILABLE` rather than from memory.

pub mod api;
pub mod config;
pub mod domain;
pub mod error;
pub mod explain;
pub mod reconcile;
pub mod service;
pub mod snapshot;
pub mod solve;

pub use config::Config;
pub use error::ServiceError;
pub use service::{Deps, Service};
