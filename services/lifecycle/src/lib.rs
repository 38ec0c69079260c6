//! Lifecycle: projects, tenant clusters, machine pools, machines, maintenance and load balancers.
//!
//! ```text
//!   gRPC ──► api ── stores intent ──► infra API server ──► observe ──► Observed (indexes)
//!                                          ▲                              │ changes
//!                                          │                              ▼
//!                                        apply ◄── plan (pure) ◄── reconcile (queue, under the lease)
//!                                          │
//!                                          └──► tenant API servers (one client and two watches each)
//! ```
//!
//! Watches Project, Cluster, MachinePool, MachineTemplate, Maintenance, VirtualMachine, VirtualMachineInstance, migrations, Nodes and
//! its own Services in the infra cluster; Nodes and Services in every tenant cluster. Writes namespaces with their network policies,
//! user-data Secrets, VirtualMachines (all but hot-plugged disks), migrations, and in tenants Nodes, evictions and Service status.
//!
//! Invariants: a machine is its VirtualMachine, so no second record can disagree; machines are made and removed only after a read
//! of the API server itself, so that a stale cache never makes more than wanted; what cannot be reached is unknown, never gone;
//! a machine's VirtualMachine is deleted only after its drain and detach, unless the user forced it.

pub mod api;
pub mod apply;
pub mod config;
pub mod context;
pub mod domain;
pub mod error;
pub mod memory;
pub mod observe;
pub mod peers;
pub mod plan;
pub mod reconcile;
pub mod service;
pub mod tenant;

pub use config::{Config, PeerArgs};
pub use peers::Peers;
pub use service::{Deps, Service};
