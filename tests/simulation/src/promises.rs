//! What must never happen, and what must have happened in the end (DESIGN §9).

use std::collections::BTreeSet;

use steading_infra::{
    crd::maintenance::MaintenanceDesire,
    intent::{self, Action, Intent},
};
use steading_lifecycle::{
    domain::{
        machine::{MigrationState, NodeCordon},
        pool::Availability,
    },
    plan::{
        evacuation::MachineKey,
        maintenance::{
            State,
            budget::{PER_INFRA_NODE, PER_TENANT_CLUSTER},
        },
    },
};

use crate::{
    process::{Write, machine::may_end, pool},
    world::{CLUSTERS, NODES, World},
};

/// Checks a write right before it takes effect.
///
/// # Errors
/// The promise that it breaks.
pub fn before(world: &World, write: &Write) -> Result<(), String> {
    match write {
        Write::DeleteVm(key, read) => match world.objects.vms.get(key) {
            Some(vm) if *vm == **read => deletion(world, key),
            Some(_) | None => Ok(()),
        },
        Write::Finish(key, read) => match world.objects.vms.get(key) {
            Some(vm) if *vm == **read => finish(world, key),
            Some(_) | None => Ok(()),
        },
        Write::DeleteNode(key) => match world.objects.vms.get(key) {
            Some(vm) if !vm.terminating => Err(format!("the Node of {key}, which stays, is deleted")),
            Some(_) | None => Ok(()),
        },
        Write::EndInstance(key, uid, read) => {
            let same = world.objects.instances.get(key).is_some_and(|one| one.uid == *uid);
            let stays = world.objects.vms.get(key).is_some_and(|vm| !vm.terminating);
            // What is withdrawn after the last look is withdrawn too late: the request is on its way.
            let too_late = world.withdrawn.get(key).is_some_and(|at| at > read);
            if same && stays && !too_late && !may_end(world, key) {
                return Err(format!("{key} is restarted although nobody wants it"));
            }
            Ok(())
        }
        Write::UncordonInfraNode(at, by) if world.objects.nodes[*at].cordoned_by == *by => uncordon(world, *at),
        Write::GiveBackInfraNode(at, id) if world.objects.nodes[*at].cordoned_by.as_ref() == Some(id) => {
            match world.objects.maintenances.get(id) {
                Some(one) if !State::of(&one.status).is_final() => Ok(()),
                Some(_) | None => uncordon(world, *at),
            }
        }
        Write::ReleaseVolume(id, version) => {
            let current = world.objects.volumes.get(id).is_some_and(|(now, _)| now == version);
            match holders(world, id).into_iter().next() {
                Some(machine) if current => Err(format!("volume {id} is deleted while {machine} has it")),
                _ => Ok(()),
            }
        }
        Write::Annotate(key, changes) if world.calm => {
            removal(world, key, changes)?;
            leaving(world, key, changes)
        }
        Write::CreateMigration(migration) if world.calm => {
            let from = world.objects.node_of(&migration.key);
            let leaving = world
                .objects
                .migrations
                .iter()
                .filter(|one| one.state == MigrationState::Active && world.objects.node_of(&one.key) == from);
            if leaving.count() >= usize::try_from(PER_INFRA_NODE).unwrap_or_default() {
                return Err(format!(
                    "more machines than the budget allows leave the infra node of {}",
                    migration.key
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn deletion(world: &World, key: &MachineKey) -> Result<(), String> {
    let Some(vm) = world.objects.vms.get(key) else {
        return Ok(());
    };
    let intents = vm.intents();
    if !intents.iter().any(|one| one.action.deletes()) {
        return Err(format!("{key} is deleted although nobody wants it"));
    }
    if intents.iter().any(|one| one.action == Action::ForceDelete) {
        return Ok(());
    }
    let tenant = world.tenant_now(&key.namespace);
    let cordoned = tenant
        .nodes
        .get(&key.machine)
        .is_some_and(|node| node.cordon != NodeCordon::None);
    let left = tenant
        .pods
        .iter()
        .any(|pod| pod.node.as_deref() == Some(&key.machine) && pod.deletion.is_none());
    if cordoned && left {
        return Err(format!("{key} is deleted before its pods were evicted"));
    }
    if world
        .objects
        .instances
        .get(key)
        .is_some_and(|one| !one.plugged.is_empty())
    {
        return Err(format!("{key} is deleted while volumes are attached"));
    }
    Ok(())
}

fn finish(world: &World, key: &MachineKey) -> Result<(), String> {
    let Some(vm) = world.objects.vms.get(key) else {
        return Ok(());
    };
    if !vm.terminating {
        return Err(format!("{key}, which stays, loses its finalizer"));
    }
    if world.objects.instances.contains_key(key) {
        return Err(format!("{key} loses its finalizer while its instance runs"));
    }
    Ok(())
}

fn uncordon(world: &World, at: usize) -> Result<(), String> {
    let node = &world.objects.nodes[at];
    if !node.cordoned {
        return Ok(());
    }
    let Some(owner) = &node.cordoned_by else {
        return Err(format!("{} was cordoned by a person and is uncordoned", NODES[at].0));
    };
    let needs = |(id, one): (&String, &crate::world::Maintenance)| {
        let state = State::of(&one.status);
        id != owner
            && one.spec.infra_node == NODES[at].0
            && one.spec.desired_state == MaintenanceDesire::InMaintenance
            && one.status.cordon_time.is_some()
            && !one.deleting
            && !state.is_final()
            && state != State::Cancelling
    };
    match world.objects.maintenances.iter().find(|one| needs(*one)) {
        Some((id, _)) => Err(format!(
            "{} is uncordoned while maintenance {id} needs the cordon",
            NODES[at].0
        )),
        None => Ok(()),
    }
}

/// In fair weather a maintenance asks no machine that works to leave while as many of its cluster as the budget allows do not. Counted
/// from the Nodes alone, so that it holds whatever else takes a place.
fn leaving(world: &World, key: &MachineKey, changes: &[(String, Option<String>)]) -> Result<(), String> {
    let asks = |(name, value): &(String, Option<String>)| {
        let asked = Intent::parse(name, value.as_deref()?)?;
        let id = asked.owner.strip_prefix(intent::MAINTENANCE_PREFIX)?.to_owned();
        world.objects.maintenances.get(&id).map(|one| one.spec.budget.clone())
    };
    let Some(budget) = changes.iter().find_map(asks) else {
        return Ok(());
    };
    let objects = &world.objects;
    let is_moving = objects.vms.get(key).is_some_and(|vm| !vm.intents().is_empty())
        || objects.instances.get(key).is_some_and(|one| one.migrating)
        || objects
            .migrations
            .iter()
            .any(|one| one.key == *key && one.state == MigrationState::Active);
    let most = budget.max_concurrent_per_tenant_cluster.filter(|most| *most > 0);
    let most = most.unwrap_or(PER_TENANT_CLUSTER);
    let tenant = world.tenant_now(&key.namespace);
    let works = |name: &String| tenant.nodes.get(name).is_some_and(|node| node.ready);
    let idle = tenant.nodes.iter().filter(|(name, node)| {
        let exists = world
            .objects
            .vms
            .keys()
            .any(|other| other.namespace == key.namespace && other.machine == **name);
        exists && !node.ready && **name != key.machine
    });
    let idle = i32::try_from(idle.count()).unwrap_or(i32::MAX);
    let cordoned = tenant
        .nodes
        .get(&key.machine)
        .is_some_and(|node| node.cordon != NodeCordon::None);
    if works(&key.machine) && !cordoned && !is_moving && idle >= most {
        return Err(format!(
            "{key} is asked to leave although {idle} others of its cluster do not work"
        ));
    }
    Ok(())
}

/// In fair weather a pool never takes an available machine below its floor.
fn removal(world: &World, key: &MachineKey, changes: &[(String, Option<String>)]) -> Result<(), String> {
    let own = intent::key(Action::Delete, intent::POOL);
    let Some((_, Some(value))) = changes.iter().find(|(name, value)| *name == own && value.is_some()) else {
        return Ok(());
    };
    let at = crate::world::cluster_of(&key.namespace);
    let voluntary = value.contains("outdated") || value.contains("replaced");
    let machines = pool::machines(&world.objects, &world.objects, at, world.now);
    let is_available = |one: &&steading_lifecycle::plan::pool::PoolMachine| one.availability == Availability::Available;
    let this = machines.iter().filter(is_available).any(|one| one.name == key.machine);
    if !voluntary || !this {
        return Ok(());
    }
    let desired = pool::desired(&world.objects.pools[at]);
    let stays = machines
        .iter()
        .filter(is_available)
        .filter(|one| one.name != key.machine && one.termination == steading_lifecycle::plan::pool::Termination::None)
        .count();
    if stays + desired.unavailable() < desired.replicas {
        return Err(format!("{key} is replaced although only {stays} others are available"));
    }
    Ok(())
}

/// Machines in whose spec or guest a volume is; a VirtualMachine that terminates without an instance cannot start again.
fn holders(world: &World, id: &str) -> BTreeSet<String> {
    let objects = &world.objects;
    let here = |key: &&MachineKey| key.namespace == CLUSTERS[0];
    let specs = objects
        .vms
        .iter()
        .filter(|(key, vm)| vm.disks.contains(id) && (!vm.terminating || objects.instances.contains_key(*key)));
    let guests = objects.instances.iter().filter(|(_, one)| one.plugged.contains(id));
    specs
        .map(|(key, _)| key)
        .chain(guests.map(|(key, _)| key))
        .filter(here)
        .map(|key| key.machine.clone())
        .collect()
}

/// Checks the world after a step.
///
/// # Errors
/// The promise that is broken.
pub fn after(world: &World) -> Result<(), String> {
    for id in crate::world::VOLUMES {
        let on = holders(world, id);
        if on.len() > 1 {
            return Err(format!("volume {id} is on {on:?} at once"));
        }
    }
    Ok(())
}

/// What is not done yet although nothing stands in its way: `None` if everything is.
pub fn undone(world: &World) -> Option<String> {
    let objects = &world.objects;
    for (at, namespace) in CLUSTERS.iter().enumerate() {
        let desired = pool::desired(&objects.pools[at]);
        let machines = pool::machines(objects, objects, at, world.now);
        let revision = desired.revision.clone().unwrap_or_default();
        let good = machines
            .iter()
            .filter(|one| one.availability == Availability::Available && one.revision == revision);
        let (good, all) = (good.count(), machines.len());
        if good != desired.replicas || all != desired.replicas {
            return Some(format!(
                "pool {namespace} has {all} machines of which {good} are available and up to date, and wants {}",
                desired.replicas
            ));
        }
    }
    for (id, one) in objects.maintenances.iter() {
        if !State::of(&one.status).is_final() || (one.deleting && one.finalizer) {
            return Some(format!(
                "maintenance {id} is {:?}, wanted {:?}",
                one.status.phase, one.spec.desired_state
            ));
        }
    }
    for (at, node) in objects.nodes.iter().enumerate() {
        if node.cordoned {
            return Some(format!("{} stays cordoned by {:?}", NODES[at].0, node.cordoned_by));
        }
    }
    for (key, vm) in objects.vms.iter() {
        let left = vm.intents().into_iter().find(|one| one.owner != intent::API);
        if let Some(left) = left {
            return Some(format!(
                "{key} keeps the intent {} of {}",
                left.action.as_str(),
                left.owner
            ));
        }
        let node = world.tenant_now(&key.namespace).nodes.get(&key.machine);
        if node.is_some_and(|node| node.cordon == NodeCordon::Ours) || vm.drain_started.is_some() {
            return Some(format!("{key} stays cordoned although nobody wants it"));
        }
    }
    if let Some(one) = objects
        .migrations
        .iter()
        .find(|one| one.state == MigrationState::Active)
    {
        return Some(format!("migration {} does not end", one.name));
    }
    for (_, tenant) in CLUSTERS.iter().zip(objects.tenants.iter()) {
        let gone = |name: &&String| !objects.vms.keys().any(|key| key.machine == **name);
        if let Some(name) = tenant.nodes.keys().find(gone) {
            return Some(format!("the Node of {name} is left over"));
        }
    }
    undone_volumes(world)
}

fn undone_volumes(world: &World) -> Option<String> {
    for (id, (_, volume)) in world.objects.volumes.iter() {
        let on = holders(world, id);
        if volume.deleted.is_some() {
            return Some(format!("volume {id} is not deleted"));
        }
        let wanted = volume.wanted_on().filter(|machine| {
            let key = MachineKey {
                namespace: CLUSTERS[0].into(),
                machine: (*machine).to_owned(),
            };
            world.objects.vms.contains_key(&key)
        });
        let on: Vec<&str> = on.iter().map(String::as_str).collect();
        if on != wanted.into_iter().collect::<Vec<_>>() {
            return Some(format!("volume {id} is on {on:?} and wanted on {wanted:?}"));
        }
        if wanted.is_none() && volume.placement.is_some() {
            return Some(format!("volume {id} keeps the record {:?}", volume.placement));
        }
    }
    None
}
