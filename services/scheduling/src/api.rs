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

use steading_runtime::collection::Keys;

/// Annotations of requests, and what does not belong to users.
pub const KEYS: Keys = Keys {
    request_id: steading_infra::labels::REQUEST_ID,
    request_hash: steading_infra::labels::REQUEST_HASH,
    reserved: &[
        "steading.dev/",
        "app.kubernetes.io/managed-by",
        "kubectl.kubernetes.io/",
    ],
};
