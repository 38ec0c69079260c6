//! Names without a parent: projects and what the platform operator owns.

use crate::{
    ids::{Id, NodeId},
    name::{
        form::NameError,
        macros::top_name,
        resource::{ParentName, WILDCARD, Within},
    },
};

top_name! {
    /// A project: the owner of clusters, templates and its own catalogue.
    ProjectName, "Project", "projects", project: Id, "projects/{project}"
}
top_name! {
    /// A storage class that the operator offers to tenants.
    StorageClassName, "StorageClass", "storageClasses", storage_class: Id, "storageClasses/{storage_class}"
}
top_name! {
    /// A bare-metal node of the infra cluster.
    InfraNodeName, "InfraNode", "infraNodes", infra_node: NodeId, "infraNodes/{infra_node}"
}
top_name! {
    /// A maintenance of an infra node.
    MaintenanceName, "Maintenance", "maintenances", maintenance: Id, "maintenances/{maintenance}"
}

impl ParentName for ProjectName {
    const KIND: &'static str = Self::KIND;

    fn project(&self) -> Option<&Id> {
        Some(&self.project)
    }

    fn namespace(&self) -> Option<String> {
        None
    }

    fn parse_within(text: &str) -> Result<Within<Self>, NameError> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["projects", WILDCARD] => Ok(Within::Everywhere),
            _ => text.parse().map(Within::One),
        }
    }
}
