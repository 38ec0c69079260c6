//! What is seen of volumes and machines: a source for each kind, and the questions that need several of them at once.
//!
//! Nothing here is remembered beside the indexes: where a volume is, is looked up by secondary keys each time. Every replica
//! runs the sources, as calls need to know what is seen, too.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Resource;
use parking_lot::RwLock;
use steading_controller::{
    Health, Index, ObjectRef, Source, SourceConfig, Sources, Version, changes::Change, metrics::ControllerMetrics,
};
use steading_infra::{crd::StorageClass, labels};
use steading_model::name::ClusterName;
use tokio::time::Instant;

use crate::{
    domain::{
        attachment::{Attachment, Sight, elsewhere, judge},
        machine::{ObservedInstance, ObservedMachine, ObservedNode},
        overhead::Overheads,
        site::Site,
        volume::{Claim, Stage, Volume},
    },
    plan::machine::{Concerned, MachineView},
};

pub mod class;
pub mod parse;
pub mod places;
#[cfg(test)]
mod tests;

/// Secondary key of volumes: machines that they are wanted or recorded on.
const BY_MACHINE: &str = "machine";
/// Secondary key of machines and instances: claims that they show.
const BY_CLAIM: &str = "claim";
/// Secondary key of instances: the infra node below.
const BY_NODE: &str = "node";

/// Secondary key of volumes and pools: their project.
const BY_PROJECT: &str = "project";

/// How long a view may be stale before attachments count as unknown. A watch that is dropped is back within a second or two, and
/// news takes that long anyway.
const GRACE: Duration = Duration::from_secs(3);

/// A volume or a machine that has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A volume, or what is seen of its attachment: namespace and id.
    Volume(String, String),
    /// A machine, or what is wanted on it: namespace and id.
    Machine(String, String),
}

impl steading_controller::Keyed for Subject {
    fn tenant(&self) -> Option<&str> {
        match self {
            Self::Volume(namespace, _) | Self::Machine(namespace, _) => Some(namespace),
        }
    }
}

/// One moment's view of what volumes share.
#[derive(Debug, Clone)]
pub struct Lens {
    /// Why attachments cannot be seen; `None` if they can.
    pub clouded: Option<String>,
    /// What CDI keeps of file systems for itself.
    pub overheads: Overheads,
    /// The moment.
    pub now: Timestamp,
}

/// What is seen of the infra cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Observed {
    /// DataVolumes with our label.
    pub volumes: Source<Volume>,
    /// Their claims.
    pub claims: Source<Claim>,
    /// VirtualMachines with our label.
    pub machines: Source<ObservedMachine>,
    /// VirtualMachineInstances with our label.
    pub instances: Source<ObservedInstance>,
    /// Infra nodes.
    pub nodes: Source<ObservedNode>,
    /// Storage classes that the operator offers.
    pub classes: Source<StorageClass>,
    /// What the boot disks of pools take, in bytes.
    pub pools: Source<u64>,
    overheads: Arc<RwLock<Overheads>>,
}

