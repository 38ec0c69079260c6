//! Steading's own kinds, group `steading.dev`. Each file is owned by the service that reconciles the kind.

#![allow(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "both are found in what kube's derive makes of the structs"
)]

pub mod cluster;
pub mod machine_pool;
pub mod machine_template;
pub mod maintenance;
pub mod placement_policy;
pub mod project;
pub mod storage_class;

pub use cluster::Cluster;
pub use machine_pool::MachinePool;
pub use machine_template::MachineTemplate;
pub use maintenance::Maintenance;
pub use placement_policy::PlacementPolicy;
pub use project::Project;
pub use storage_class::StorageClass;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// All of Steading's CustomResourceDefinitions.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        Project::crd(),
        Cluster::crd(),
        MachinePool::crd(),
        MachineTemplate::crd(),
        PlacementPolicy::crd(),
        StorageClass::crd(),
        Maintenance::crd(),
    ]
}
