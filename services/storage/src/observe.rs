//! What is seen of volumes and machines: a synchronous index that watch events are put into.
//!
//! It is kept per namespace, which is a tenant cluster, so that no question looks at more than one cluster. Every change
//! that matters gets a number and stands in a bounded log; reconcilers and watch streams read on from the last number
//! that they have seen, each at its own pace, and learn when they fell too far behind.
//!
//! While one of the watches is broken, nothing is told of attachments: what cannot be seen is unknown.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::domain::{
    attachment::{self, Attachment, DiskStatus, Site, SiteInstance, SiteVm},
    mark::disk_name,
    volume::{Claim, Volume},
};

pub mod class;
pub mod parse;
pub mod shared;
#[cfg(test)]
mod tests;

pub use shared::SharedIndex;

/// Changes that are kept for slow readers: minutes of a busy cluster, a few hundred KiB.
const LOG: usize = 8192;

/// A virtual machine, as far as its disks go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedMachine {
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// Whether it is being deleted or is asked to go.
    pub going: bool,
    /// Disks with our mark, by name, with the claim behind each.
    pub ours: BTreeMap<String, String>,
    /// Names of all other disks and volumes.
    pub others: BTreeSet<String>,
    /// What KubeVirt says against hot-plugging.
    pub refusal: Option<String>,
}

/// A running instance, as far as its disks go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedInstance {
    /// Whether it is being migrated.
    pub migrating: bool,
    /// Whether its node has lost it from sight.
    pub unreachable: bool,
    /// What it says of disks that are named like ours.
    pub disks: BTreeMap<String, DiskStatus>,
}

/// What the index watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// DataVolumes with our label.
    Volumes,
    /// Their claims.
    Claims,
    /// VirtualMachines with our label.
    Machines,
    /// VirtualMachineInstances with our label.
    Instances,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Volumes, Self::Claims, Self::Machines, Self::Instances];
}

/// Something that changed: namespace and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A volume, or what is seen of its attachment.
    Volume(String, String),
    /// A machine, or what is wanted on it.
    Machine(String, String),
}

/// Changes since a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// These, and the number to ask with next time.
    Changes(Vec<Change>, u64),
    /// The log does not reach back so far: look at everything.
    Lost(u64),
}

#[derive(Debug, Default)]
struct Namespace {
    volumes: BTreeMap<String, Arc<Volume>>,
    claims: BTreeMap<String, Claim>,
    machines: BTreeMap<String, ObservedMachine>,
    instances: BTreeMap<String, ObservedInstance>,
    /// By name of a disk, the machines whose spec or instance shows it.
    sites: HashMap<String, BTreeSet<String>>,
}

/// The index; see the module.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: BTreeMap<String, Namespace>,
    seen: BTreeSet<Kind>,
    broken: BTreeSet<Kind>,
    log: VecDeque<Change>,
    /// Number of the newest change.
    number: u64,
}

