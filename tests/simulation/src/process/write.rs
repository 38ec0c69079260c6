//! Writes to API servers: what they test, and what they change.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use steading_infra::{crd::maintenance::MaintenanceStatus, intent};
use steading_lifecycle::{
    domain::machine::{MigrationState, NodeCordon},
    plan::{
        drain::{EvictionAttempts, EvictionRefusal},
        evacuation::MachineKey,
        maintenance::State,
        pool::Failures,
    },
};
use steading_storage::domain::placement::Placement;

use crate::world::{CLUSTERS, Migration, Objects, Vm, World, cluster_of};

/// Grace of every pod.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// A patch of a VirtualMachine's disks: what it tests, and what it does.
#[derive(Debug, Clone)]
pub struct Patch {
    /// The machine.
    pub key: MachineKey,
    /// Uid of the VirtualMachine that was read.
    pub uid: u64,
    /// Its fence.
    pub fence: u64,
    /// Its disks.
    pub disks: BTreeSet<String>,
    /// Claims to put on.
    pub attach: Vec<String>,
    /// Claims to take off.
    pub detach: Vec<String>,
}

/// One write.
#[derive(Debug, Clone)]
pub enum Write {
    /// Sets and removes annotations of a VirtualMachine.
    Annotate(MachineKey, Vec<(String, Option<String>)>),
    /// Notes when a drain began, or that it is over.
    DrainStarted(MachineKey, Option<Timestamp>),
    /// Notes that the guest joined.
    Joined(MachineKey, Timestamp),
    /// Makes a machine.
    CreateVm(MachineKey, u8),
    /// Deletes just the VirtualMachine that was read.
    DeleteVm(MachineKey, Box<Vm>),
    /// Takes the finalizer off just the machine that was read.
    Finish(MachineKey, Box<Vm>),
    /// Ends just this instance, for an intent that was read at a moment.
    EndInstance(MachineKey, u64, u64),
    /// Begins a migration.
    CreateMigration(Migration),
    /// Aborts a migration.
    DeleteMigration(String),
    /// Keeps pods off a tenant node.
    CordonNode(MachineKey),
    /// Lets pods on a tenant node again, if it is ours to do.
    UncordonNode(MachineKey),
    /// Takes the cloud provider's taint off a tenant node.
    InitializeNode(MachineKey),
    /// Deletes a tenant node.
    DeleteNode(MachineKey),
    /// Evicts a pod.
    Evict(MachineKey, u64),
    /// Deletes a pod without regard to budgets.
    ForceDelete(MachineKey, u64),
    /// Stores the failures of a pool.
    StoreFailures(usize, Failures),
    /// Cordons an infra node for a maintenance.
    CordonInfraNode(usize, String),
    /// Uncordons an infra node that is cordoned by just that one.
    UncordonInfraNode(usize, Option<String>),
    /// Uncordons an infra node that a maintenance cordoned which is over or does not exist.
    GiveBackInfraNode(usize, String),
    /// Puts the finalizer on a maintenance.
    Hold(String),
    /// Takes it off.
    Release(String),
    /// Stores the status of a maintenance.
    StoreStatus(String, Box<MaintenanceStatus>),
    /// Takes an eviction's mark back.
    CancelMark(MachineKey),
    /// Withdraws the wish that a volume be on a machine.
    Unwant(String, String),
    /// Writes or clears a placement record over a version.
    Record(String, u64, Option<Placement>),
    /// Patches the disks of a VirtualMachine.
    PatchDisks(Box<Patch>),
    /// Raises the fence of a VirtualMachine.
    RaiseFence(MachineKey, u64, u64),
    /// Lets a volume go over a version.
    ReleaseVolume(String, u64),
}

