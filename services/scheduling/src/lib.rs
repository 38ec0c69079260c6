//! Scheduling: where machines may run on the bare metal, why they go where they go, and what is left.
//!
//! ```text
//!  nodes, pods, volumes, VMIs, KubeVirt ─watch─► view ─► world (live index)
//!                                                          │ problem
//!  PlacementService ─► policies (CR PlacementPolicy) ─► resolve ─► Placement for templates and pools
//!                  └─► explain ──┐                         ▼
//!  CapacityService ─► nodes      ├──────────────────────► solve: filter ─► score ─► assignments
//!                  └─► capacity, drain
//! ```
//!
//! It writes PlacementPolicy objects and their status, nothing else; it places nothing itself: Kubernetes' own
//! scheduler does, under the constraints that are resolved here. The solver predicts that scheduler.
//!
//! Invariants: the solver is pure and deterministic; an explanation changes nothing and names no other project's machines; a
//! policy that breaks rules is never resolved. No call lists all nodes, pods or instances: answers come from the live index,
//! which holds what it last saw when the API server is away, and then every answer says so. Before the first list there is no
//! answer but `UNAVAILABLE`.

pub mod api;
pub mod config;
pub mod domain;
pub mod error;
pub mod observe;
pub mod reconcile;
pub mod service;
pub mod solve;
pub mod view;
pub mod world;

pub use config::Config;
pub use error::ServiceError;
pub use service::{Deps, Service};
