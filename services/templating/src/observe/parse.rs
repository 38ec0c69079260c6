//! Objects of the infra cluster → what templating needs of them.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;
use steading_controller::object::slim;
use steading_infra::{
    cdi::{DataSource, DataVolume, DataVolumePhase},
    crd::{MachinePool, machine_template::MachineTemplate},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::{
    ids::Id,
    name::{ClusterName, MachinePoolName, MachineTemplateName},
};

use super::{
    catalogue::content,
    image::golden_disk,
    revisions::{id_of, read},
    usage::last_segment,
};
use crate::{
    apply::revision::PINNED,
    domain::{
        image::GoldenDisk,
        machine::ResolvedImage,
        revision::{Revision, Stored},
        standard,
    },
};

/// A DataVolume that concerns images.
#[derive(Debug, Clone, PartialEq)]
pub enum ObservedVolume {
    /// A golden disk.
    Golden {
        /// The image's DataSource.
        image: String,
        /// The disk.
        disk: GoldenDisk,
        /// Whether it is being deleted.
        ending: bool,
    },
    /// Something that is being cloned from a claim of the system namespace, until that has ended.
    Clone {
        /// The claim.
        of: String,
    },
}

/// A stored revision.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRevision {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: i64,
    /// The object of its template.
    pub template: String,
    /// What it holds.
    pub revision: Revision,
}

impl StoredRevision {
    /// The objects that keep what it is made of.
    pub fn pinned(&self) -> Vec<String> {
        let resolved = &self.revision.resolved;
        let entries = resolved.instance_type.iter().chain(&resolved.preference);
        entries
            .map(crate::domain::machine::CatalogueEntry::pinned_object)
            .collect()
    }

    /// What keeping it is decided by.
    pub fn kept(&self) -> Stored {
        Stored {
            id: self.id.clone(),
            number: self.number,
        }
    }

    /// The DataSources of its images.
    pub fn images(&self) -> Vec<String> {
        let images = self.revision.resolved.images.values();
        let mut images: Vec<String> = images
            .map(|ResolvedImage { data_source, .. }| data_source.clone())
            .collect();
        images.sort();
        images.dedup();
        images
    }
}

/// An instance type or a preference.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its content, with sorted keys.
    pub spec: Value,
    /// Whether it keeps what an entry was, for revisions.
    pub is_pinned: bool,
    /// Whether it belongs to the standard catalogue.
    pub is_standard: bool,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Counts the changes of its content.
    pub generation: i64,
}

/// What a machine was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFrom {
    /// The object of the template.
    pub template: String,
    /// Id of the revision; empty if it is not known.
    pub revision: String,
    /// Name of its pool, if it is in one.
    pub pool: Option<String>,
}

/// Which revisions a pool uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUse {
    /// Its name.
    pub name: String,
    /// The object of its template.
    pub template: String,
    /// Id of the revision that is wanted; empty follows the latest.
    pub wanted: String,
    /// Id of the revision that it was made from last; empty if there is none.
    pub current: String,
}

/// A template without what only the API server needs.
pub fn template(object: MachineTemplate) -> Option<MachineTemplate> {
    Some(slim(object))
}

/// An image without what only the API server needs.
pub fn image(object: DataSource) -> Option<DataSource> {
    (object.namespace().as_deref() == Some(labels::SYSTEM_NAMESPACE)).then(|| slim(object))
}

/// A golden disk, or a clone of something in the system namespace that has not ended.
pub fn volume(object: &DataVolume) -> Option<ObservedVolume> {
    let is_ours = object.namespace().as_deref() == Some(labels::SYSTEM_NAMESPACE);
    if let Some(image) = object.labels().get(labels::IMAGE).filter(|_| is_ours) {
        return Some(ObservedVolume::Golden {
            image: image.clone(),
            disk: golden_disk(object),
            ending: object.metadata.deletion_timestamp.is_some(),
        });
    }
    let of = clone_of(object)?.to_owned();
    Some(ObservedVolume::Clone { of })
}

/// The claim of the system namespace that a DataVolume is being cloned from; `None` when the clone has ended.
pub fn clone_of(object: &DataVolume) -> Option<&str> {
    let phase = object.status.as_ref().and_then(|status| status.phase.as_ref());
    let source = object.spec.source.as_ref()?.pvc.as_ref()?;
    let is_under_way = phase != Some(&DataVolumePhase::Succeeded) && source.namespace == labels::SYSTEM_NAMESPACE;
    is_under_way.then_some(source.name.as_str())
}

/// A stored revision of ours.
pub fn revision(object: &ControllerRevision) -> Option<StoredRevision> {
    if object.namespace().as_deref() != Some(labels::SYSTEM_NAMESPACE) {
        return None;
    }
    let template = object.labels().get(labels::MACHINE_TEMPLATE)?;
    let name = MachineTemplateName::from_object_name(template)?;
    Some(StoredRevision {
        id: id_of(&name, object)?,
        number: object.revision,
        template: template.clone(),
        revision: read(&object.name_any(), object).ok()?,
    })
}

/// An instance type or a preference, of which `spec` is the content.
pub fn entry<K: Resource<DynamicType = ()>>(object: &K, spec: &impl Serialize) -> Option<Entry> {
    let has = |label: &str, value: &str| object.labels().get(label).is_some_and(|found| found == value);
    Some(Entry {
        spec: content(spec)?,
        is_pinned: object.labels().contains_key(PINNED),
        is_standard: has(standard::CATALOGUE_LABEL, standard::STANDARD),
        created: object.meta().creation_timestamp.as_ref().map(|time| time.0),
        generation: object.meta().generation.unwrap_or_default(),
    })
}

/// What a VirtualMachine was made from; `None` if from no template.
pub fn machine(object: &VirtualMachine) -> Option<MadeFrom> {
    let pool = object.labels().get(labels::POOL).cloned().unwrap_or_default();
    let pool = MachinePoolName::from_object(&object.namespace().unwrap_or_default(), &pool);
    Some(MadeFrom {
        template: object.labels().get(labels::MACHINE_TEMPLATE)?.clone(),
        revision: object
            .annotations()
            .get(labels::TEMPLATE_REVISION)
            .cloned()
            .unwrap_or_default(),
        pool: pool.map(|name| name.to_string()),
    })
}

/// Which revisions a pool uses; `None` for a pool of no cluster of ours.
pub fn pool(object: &MachinePool) -> Option<PoolUse> {
    let namespace = object.namespace().unwrap_or_default();
    let name = MachinePoolName::from_object(&namespace, &object.name_any())?;
    let project = ClusterName::from_namespace(&namespace)?.project;
    let status = object
        .status
        .as_ref()
        .and_then(|status| status.template_revision.as_deref());
    Some(PoolUse {
        name: name.to_string(),
        template: template_object(&project, &object.spec.machine_template),
        wanted: last_segment(&object.spec.machine_template_revision).to_owned(),
        current: last_segment(status.unwrap_or_default()).to_owned(),
    })
}

/// The object of the template that a pool names: by its id, as lifecycle writes it, or by a whole name, as people may.
fn template_object(project: &Id, text: &str) -> String {
    let prefix = format!("{project}{}", labels::PROJECT_SEPARATOR);
    let id = last_segment(text);
    if id.starts_with(&prefix) {
        id.to_owned()
    } else {
        format!("{prefix}{id}")
    }
}
