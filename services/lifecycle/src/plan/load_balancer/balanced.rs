//! Which tenant Service a load balancer is of.

use std::collections::BTreeMap;

use steading_infra::labels;

use super::super::digest::short_digest;

/// Which tenant Service, in which cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Balanced {
    /// Namespace of the cluster in the infra cluster.
    pub cluster: String,
    /// Namespace of the tenant's Service.
    pub namespace: String,
    /// Name of the tenant's Service.
    pub service: String,
}

impl Balanced {
    /// Name of the infra Service: bounded, a DNS label, and unique within the cluster's namespace.
    pub fn infra_name(&self) -> String {
        let hash = short_digest(&format!("{}/{}", self.namespace, self.service), 5);
        // 63 is a DNS label's length; endpoint slices add up to 8 characters.
        let kept: String = self.service.chars().take(38).collect();
        format!("lb-{}-{hash}", kept.trim_end_matches('-'))
    }

    /// As the annotation of the infra Service has it.
    pub fn tenant_service(&self) -> String {
        format!("{}/{}", self.namespace, self.service)
    }
}

/// Why a field does not carry over as it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldNote {
    /// Path within the tenant's Service.
    pub field: String,
    /// What was done instead, and why.
    pub message: String,
}

/// Labels of everything that belongs to a load balancer.
pub fn labels_of(balanced: &Balanced) -> BTreeMap<String, String> {
    let mut map = BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_STEADING.to_owned()),
        (labels::LOAD_BALANCER.to_owned(), balanced.infra_name()),
    ]);
    if let Some((project, cluster)) = balanced.cluster.split_once(labels::PROJECT_SEPARATOR) {
        map.insert(labels::PROJECT.to_owned(), project.to_owned());
        map.insert(labels::CLUSTER.to_owned(), cluster.to_owned());
    }
    map
}
