//! A source for each kind, and the questions that need several of them. Who uses what is a look-up by secondary keys.

use std::collections::BTreeSet;

use steading_controller::{
    Index, ObjectRef, Source, SourceConfig, Sources, changes::Change, health::SharedHealth, metrics::ControllerMetrics,
};
use steading_infra::{
    cdi::DataSource,
    crd::machine_template::{MachineTemplate, MachineTemplateSpec},
    labels,
};
use steading_model::name::{InstanceTypeName, MachineTemplateName, PreferenceName};

use super::{
    entry::Entry,
    image::{self, ObservedVolume},
    revisions::StoredRevision,
    usage::{MadeFrom, PoolUse, Usage},
};
use crate::{domain::image::GoldenDisk, plan::resolve::references};

/// Secondary key of templates: what they name of the catalogue, as [`of_type`] and its like write it.
const BY_ENTRY: &str = "entry";
/// Secondary key of volumes: the image of a golden disk.
const BY_IMAGE: &str = "image";
/// Secondary key of volumes: the golden disk that they are a clone of.
const BY_ORIGIN: &str = "origin";
/// Secondary key of images: what templates that name neither type nor preference get by them.
const BY_DEFAULT: &str = "default";
/// Secondary key of revisions, machines and pools: the object of their template.
const BY_TEMPLATE: &str = "template";
/// Secondary key of revisions: the objects that keep what they are made of.
const BY_PINNED: &str = "pinned";

/// What has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An image by the name of its DataSource.
    Image(String),
    /// A template by the name of its object.
    Template(String),
    /// The standard catalogue.
    Standard,
    /// The objects that keep what revisions are made of.
    Pinned,
}

impl steading_controller::Keyed for Subject {}

/// What is seen of the infra cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Machine templates.
    pub templates: Source<MachineTemplate>,
    /// DataSources of images.
    pub images: Source<DataSource>,
    /// Golden disks, and what is being cloned from them.
    pub volumes: Source<ObservedVolume>,
    /// Stored revisions.
    pub revisions: Source<StoredRevision>,
    /// Instance types, with those that are kept for revisions.
    pub instance_types: Source<Entry>,
    /// Preferences, with those that are kept for revisions.
    pub preferences: Source<Entry>,
    /// Which revision machines were made from.
    pub machines: Source<MadeFrom>,
    /// Which revisions pools want and have.
    pub pools: Source<PoolUse>,
}

/// Value of [`BY_ENTRY`] for an instance type's object.
pub(super) fn of_type(object: &str) -> String {
    format!("instanceTypes/{object}")
}

/// Value of [`BY_ENTRY`] for a preference's object.
pub(super) fn of_preference(object: &str) -> String {
    format!("preferences/{object}")
}

/// Value of [`BY_ENTRY`] for an image's object.
fn of_image(object: &str) -> String {
    format!("images/{object}")
}

/// What a template names of the catalogue, and its project may see.
fn entries_of(template: &ObjectRef, spec: &MachineTemplateSpec) -> Vec<String> {
    let Some(name) = MachineTemplateName::from_object_name(&template.name) else {
        return Vec::new();
    };
    let named = references(&name.project, spec);
    let images = named.images.iter().map(|object| of_image(object));
    let kind = named.instance_type.iter().map(|object| of_type(object));
    let preference = named.preference.iter().map(|object| of_preference(object));
    images.chain(kind).chain(preference).collect()
}

/// What an image gives templates that name neither type nor preference.
pub(super) fn defaults_of(image: &DataSource) -> Vec<String> {
    let Some(spec) = image::read_spec(image) else {
        return Vec::new();
    };
    let kind = spec.default_instance_type.parse::<InstanceTypeName>().ok();
    let preference = spec.default_preference.parse::<PreferenceName>().ok();
    let kind = kind.map(|name| of_type(&name.object_name()));
    kind.into_iter()
        .chain(preference.map(|name| of_preference(&name.object_name())))
        .collect()
}