impl Write {
    /// Takes effect; `None` if the API server refuses it.
    pub(super) fn apply(
        &self,
        world: &mut World,
        attempts: Option<&mut BTreeMap<String, EvictionAttempts>>,
    ) -> Option<()> {
        let now = world.now;
        match self {
            Self::Annotate(key, changes) => {
                if changes.iter().any(|(_, value)| value.is_none()) {
                    world.withdraw(key);
                }
                if let Some(vm) = world.vms().get_mut(key) {
                    for (name, value) in changes {
                        match value {
                            Some(value) => vm.annotations.insert(name.clone(), value.clone()),
                            None => vm.annotations.remove(name),
                        };
                    }
                }
            }
            Self::DrainStarted(key, at) => {
                if let Some(vm) = world.vms().get_mut(key) {
                    vm.drain_started = *at;
                }
            }
            Self::Joined(key, at) => {
                if let Some(vm) = world.vms().get_mut(key) {
                    vm.joined = Some(*at);
                }
            }
            Self::CreateVm(key, revision) => {
                let uid = world.number();
                world.vms().entry(key.clone()).or_insert(Vm {
                    uid,
                    revision: *revision,
                    created: now,
                    terminating: false,
                    finalizer: true,
                    annotations: BTreeMap::new(),
                    drain_started: None,
                    joined: None,
                    disks: BTreeSet::new(),
                    fence: 0,
                });
            }
            Self::DeleteVm(key, read) => {
                let vm = world.vms().get_mut(key)?;
                if *vm != **read {
                    return None;
                }
                vm.terminating = true;
            }
            Self::Finish(key, read) => {
                let vm = world.vms().get_mut(key)?;
                if *vm != **read {
                    return None;
                }
                vm.finalizer = false;
            }
            Self::EndInstance(key, uid, _) => {
                let instance = world.instances().get_mut(key)?;
                if instance.uid == *uid {
                    instance.terminating = true;
                }
            }
            Self::CreateMigration(migration) => create_migration(world, migration)?,
            Self::DeleteMigration(name) => world.migrations().retain(|one| one.name != *name),
            Self::StoreFailures(at, failures) => world.pools()[*at].failures = failures.clone(),
            Self::CordonInfraNode(at, by) => {
                let node = &mut world.nodes()[*at];
                // What a person cordoned stays theirs.
                if !node.cordoned || node.cordoned_by.is_some() {
                    (node.cordoned, node.cordoned_by) = (true, Some(by.clone()));
                }
            }
            Self::UncordonInfraNode(at, by) => {
                let node = &mut world.nodes()[*at];
                if node.cordoned && node.cordoned_by == *by {
                    (node.cordoned, node.cordoned_by) = (false, None);
                }
            }
            Self::GiveBackInfraNode(at, id) => {
                let found = world.maintenances().get(id).map(|one| State::of(&one.status));
                let node = &mut world.nodes()[*at];
                let is_over = found.is_none_or(State::is_final);
                if is_over && node.cordoned && node.cordoned_by.as_ref() == Some(id) {
                    (node.cordoned, node.cordoned_by) = (false, None);
                }
            }
            Self::Hold(id) => world.maintenances().get_mut(id)?.finalizer = true,
            Self::Release(id) => {
                let one = world.maintenances().get_mut(id)?;
                one.finalizer = false;
                if one.deleting {
                    world.maintenances().remove(id);
                }
            }
            Self::StoreStatus(id, status) => world.maintenances().get_mut(id)?.status = (**status).clone(),
            Self::CancelMark(key) => {
                if let Some(instance) = world.instances().get_mut(key) {
                    instance.marked = None;
                }
            }
            Self::CordonNode(..)
            | Self::UncordonNode(..)
            | Self::InitializeNode(..)
            | Self::DeleteNode(..)
            | Self::Evict(..)
            | Self::ForceDelete(..) => self.apply_to_tenant(world, attempts)?,
            Self::Unwant(..)
            | Self::Record(..)
            | Self::PatchDisks(..)
            | Self::RaiseFence(..)
            | Self::ReleaseVolume(..) => {
                self.apply_to_volumes(world)?;
            }
        }
        Some(())
    }

