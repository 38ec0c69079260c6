//! Claims and volumes: where a machine may run because of its disks.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim};
use steading_infra::labels;

use super::PodKey;
use crate::domain::{
    constraints::NodeTerm,
    selector::{Operator, Requirement},
};

/// A claim that is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedClaim {
    /// Its namespace and name.
    pub key: PodKey,
    /// Name of its volume.
    pub volume: Arc<str>,
}

impl ObservedClaim {
    /// Projects a claim; `None` if it is not bound: then it goes wherever the machine goes.
    pub fn of(claim: &PersistentVolumeClaim) -> Option<Self> {
        let volume = claim
            .spec
            .as_ref()?
            .volume_name
            .as_deref()
            .filter(|name| !name.is_empty())?;
        Some(Self {
            key: PodKey::new(claim.metadata.namespace.as_deref()?, claim.metadata.name.as_deref()?),
            volume: Arc::from(volume),
        })
    }
}

/// A volume that is not reachable from everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedVolume {
    /// Its name.
    pub name: Arc<str>,
    /// Alternatives of which a node must fulfil one; empty demands nothing.
    pub reachable_from: Vec<NodeTerm>,
    /// Requirements of its zone and region labels, on nodes that have such labels.
    pub zones: Vec<Requirement>,
}

impl ObservedVolume {
    /// Projects a volume; `None` if every node reaches it.
    pub fn of(volume: &PersistentVolume) -> Option<Self> {
        let affinity = volume
            .spec
            .as_ref()
            .and_then(|s| s.node_affinity.as_ref()?.required.as_ref());
        let terms = affinity.map(|r| r.node_selector_terms.iter().map(term).collect());
        let observed = Self {
            name: Arc::from(volume.metadata.name.as_deref()?),
            reachable_from: terms.unwrap_or_default(),
            zones: volume.metadata.labels.as_ref().map(zones).unwrap_or_default(),
        };
        (!observed.reachable_from.is_empty() || !observed.zones.is_empty()).then_some(observed)
    }
}

fn term(term: &NodeSelectorTerm) -> NodeTerm {
    let requirements = |list: &Option<Vec<k8s_openapi::api::core::v1::NodeSelectorRequirement>>| {
        let list = list.iter().flatten();
        list.map(|r| {
            Requirement::new(
                &r.key,
                Operator::parse(&r.operator),
                r.values.as_deref().unwrap_or_default(),
            )
        })
        .collect()
    };
    NodeTerm {
        labels: requirements(&term.match_expressions),
        fields: requirements(&term.match_fields),
    }
}

/// A volume's label names one zone, or several joined with `__`.
fn zones(all: &BTreeMap<String, String>) -> Vec<Requirement> {
    [labels::ZONE, labels::REGION]
        .iter()
        .filter_map(|key| {
            let values: Vec<String> = all.get(*key)?.split("__").map(str::to_owned).collect();
            Some(Requirement::new(key, Operator::In, &values))
        })
        .collect()
}
