//! One actor for each tenant cluster: its connection, its client, bounded caches and their health.
//!
//! ```text
//!   Cluster + Secret ─► actor ─► connect ─► nodes feed ──► projected cache ─► changes
//!                         ▲                 services feed ─► projected cache ─► changes
//!                         └── backoff with jitter ◄── what breaks
//! ```
//!
//! A tenant is foreign: its API server may hang, flood, forbid a kind or disappear. Whatever it does degrades that one thing of that
//! one tenant, is said in the cluster's conditions, and heals by itself. Each kind is followed for itself, so that a forbidden one
//! costs nothing but itself. While a kind is not current its last known objects stay, and [`Tenant`] says that they are old: unknown
//! is never taken for gone.

mod actor;
mod cache;
pub mod claims;
mod connector;
mod feed;
mod metrics;
pub mod projection;
mod state;

pub use actor::run;
pub use cache::Cache;
pub use connector::Connector;
pub use state::Tenant;

pub use crate::domain::tenant::{KindHealth, Reach, TenantKind};