impl Observed {
    /// Sources that nothing fills yet. `config` says how kinds are watched, apart from selectors.
    pub fn new(config: &SourceConfig, metrics: &ControllerMetrics) -> Self {
        let ours = |label: &str| config.clone().labels(label);
        let metrics = |name| metrics.source("templating", name);
        let templates = Index::new().with_key(BY_ENTRY, |object, template: &MachineTemplate| {
            entries_of(object, &template.spec)
        });
        let images = Index::new().with_key(BY_DEFAULT, |_, image| defaults_of(image));
        let volumes = Index::new()
            .with_key(BY_IMAGE, |_, volume: &ObservedVolume| match volume {
                ObservedVolume::Golden { image, .. } => vec![image.clone()],
                ObservedVolume::Clone { .. } => Vec::new(),
            })
            .with_key(BY_ORIGIN, |_, volume: &ObservedVolume| match volume {
                ObservedVolume::Golden { .. } => Vec::new(),
                ObservedVolume::Clone { of } => vec![of.clone()],
            });
        let revisions = Index::new()
            .with_key(BY_TEMPLATE, |_, stored: &StoredRevision| vec![stored.template.clone()])
            .with_key(BY_PINNED, |_, stored: &StoredRevision| stored.pinned())
            .with_key(BY_IMAGE, |_, stored: &StoredRevision| stored.images());
        let machines = Index::new().with_key(BY_TEMPLATE, |_, machine: &MadeFrom| vec![machine.template.clone()]);
        let pools = Index::new().with_key(BY_TEMPLATE, |_, pool: &PoolUse| vec![pool.template.clone()]);
        Self {
            templates: Source::new(
                "machinetemplates",
                config.clone(),
                templates,
                metrics("machinetemplates"),
            ),
            images: Source::new("datasources", ours(labels::IMAGE), images, metrics("datasources")),
            volumes: Source::new("datavolumes", config.clone(), volumes, metrics("datavolumes")),
            revisions: Source::new(
                "controllerrevisions",
                ours(labels::MACHINE_TEMPLATE),
                revisions,
                metrics("controllerrevisions"),
            ),
            instance_types: Source::new(
                "virtualmachineclusterinstancetypes",
                config.clone(),
                Index::new(),
                metrics("virtualmachineclusterinstancetypes"),
            ),
            preferences: Source::new(
                "virtualmachineclusterpreferences",
                config.clone(),
                Index::new(),
                metrics("virtualmachineclusterpreferences"),
            ),
            machines: Source::new(
                "virtualmachines",
                ours(labels::MACHINE_TEMPLATE),
                machines,
                metrics("virtualmachines"),
            ),
            pools: Source::new("machinepools", config.clone(), pools, metrics("machinepools")),
        }
    }

    /// All sources, for readiness and reports.
    pub fn register(&self, sources: &Sources) {
        sources.add(&self.templates);
        sources.add(&self.images);
        sources.add(&self.volumes);
        sources.add(&self.revisions);
        sources.add(&self.instance_types);
        sources.add(&self.preferences);
        sources.add(&self.machines);
        sources.add(&self.pools);
    }

    /// Whether what templates refer to can be seen as it is now.
    pub fn is_catalogue_live(&self) -> bool {
        let (images, volumes) = (self.images.health(), self.volumes.health());
        let (types, preferences) = (self.instance_types.health(), self.preferences.health());
        [images, volumes, types, preferences]
            .into_iter()
            .all(SharedHealth::is_live)
    }

    /// The golden disks of an image, in order of their names.
    pub fn golden_disks(&self, image: &str) -> Vec<GoldenDisk> {
        let volumes = self.volumes.index().by(BY_IMAGE, image);
        let golden = volumes.iter().filter_map(|(_, volume)| match &**volume {
            ObservedVolume::Golden { disk, .. } => Some(disk.clone()),
            ObservedVolume::Clone { .. } => None,
        });
        golden.collect()
    }

    /// Whether a golden disk is there to stay.
    pub fn has_golden(&self, volume: &str) -> bool {
        let found = self.volumes.index().get(labels::SYSTEM_NAMESPACE, volume);
        found.is_some_and(|volume| matches!(&*volume, ObservedVolume::Golden { ending: false, .. }))
    }

    /// Whether anything is being cloned from a golden disk.
    pub fn is_being_cloned(&self, volume: &str) -> bool {
        self.volumes.index().count_by(BY_ORIGIN, volume) > 0
    }

