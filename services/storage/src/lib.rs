//! Storage: storage classes that the operator offers, volumes that are attached to running machines, snapshots.
//!
//! ```text
//!  gRPC ──► api ──► DataVolume (annotation: the machine it is wanted on), VolumeSnapshot, CR StorageClass
//!                       │ watch                                  ▲ judged from the index
//!                       ▼                                        │
//!  VM, VMI, PVC ──► observe (index) ──► plan ──► apply ──► one JSON patch a machine: volumes and disks
//! ```
//!
//! What it watches: DataVolumes and claims with the label `steading.dev/volume`, VirtualMachines and their instances with
//! `steading.dev/machine`, storage classes. What it writes: DataVolumes, claims' sizes, the `volumes` and `disks` of
//! virtual machines (only elements with its own mark), VolumeSnapshots, storage classes and their status.
//!
//! Invariants:
//! - Storage is denied unless a class is offered to the project.
//! - A volume is attached only if the virtual machine has the disk *and* its running instance reports it ready; what
//!   cannot be seen is unknown.
//! - A volume is never deleted, nor given to another machine, while a machine may still use it: a finalizer holds it.
//! - A disk without our mark is never touched; a wanted volume is never taken off.
//! - Volumes belong to no machine: they survive it.
//!
//! When things fail: every replica serves calls and watches; one, which holds the lease, writes to machines. A crash
//! between two writes loses nothing, as the wish stands on the DataVolume and everything else is derived from what is seen.

pub mod api;
mod apply;
mod config;
pub mod domain;
mod error;
mod metrics;
pub mod observe;
pub mod plan;
mod reconcile;
#[cfg(test)]
mod samples;
mod service;

pub use config::Config;
pub use error::{Error, ServiceError};
pub use service::{Deps, Service};
