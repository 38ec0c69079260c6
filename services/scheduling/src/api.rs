//! The gRPC services: parse, authorise, ask the domain, convert.

pub mod capacity;
pub mod convert;
pub mod explain;
pub mod infra_cluster;
pub mod infra_nodes;
pub mod placement;
pub mod policies;
pub mod solver;
pub mod status;
pub mod subject;