    /// Whether a stored revision was made with a golden disk of an image.
    pub fn is_in_revision(&self, image: &str, volume: &str) -> bool {
        let stored = self.revisions.index().by(BY_IMAGE, image);
        stored.iter().any(|(_, stored)| {
            let mut images = stored.revision.resolved.images.values();
            images.any(|image| image.volume() == volume)
        })
    }

    /// Whether a stored revision needs the object that keeps what an instance type or preference was.
    pub fn is_pinned_for_somebody(&self, object: &str) -> bool {
        self.revisions.index().count_by(BY_PINNED, object) > 0
    }

    /// The stored revisions of a template.
    pub fn revisions_of(&self, template: &str) -> Vec<std::sync::Arc<StoredRevision>> {
        let stored = self.revisions.index().by(BY_TEMPLATE, template);
        stored.into_iter().map(|(_, stored)| stored).collect()
    }

    /// Who uses a template, as seen; see [`super::usage::of_template`] for a fresh answer.
    pub fn usage(&self, name: &MachineTemplateName, latest: &str) -> Usage {
        let object = name.object_name();
        let machines = self.machines.index().by(BY_TEMPLATE, &object);
        let pools = self.pools.index().by(BY_TEMPLATE, &object);
        let mut found = Usage::default();
        for (_, machine) in &machines {
            found.count_machine(machine);
        }
        for (_, pool) in &pools {
            found.count_pool(pool, latest);
        }
        found
    }

    /// Everything, for the beginning of a term and for resyncs.
    pub fn everything(&self) -> BTreeSet<Subject> {
        let images = self.images.index().all().into_iter();
        let images = images.map(|(object, _)| Subject::Image(object.name.to_string()));
        let templates = self.templates.index().all().into_iter();
        let templates = templates.map(|(object, _)| Subject::Template(object.name.to_string()));
        images
            .chain(templates)
            .chain([Subject::Standard, Subject::Pinned])
            .collect()
    }

    /// The templates that name an entry, or get it by an image.
    pub(super) fn naming(&self, entry: &str) -> BTreeSet<Subject> {
        let by_images = self.images.index().by(BY_DEFAULT, entry);
        let by_images = by_images.iter().map(|(object, _)| of_image(&object.name));
        let users = by_images
            .chain([entry.to_owned()])
            .flat_map(|entry| self.templates.index().by(BY_ENTRY, &entry));
        users
            .map(|(object, _)| Subject::Template(object.name.to_string()))
            .collect()
    }

    /// The templates of the revisions under a key.
    fn of_revisions(&self, key: &str, value: &str) -> BTreeSet<Subject> {
        let stored = self.revisions.index().by(key, value);
        let stored = stored.into_iter();
        stored
            .map(|(_, stored)| Subject::Template(stored.template.clone()))
            .collect()
    }

    pub(super) fn after_image(&self, image: &str) -> BTreeSet<Subject> {
        let mut all = self.naming(&of_image(image));
        all.extend(self.of_revisions(BY_IMAGE, image));
        all.insert(Subject::Image(image.to_owned()));
        all
    }

    pub(super) fn after_volume(&self, change: &Change<ObservedVolume>) -> BTreeSet<Subject> {
        let sides = change.before.iter().chain(&change.after);
        let images = sides.filter_map(|volume| match &**volume {
            ObservedVolume::Golden { image, .. } => Some(image.clone()),
            ObservedVolume::Clone { of } => {
                let origin = self.volumes.index().get(labels::SYSTEM_NAMESPACE, of)?;
                match &*origin {
                    ObservedVolume::Golden { image, .. } => Some(image.clone()),
                    ObservedVolume::Clone { .. } => None,
                }
            }
        });
        let images: BTreeSet<String> = images.collect();
        images.iter().flat_map(|image| self.after_image(image)).collect()
    }

    pub(super) fn after_entry(&self, entry: &str, change: &Change<Entry>) -> BTreeSet<Subject> {
        let mut all = self.naming(entry);
        let sides: Vec<_> = change.before.iter().chain(&change.after).collect();
        if sides.iter().any(|entry| entry.is_standard) {
            all.insert(Subject::Standard);
        }
        if sides.iter().any(|entry| entry.is_pinned) {
            // Somebody may have deleted what a revision is made of.
            all.extend(self.of_revisions(BY_PINNED, &change.object.name));
        }
        all
    }
}