fn scoped(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// An index whose objects are found by their project.
fn by_project<T>() -> Index<T> {
    Index::new().with_key(BY_PROJECT, |object, _| {
        let cluster = ClusterName::from_namespace(&object.namespace);
        cluster.map(|cluster| cluster.project.to_string()).into_iter().collect()
    })
}

impl Observed {
    /// Sources that nothing fills yet. `config` says how kinds are watched, apart from selectors.
    pub fn new(config: &SourceConfig, metrics: &ControllerMetrics) -> Self {
        let ours = |label: &str| config.clone().labels(label);
        let source = |name| metrics.source("storage", name);
        let volumes = by_project().with_key(BY_MACHINE, |object, volume: &Volume| {
            let recorded = volume.placement.iter().map(|record| record.machine.as_str());
            let machines: BTreeSet<&str> = volume.attach_to.as_deref().into_iter().chain(recorded).collect();
            let machines = machines.into_iter();
            machines.map(|machine| scoped(&object.namespace, machine)).collect()
        });
        let machines = Index::new().with_key(BY_CLAIM, |object, machine: &ObservedMachine| {
            let claims: BTreeSet<&str> = machine.claims().collect();
            claims
                .into_iter()
                .map(|claim| scoped(&object.namespace, claim))
                .collect()
        });
        let instances = Index::new()
            .with_key(BY_CLAIM, |object, instance: &ObservedInstance| {
                let keys: BTreeSet<&str> = instance.disks.iter().map(|(name, disk)| disk.key(name)).collect();
                keys.into_iter().map(|key| scoped(&object.namespace, key)).collect()
            })
            .with_key(BY_NODE, |_, instance: &ObservedInstance| {
                instance.node.clone().into_iter().collect()
            });
        Self {
            volumes: Source::new("datavolumes", ours(labels::VOLUME), volumes, source("datavolumes")),
            claims: Source::new(
                "persistentvolumeclaims",
                ours(labels::VOLUME),
                Index::new(),
                source("persistentvolumeclaims"),
            ),
            machines: Source::new(
                "virtualmachines",
                ours(labels::MACHINE),
                machines,
                source("virtualmachines"),
            ),
            instances: Source::new(
                "virtualmachineinstances",
                ours(labels::MACHINE),
                instances,
                source("virtualmachineinstances"),
            ),
            nodes: Source::new("nodes", config.clone(), Index::new(), source("nodes")),
            classes: Source::new("storageclasses", config.clone(), Index::new(), source("storageclasses")),
            pools: Source::new("machinepools", config.clone(), by_project(), source("machinepools")),
            overheads: Arc::default(),
        }
    }

    /// All sources, for readiness and reports.
    pub fn register(&self, sources: &Sources) {
        sources.add(&self.volumes);
        sources.add(&self.claims);
        sources.add(&self.machines);
        sources.add(&self.instances);
        sources.add(&self.nodes);
        sources.add(&self.classes);
        sources.add(&self.pools);
    }

    /// Whether everything that attachments depend on was listed once.
    pub fn is_synced(&self) -> bool {
        let (volumes, machines) = (self.volumes.health(), self.machines.health());
        volumes.is_listed() && machines.is_listed() && self.instances.health().is_listed()
    }

    /// Why attachments cannot be seen at present; `None` if they can.
    pub fn clouded(&self) -> Option<String> {
        let healths = [
            (self.machines.name(), self.machines.health().judge()),
            (self.instances.name(), self.instances.health().judge()),
        ];
        healths.into_iter().find_map(|(name, health)| match health {
            Health::Live { .. } => None,
            Health::Syncing => Some(format!("{name} of the infra cluster have not been listed yet")),
            Health::Stale { since, why } => {
                let old = Instant::now().saturating_duration_since(since) > GRACE;
                old.then(|| format!("{name} of the infra cluster cannot be watched: {why}"))
            }
        })
    }

    /// What CDI keeps of file systems for itself.
    pub fn overheads(&self) -> Overheads {
        self.overheads.read().clone()
    }

    /// Notes what CDI keeps of file systems for itself.
    pub fn set_overheads(&self, overheads: Overheads) {
        *self.overheads.write() = overheads;
    }

    /// Puts in a volume as a read or the reply of a write showed it.
    pub fn put_volume(&self, volume: Volume) {
        let object = ObjectRef::new(&volume.name.namespace(), volume.id());
        let version = Version::parse(&volume.version);
        self.volumes.index().upsert(object, version, volume);
    }

    /// A volume, with its stage as the claim behind it shows it.
    pub fn volume(&self, namespace: &str, id: &str) -> Option<Arc<Volume>> {
        let volume = self.volumes.index().get(namespace, id)?;
        Some(self.joined(volume))
    }

    /// A volume of which one part is known from elsewhere: its stage as the claim behind it shows it.
    pub fn joined(&self, volume: Arc<Volume>) -> Arc<Volume> {
        if !self.is_lost(&volume) {
            return volume;
        }
        let mut lost = Volume::clone(&volume);
        lost.stage = Stage::Lost;
        "the claim that held the volume's data is gone from the infra cluster".clone_into(&mut lost.message);
        Arc::new(lost)
    }

    /// Whether the claim of a filled volume is gone. Claims and DataVolumes are watched apart: a claim is only missed once the
    /// view of claims is as new as the DataVolume.
    fn is_lost(&self, volume: &Volume) -> bool {
        if volume.stage != Stage::Ready || volume.deleted.is_some() {
            return false;
        }
        match self.claims.index().get(&volume.name.namespace(), volume.id()) {
            Some(claim) => claim.lost,
            None => {
                self.claims.health().is_listed() && self.claims.index().version() >= Version::parse(&volume.version)
            }
        }
    }

    /// The claim of a volume.
    pub fn claim(&self, volume: &Volume) -> Option<Arc<Claim>> {
        self.claims.index().get(&volume.name.namespace(), volume.id())
    }

    /// One machine as it is seen.
    pub fn site(&self, namespace: &str, machine: &str) -> Site {
        let instance = self.instances.index().get(namespace, machine);
        Site {
            machine: machine.to_owned(),
            vm: self.machines.index().get(namespace, machine),
            node: instance.as_deref().and_then(|instance| self.node_of(instance)),
            instance,
        }
    }

    /// The infra node of an instance.
    pub fn node_of(&self, instance: &ObservedInstance) -> Option<Arc<ObservedNode>> {
        self.nodes.index().get("", instance.node.as_deref()?)
    }

    /// Where a volume is wanted, recorded or seen.
    pub fn sites(&self, volume: &Volume) -> Vec<Site> {
        let namespace = volume.name.namespace();
        let mut machines: BTreeSet<String> = self.showing(&namespace, volume.id());
        machines.extend(volume.attach_to.clone());
        machines.extend(volume.placement.as_ref().map(|record| record.machine.clone()));
        machines.iter().map(|machine| self.site(&namespace, machine)).collect()
    }

    /// Machines whose spec or instance shows a volume, or a disk that is named like it.
    fn showing(&self, namespace: &str, volume: &str) -> BTreeSet<String> {
        let by_mark = crate::domain::mark::disk_name(volume);
        let mut found = BTreeSet::new();
        for key in [volume, by_mark.as_str()] {
            let key = scoped(namespace, key);
            let machines = self
                .machines
                .index()
                .by(BY_CLAIM, &key)
                .into_iter()
                .map(|(object, _)| object);
            let instances = self
                .instances
                .index()
                .by(BY_CLAIM, &key)
                .into_iter()
                .map(|(object, _)| object);
            found.extend(machines.chain(instances).map(|object| object.name.to_string()));
        }
        found
    }

    /// What judging several volumes at one moment has in common.
    pub fn lens(&self, now: Timestamp) -> Lens {
        Lens {
            clouded: self.clouded(),
            overheads: self.overheads(),
            now,
        }
    }

    /// What is seen of a volume's attachment.
    pub fn attachment(&self, volume: &Volume, lens: &Lens) -> Attachment {
        let sites = self.sites(volume);
        let sight = lens.clouded.as_deref().map_or(Sight::Clear, Sight::Clouded);
        judge(volume, &sites, sight, lens.now)
    }

    /// A machine with all volumes that concern it; `site` is the machine as it was seen or read.
    pub fn view(&self, namespace: &str, site: Site) -> MachineView {
        let key = scoped(namespace, &site.machine);
        let mut ids: BTreeSet<String> = BTreeSet::new();
        let wanted = self.volumes.index().by(BY_MACHINE, &key);
        ids.extend(wanted.into_iter().map(|(object, _)| object.name.to_string()));
        if let Some(vm) = &site.vm {
            ids.extend(vm.claims().map(str::to_owned));
        }
        if let Some(instance) = &site.instance {
            ids.extend(instance.disks.values().filter_map(|disk| disk.claim.clone()));
        }
        let concerned = |id: String| {
            let volume = self.volume(namespace, &id)?;
            let sites = self.sites(&volume);
            let elsewhere = elsewhere(&volume, &sites, Some(&site.machine)).map(str::to_owned);
            Some(Concerned { volume, elsewhere })
        };
        let volumes = ids.into_iter().filter_map(concerned).collect();
        MachineView { site, volumes }
    }

    /// The volumes of all clusters of a project.
    pub fn volumes_of_project(&self, project: &str) -> impl Iterator<Item = Arc<Volume>> {
        let volumes = self.volumes.index().by(BY_PROJECT, project);
        volumes.into_iter().map(|(_, volume)| volume)
    }

    /// What the boot disks of all pools of a project take, in bytes.
    pub fn boot_disks_of_project(&self, project: &str) -> u64 {
        let pools = self.pools.index().by(BY_PROJECT, project);
        pools.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(**bytes))
    }

    /// Every volume and machine, for the beginning of a term and for resyncs.
    pub fn everything(&self) -> BTreeSet<Subject> {
        let mut all: BTreeSet<Subject> = BTreeSet::new();
        for (object, volume) in self.volumes.index().all() {
            all.extend(of_volume(&object, Some(&volume)));
        }
        let machines = self.machines.index().all().into_iter().map(|(object, _)| object);
        let instances = self.instances.index().all().into_iter().map(|(object, _)| object);
        all.extend(machines.chain(instances).map(|object| machine(&object)));
        all
    }

    /// What has to be looked at after a change of a volume.
    pub fn after_volume(&self, change: &Change<Volume>) -> BTreeSet<Subject> {
        let mut all = of_volume(&change.object, change.before.as_deref());
        all.extend(of_volume(&change.object, change.after.as_deref()));
        let (namespace, id) = (&*change.object.namespace, &*change.object.name);
        let showing = self.showing(namespace, id).into_iter();
        all.extend(showing.map(|machine| Subject::Machine(namespace.to_owned(), machine)));
        all
    }

    /// What has to be looked at after a change of a claim.
    pub fn after_claim(&self, change: &Change<Claim>) -> BTreeSet<Subject> {
        let mut all = BTreeSet::from([volume(&change.object, &change.object.name)]);
        let (namespace, id) = (&*change.object.namespace, &*change.object.name);
        let wanted = self
            .volumes
            .index()
            .get(namespace, id)
            .and_then(|volume| volume.attach_to.clone());
        all.extend(wanted.map(|machine| Subject::Machine(namespace.to_owned(), machine)));
        all
    }

    /// What has to be looked at after a change of a virtual machine.
    pub fn after_machine(&self, change: &Change<ObservedMachine>) -> BTreeSet<Subject> {
        let claims = |seen: &Option<Arc<ObservedMachine>>| {
            let claims = seen
                .iter()
                .flat_map(|seen| seen.claims().map(str::to_owned).collect::<Vec<_>>());
            claims.collect::<BTreeSet<_>>()
        };
        let mut shown = claims(&change.before);
        shown.extend(claims(&change.after));
        self.after_site(&change.object, shown)
    }

    /// What has to be looked at after a change of an instance.
    pub fn after_instance(&self, change: &Change<ObservedInstance>) -> BTreeSet<Subject> {
        let mut shown = BTreeSet::new();
        for seen in [&change.before, &change.after].into_iter().flatten() {
            for (name, disk) in &seen.disks {
                let id = disk.claim.clone();
                shown
                    .insert(id.unwrap_or_else(|| name.trim_start_matches(crate::domain::mark::DISK_PREFIX).to_owned()));
            }
        }
        self.after_site(&change.object, shown)
    }

    /// What has to be looked at after a change of an infra node.
    pub fn after_node(&self, change: &Change<ObservedNode>) -> BTreeSet<Subject> {
        let running = self.instances.index().by(BY_NODE, &change.object.name);
        running
            .into_iter()
            .flat_map(|(object, _)| self.after_site(&object, BTreeSet::new()))
            .collect()
    }

    /// A machine and the volumes that are shown, wanted or recorded there.
    fn after_site(&self, object: &ObjectRef, shown: BTreeSet<String>) -> BTreeSet<Subject> {
        let wanted = self
            .volumes
            .index()
            .by(BY_MACHINE, &scoped(&object.namespace, &object.name));
        let wanted = wanted.into_iter().map(|(object, _)| object.name.to_string());
        let known = |id: &String| self.volumes.index().get(&object.namespace, id).is_some();
        let shown = shown.into_iter().filter(known);
        let volumes = wanted.chain(shown).map(|id| volume(object, &id));
        volumes.chain([machine(object)]).collect()
    }
}

fn volume(object: &ObjectRef, id: &str) -> Subject {
    Subject::Volume(object.namespace.to_string(), id.to_owned())
}

fn machine(object: &ObjectRef) -> Subject {
    Subject::Machine(object.namespace.to_string(), object.name.to_string())
}

/// A volume and the machines that it is wanted or recorded on.
fn of_volume(object: &ObjectRef, seen: Option<&Volume>) -> BTreeSet<Subject> {
    let mut all = BTreeSet::from([volume(object, &object.name)]);
    if let Some(seen) = seen {
        let recorded = seen.placement.as_ref().map(|record| record.machine.clone());
        let machines = seen.attach_to.clone().into_iter().chain(recorded);
        all.extend(machines.map(|machine| Subject::Machine(object.namespace.to_string(), machine)));
    }
    all
}

/// The version of an object for an index.
pub(crate) fn version_of<K: Resource>(object: &K) -> Version {
    Version::of(object.meta().resource_version.as_ref())
}
