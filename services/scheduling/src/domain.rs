//! What scheduling thinks in: placements in the types of the Kubernetes API, policies, and sizes of machines.

pub mod amounts;
pub mod constraints;
pub mod footprint;
pub mod infra_cluster;
pub mod interner;
pub mod placement;
pub mod policy;
pub mod resolve;
pub mod selector;

pub use amounts::Amounts;
pub use constraints::Constraints;
pub use placement::Placement;