    fn apply_to_tenant(
        &self,
        world: &mut World,
        attempts: Option<&mut BTreeMap<String, EvictionAttempts>>,
    ) -> Option<()> {
        let (now, namespace) = (world.now, self.tenant()?);
        let tenant = world.tenant(namespace);
        if tenant.silent {
            return None;
        }
        match self {
            Self::CordonNode(key) => {
                if let Some(node) = tenant.nodes.get_mut(&key.machine)
                    && node.cordon == NodeCordon::None
                {
                    node.cordon = NodeCordon::Ours;
                }
            }
            Self::UncordonNode(key) => {
                if let Some(node) = tenant.nodes.get_mut(&key.machine)
                    && node.cordon == NodeCordon::Ours
                {
                    node.cordon = NodeCordon::None;
                }
            }
            Self::InitializeNode(key) => {
                if let Some(node) = tenant.nodes.get_mut(&key.machine) {
                    node.uninitialized = false;
                }
            }
            Self::DeleteNode(key) => {
                tenant.nodes.remove(&key.machine);
            }
            Self::Evict(_, uid) => {
                let allowed = tenant.allows_disruption();
                let Some(pod) = tenant.pods.iter_mut().find(|pod| pod.uid == *uid) else {
                    return Some(());
                };
                if allowed {
                    pod.deletion = pod.deletion.or(Some(now + GRACE));
                }
                if let Some(attempts) = attempts {
                    note_attempt(attempts, *uid, allowed, now);
                }
            }
            Self::ForceDelete(_, uid) => {
                if let Some(pod) = tenant.pods.iter_mut().find(|pod| pod.uid == *uid) {
                    pod.deletion = pod.deletion.or(Some(now + GRACE));
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn apply_to_volumes(&self, world: &mut World) -> Option<()> {
        let number = world.number();
        let volume = |world: &mut World, id: &str, read: Option<u64>| {
            let (version, _) = world.volumes().get_mut(id)?;
            if read.is_some_and(|read| read != *version) {
                return None;
            }
            *version = number;
            Some(())
        };
        match self {
            Self::Unwant(id, machine) => {
                let wanted = world.objects.volumes.get(id)?.1.attach_to.as_deref() == Some(machine);
                if wanted {
                    volume(world, id, None)?;
                    world.volumes().get_mut(id)?.1.attach_to = None;
                }
            }
            Self::Record(id, read, record) => {
                volume(world, id, Some(*read))?;
                world.volumes().get_mut(id)?.1.placement.clone_from(record);
            }
            Self::PatchDisks(patch) => {
                let vm = world.vms().get_mut(&patch.key)?;
                if (vm.uid, vm.fence, &vm.disks) != (patch.uid, patch.fence, &patch.disks) {
                    return None;
                }
                vm.disks.extend(patch.attach.iter().cloned());
                for one in &patch.detach {
                    vm.disks.remove(one);
                }
                vm.fence += u64::from(!patch.detach.is_empty());
            }
            Self::RaiseFence(key, uid, fence) => {
                let vm = world.vms().get_mut(key)?;
                if (vm.uid, vm.fence) != (*uid, *fence) {
                    return None;
                }
                vm.fence += 1;
            }
            Self::ReleaseVolume(id, read) => {
                volume(world, id, Some(*read))?;
                world.volumes().remove(id);
            }
            _ => return None,
        }
        Some(())
    }

    fn tenant(&self) -> Option<&'static str> {
        match self {
            Self::CordonNode(key)
            | Self::UncordonNode(key)
            | Self::InitializeNode(key)
            | Self::DeleteNode(key)
            | Self::Evict(key, _)
            | Self::ForceDelete(key, _) => Some(CLUSTERS[cluster_of(&key.namespace)]),
            _ => None,
        }
    }

    /// Puts the reply of a write into the leader's view: its next decision may come before the watch's event.
    pub fn reply(&self, view: &mut Objects, world: &World) {
        let truth = &world.objects;
        match self {
            Self::Annotate(key, _) | Self::DrainStarted(key, _) | Self::Joined(key, _) => {
                if let Some(vm) = truth.vms.get(key) {
                    std::rc::Rc::make_mut(&mut view.vms).insert(key.clone(), vm.clone());
                }
            }
            Self::StoreStatus(id, _) => {
                if let Some(one) = truth.maintenances.get(id) {
                    std::rc::Rc::make_mut(&mut view.maintenances).insert(id.clone(), one.clone());
                }
            }
            Self::CordonInfraNode(at, _) | Self::UncordonInfraNode(at, _) | Self::GiveBackInfraNode(at, _) => {
                std::rc::Rc::make_mut(&mut view.nodes)[*at] = truth.nodes[*at].clone();
            }
            Self::StoreFailures(at, _) => {
                std::rc::Rc::make_mut(&mut view.pools)[*at] = truth.pools[*at].clone();
            }
            Self::Record(id, ..) => {
                if let Some(one) = truth.volumes.get(id) {
                    std::rc::Rc::make_mut(&mut view.volumes).insert(id.clone(), one.clone());
                }
            }
            _ => {}
        }
    }
}

fn create_migration(world: &mut World, migration: &Migration) -> Option<()> {
    // KubeVirt refuses a second migration of one machine.
    let active = |one: &Migration| one.key == migration.key && one.state == MigrationState::Active;
    if world.objects.migrations.iter().any(active) {
        return None;
    }
    let known = world
        .objects
        .migrations
        .iter()
        .position(|one| one.name == migration.name);
    match known {
        // One that brought the machine away before it came back makes room.
        Some(at) => {
            world.migrations().remove(at);
        }
        None => world.migrations().push(migration.clone()),
    }
    Some(())
}

fn note_attempt(attempts: &mut BTreeMap<String, EvictionAttempts>, uid: u64, allowed: bool, now: Timestamp) {
    let uid = uid.to_string();
    if allowed {
        attempts.remove(&uid);
        return;
    }
    let entry = attempts.entry(uid).or_insert(EvictionAttempts {
        refusals: 0,
        first: now,
        last: now,
        message: "the budget allows no disruption".into(),
        refusal: EvictionRefusal::Budget,
    });
    entry.refusals += 1;
    entry.last = now;
}

/// Removes intents by their keys.
pub fn clear(key: &MachineKey, keys: impl IntoIterator<Item = String>) -> Write {
    Write::Annotate(key.clone(), keys.into_iter().map(|key| (key, None)).collect())
}

/// Writes an intent.
pub fn ask(key: &MachineKey, wanted: &intent::Intent) -> Write {
    Write::Annotate(key.clone(), vec![(wanted.key(), Some(wanted.value()))])
}