impl Index {
    /// Whether everything was listed once.
    pub fn is_complete(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.seen.contains(kind))
    }

    /// Whether everything was listed, and no watch is broken: only then can be said what is *not* there.
    pub fn is_reliable(&self) -> bool {
        self.is_complete() && self.broken.is_empty()
    }

    /// Notes that a kind was listed whole.
    pub fn mark_seen(&mut self, kind: Kind) {
        if self.broken.remove(&kind) {
            // What was asked for meanwhile was put off.
            self.note_all();
        }
        if self.seen.insert(kind) && self.is_complete() {
            // Also when there is nothing yet: those who wait for the index must wake.
            self.number += 1;
            self.log.clear();
            self.note_all();
        }
    }

    /// Notes that a watch is broken, or works again.
    pub fn mark_broken(&mut self, kind: Kind, broken: bool) {
        let changed = if broken {
            self.broken.insert(kind)
        } else {
            self.broken.remove(&kind)
        };
        if changed {
            self.note_all();
        }
    }

    /// Puts in a volume.
    pub fn apply_volume(&mut self, volume: Volume) {
        let (namespace, id) = (volume.name.namespace(), volume.id().to_owned());
        let entry = self.namespaces.entry(namespace.clone()).or_default();
        let volume = Arc::new(volume);
        let before = entry.volumes.insert(id.clone(), volume.clone());
        if before.as_ref().is_some_and(|old| *old == volume) {
            return;
        }
        let mut machines: BTreeSet<String> = entry.sites.get(&disk_name(&id)).cloned().unwrap_or_default();
        machines.extend(volume.attach_to.clone());
        machines.extend(before.and_then(|old| old.attach_to.clone()));
        self.note_volume(&namespace, &id, machines);
    }

    /// Takes out a volume.
    pub fn remove_volume(&mut self, namespace: &str, id: &str) {
        let Some(entry) = self.namespaces.get_mut(namespace) else {
            return;
        };
        let Some(old) = entry.volumes.remove(id) else { return };
        let mut machines = entry.sites.get(&disk_name(id)).cloned().unwrap_or_default();
        machines.extend(old.attach_to.clone());
        self.note_volume(namespace, id, machines);
        self.prune(namespace);
    }

    /// Puts in or takes out a claim.
    pub fn set_claim(&mut self, namespace: &str, id: &str, claim: Option<&Claim>) {
        let entry = self.namespaces.entry(namespace.to_owned()).or_default();
        let before = match claim {
            Some(claim) => entry.claims.insert(id.to_owned(), claim.clone()),
            None => entry.claims.remove(id),
        };
        if before.as_ref() != claim {
            self.note(Change::Volume(namespace.to_owned(), id.to_owned()));
        }
        self.prune(namespace);
    }

    /// Puts in or takes out a virtual machine.
    pub fn set_machine(&mut self, namespace: &str, id: &str, machine: Option<ObservedMachine>) {
        self.set_site(namespace, id, |entry| {
            let after = machine.clone();
            let before = match machine {
                Some(machine) => entry.machines.insert(id.to_owned(), machine),
                None => entry.machines.remove(id),
            };
            before != after
        });
    }

    /// Puts in or takes out a running instance.
    pub fn set_instance(&mut self, namespace: &str, id: &str, instance: Option<ObservedInstance>) {
        self.set_site(namespace, id, |entry| {
            let after = instance.clone();
            let before = match instance {
                Some(instance) => entry.instances.insert(id.to_owned(), instance),
                None => entry.instances.remove(id),
            };
            before != after
        });
    }

    fn set_site(&mut self, namespace: &str, id: &str, set: impl FnOnce(&mut Namespace) -> bool) {
        let entry = self.namespaces.entry(namespace.to_owned()).or_default();
        let mut disks = entry.disks_at(id);
        if !set(entry) {
            self.prune(namespace);
            return;
        }
        let after = entry.disks_at(id);
        for disk in disks.difference(&after) {
            let left = entry
                .sites
                .get_mut(disk)
                .is_some_and(|machines| machines.remove(id) && machines.is_empty());
            if left {
                entry.sites.remove(disk);
            }
        }
        for disk in &after {
            entry.sites.entry(disk.clone()).or_default().insert(id.to_owned());
        }
        disks.extend(after);
        let concerned =
            |volume: &&Arc<Volume>| volume.attach_to.as_deref() == Some(id) || disks.contains(&disk_name(volume.id()));
        let volumes: Vec<String> = entry
            .volumes
            .values()
            .filter(concerned)
            .map(|v| v.id().to_owned())
            .collect();
        self.note(Change::Machine(namespace.to_owned(), id.to_owned()));
        for volume in volumes {
            self.note(Change::Volume(namespace.to_owned(), volume));
        }
        self.prune(namespace);
    }

    fn prune(&mut self, namespace: &str) {
        let empty = |entry: &Namespace| {
            entry.volumes.is_empty()
                && entry.claims.is_empty()
                && entry.machines.is_empty()
                && entry.instances.is_empty()
        };
        if self.namespaces.get(namespace).is_some_and(empty) {
            self.namespaces.remove(namespace);
        }
    }

    fn note_volume(&mut self, namespace: &str, id: &str, machines: BTreeSet<String>) {
        self.note(Change::Volume(namespace.to_owned(), id.to_owned()));
        for machine in machines {
            self.note(Change::Machine(namespace.to_owned(), machine));
        }
    }

    fn note_all(&mut self) {
        for change in self.everything() {
            self.note(change);
        }
    }

    fn note(&mut self, change: Change) {
        self.number += 1;
        self.log.push_back(change);
        if self.log.len() > LOG {
            self.log.pop_front();
        }
    }

    /// Number of the newest change.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What changed after `number`, each once.
    pub fn since(&self, number: u64) -> Since {
        let behind = self.number.saturating_sub(number);
        let kept = self.log.len() as u64;
        if behind > kept || number > self.number {
            return Since::Lost(self.number);
        }
        let skip = usize::try_from(kept - behind).unwrap_or(usize::MAX);
        let changes: BTreeSet<Change> = self.log.iter().skip(skip).cloned().collect();
        Since::Changes(changes.into_iter().collect(), self.number)
    }

    /// Every volume and machine as a change, for readers that fell behind and for resyncs.
    pub fn everything(&self) -> Vec<Change> {
        let mut all = Vec::new();
        for (namespace, entry) in &self.namespaces {
            all.extend(
                entry
                    .volumes
                    .keys()
                    .map(|id| Change::Volume(namespace.clone(), id.clone())),
            );
            let machines: BTreeSet<&String> = entry.machines.keys().chain(entry.instances.keys()).collect();
            all.extend(
                machines
                    .into_iter()
                    .map(|id| Change::Machine(namespace.clone(), id.clone())),
            );
        }
        all
    }

    /// A volume.
    pub fn volume(&self, namespace: &str, id: &str) -> Option<Arc<Volume>> {
        self.namespaces.get(namespace)?.volumes.get(id).cloned()
    }

    /// The volumes of a cluster, by id.
    pub fn volumes(&self, namespace: &str) -> Vec<Arc<Volume>> {
        self.namespaces
            .get(namespace)
            .map(|entry| entry.volumes.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The claim of a volume.
    pub fn claim(&self, namespace: &str, id: &str) -> Option<&Claim> {
        self.namespaces.get(namespace)?.claims.get(id)
    }

    /// A virtual machine.
    pub fn machine(&self, namespace: &str, id: &str) -> Option<&ObservedMachine> {
        self.namespaces.get(namespace)?.machines.get(id)
    }

    /// A running instance.
    pub fn instance(&self, namespace: &str, id: &str) -> Option<&ObservedInstance> {
        self.namespaces.get(namespace)?.instances.get(id)
    }

    /// Objects that are watched, for the metrics: volumes and machines.
    pub fn sizes(&self) -> (usize, usize) {
        self.namespaces.values().fold((0, 0), |(v, m), entry| {
            (v + entry.volumes.len(), m + entry.machines.len())
        })
    }

    /// Where a volume is wanted or seen.
    pub fn sites(&self, volume: &Volume) -> Vec<Site> {
        let Some(entry) = self.namespaces.get(&volume.name.namespace()) else {
            return Vec::new();
        };
        let disk = disk_name(volume.id());
        let mut machines: BTreeSet<&str> = BTreeSet::new();
        machines.extend(volume.attach_to.as_deref());
        machines.extend(entry.sites.get(&disk).into_iter().flatten().map(String::as_str));
        machines.into_iter().map(|machine| entry.site(machine, &disk)).collect()
    }

    /// What is seen of a volume's attachment.
    pub fn attachment(&self, volume: &Volume) -> Attachment {
        let sites = self.sites(volume);
        if self.is_reliable() {
            return attachment::judge(volume, &sites);
        }
        // Where it was seen last: whoever asks what is on a machine must not be told "nothing".
        let last = sites.into_iter().find(Site::holds).map(|site| site.machine);
        Attachment {
            machine: last,
            ..Attachment::unknown("the infra cluster cannot be watched at present")
        }
    }
}

impl Namespace {
    fn disks_at(&self, machine: &str) -> BTreeSet<String> {
        let spec = self.machines.get(machine).into_iter().flat_map(|m| m.ours.keys());
        let instance = self.instances.get(machine).into_iter().flat_map(|i| i.disks.keys());
        spec.chain(instance).cloned().collect()
    }

    fn site(&self, machine: &str, disk: &str) -> Site {
        let vm = self.machines.get(machine).map(|m| SiteVm {
            has_disk: m.ours.contains_key(disk),
            deleting: m.deleting,
            going: m.going,
            refusal: m.refusal.clone(),
        });
        let instance = self.instances.get(machine).map(|i| SiteInstance {
            disk: i.disks.get(disk).cloned(),
            unreachable: i.unreachable,
            migrating: i.migrating,
        });
        Site {
            machine: machine.to_owned(),
            vm,
            instance,
        }
    }
}
