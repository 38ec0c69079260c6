//! Templating: what machines are made of.
//!
//! ```text
//!  CatalogService  ─► instance types, preferences  (VirtualMachineCluster{Instancetype,Preference})
//!                 └─► images  (DataSource; reconcile imports golden DataVolumes)
//!  TemplateService ─► templates (CR MachineTemplate) ─► revisions (ControllerRevision)
//!                 └─► validate ─► render ─► VirtualMachine and user data
//! ```
//!
//! It makes no machine: lifecycle does, from what is rendered here.
//!
//! Invariants: what passes `validate` renders without fail; a revision keeps what it was made with by content, never changes
//! and is kept while it is used, so that it makes the same machines or says why it cannot; what a revision or a clone needs
//! is not deleted. If the API server is away, calls answer `UNAVAILABLE`, and the reconcilers continue when it is back.

pub mod api;
pub mod apply;
pub mod config;
pub mod domain;
pub mod error;
pub mod observe;
pub mod plan;
pub mod reconcile;
pub mod render;
pub mod service;
pub mod validate;

pub use config::Config;
pub use error::ServiceError;
pub use service::{Deps, Service};
