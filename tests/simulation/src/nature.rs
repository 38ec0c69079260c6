//! What moves by itself: KubeVirt, guests, tenants' controllers, and faults below.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use steading_lifecycle::{
    domain::machine::{MigrationState, NodeCordon},
    plan::evacuation::MachineKey,
};

use crate::{
    step::{Fault, Motion},
    world::{CLUSTERS, Instance, InstancePhase, NODES, Tenant, TenantNode, World, boots},
};

/// Moves one thing on; whether anything changed.
pub fn moves(world: &mut World, motion: Motion, which: u8) -> bool {
    match motion {
        Motion::KubeVirt => match machine_or_rest(world, which) {
            Some(key) => kubevirt(world, &key, which),
            None => false,
        },
        Motion::Guest => match world.any_machine(which) {
            Some(key) => guest(world, &key),
            None => false,
        },
        Motion::Pods => pods(world, CLUSTERS[usize::from(which) % CLUSTERS.len()]),
        Motion::Migration => migration(world, which),
        Motion::Arrival => false,
    }
}

/// Every thing on in turn; whether anything changed.
pub fn all(world: &mut World) -> bool {
    let mut changed = false;
    let mut keys: Vec<MachineKey> = world.objects.vms.keys().cloned().collect();
    keys.extend(world.objects.instances.keys().cloned());
    keys.sort();
    keys.dedup();
    for key in &keys {
        changed |= kubevirt(world, key, 0);
        changed |= guest(world, key);
    }
    for which in 0..8 {
        changed |= migration(world, which);
    }
    for namespace in CLUSTERS {
        changed |= pods(world, namespace);
    }
    changed
}

/// A machine, or an instance whose VirtualMachine is gone.
fn machine_or_rest(world: &World, which: u8) -> Option<MachineKey> {
    let rest = world
        .objects
        .instances
        .keys()
        .find(|key| !world.objects.vms.contains_key(key));
    rest.cloned().or_else(|| world.any_machine(which))
}

fn kubevirt(world: &mut World, key: &MachineKey, seed: u8) -> bool {
    let (now, vm) = (world.now, world.objects.vms.get(key).cloned());
    let Some(instance) = world.objects.instances.get(key).cloned() else {
        let Some(vm) = vm else { return false };
        if vm.terminating {
            if !vm.finalizer {
                world.vms().remove(key);
                return true;
            }
            return false;
        }
        let uid = world.number();
        world.instances().insert(
            key.clone(),
            Instance {
                uid,
                phase: InstancePhase::Scheduling,
                node: None,
                created: now,
                running_since: None,
                terminating: false,
                plugged: BTreeSet::new(),
                migrating: false,
                registered: false,
                marked: None,
            },
        );
        return true;
    };
    let ends = instance.terminating || vm.as_ref().is_none_or(|vm| vm.terminating);
    if ends {
        if instance.node.is_some_and(|node| world.objects.nodes[node].silent) {
            // Nobody can end what runs on a node that is silent.
            return false;
        }
        world.instances().remove(key);
        if let Some(node) = world.tenant(&key.namespace).nodes.get_mut(&key.machine)
            && node.ready
        {
            (node.ready, node.since) = (false, now);
        }
        return true;
    }
    match instance.phase {
        InstancePhase::Scheduling => {
            let Some(place) = world.place(None, usize::from(seed)) else {
                return false;
            };
            if let Some(instance) = world.instances().get_mut(key) {
                instance.node = Some(place);
                instance.phase = InstancePhase::Running;
                instance.running_since = Some(now);
            }
            true
        }
        InstancePhase::Running => {
            let Some(vm) = vm else { return false };
            let silent = instance.node.is_some_and(|node| world.objects.nodes[node].silent);
            if silent || instance.migrating || instance.plugged == vm.disks {
                return false;
            }
            if let Some(instance) = world.instances().get_mut(key) {
                instance.plugged = vm.disks;
            }
            true
        }
    }
}

fn guest(world: &mut World, key: &MachineKey) -> bool {
    let (now, vms) = (world.now, &world.objects.vms);
    let (Some(vm), Some(instance)) = (vms.get(key), world.objects.instances.get(key)) else {
        return false;
    };
    let silent = instance.node.is_some_and(|node| world.objects.nodes[node].silent);
    if instance.phase != InstancePhase::Running || instance.terminating || silent || !boots(vm.revision) {
        return false;
    }
    let tenant = world.tenant_now(&key.namespace);
    if tenant.silent || tenant.nodes.get(&key.machine).is_some_and(|node| node.ready) {
        return false;
    }
    if !tenant.nodes.contains_key(&key.machine) && instance.registered {
        // A kubelet registers when it starts; a Node that is deleted behind it stays away.
        return false;
    }
    if let Some(instance) = world.instances().get_mut(key) {
        instance.registered = true;
    }
    let nodes = &mut world.tenant(&key.namespace).nodes;
    let node = nodes.entry(key.machine.clone()).or_insert(TenantNode {
        ready: true,
        since: now,
        cordon: NodeCordon::None,
        uninitialized: true,
    });
    (node.ready, node.since) = (true, now);
    true
}

/// Workloads are placed on nodes that take them, and pods whose grace is over end.
fn pods(world: &mut World, namespace: &str) -> bool {
    let now = world.now;
    if world.tenant_now(namespace).silent {
        return false;
    }
    let mut changed = false;
    let silent_machines: Vec<String> = world
        .objects
        .instances
        .iter()
        .filter(|(_, one)| one.node.is_some_and(|node| world.objects.nodes[node].silent))
        .map(|(key, _)| key.machine.clone())
        .collect();
    let fresh = world.number();
    let tenant = world.tenant(namespace);
    let stuck = tenant.stuck;
    let nodes = tenant.nodes.clone();
    let before = tenant.pods.len();
    tenant.pods.retain(|pod| {
        let gone = pod.node.as_ref().is_some_and(|node| !nodes.contains_key(node));
        let silent = pod.node.as_ref().is_some_and(|node| silent_machines.contains(node));
        let over = pod.deletion.is_some_and(|end| end <= now);
        let ended = over && !stuck && !silent;
        !gone && !ended
    });
    changed |= tenant.pods.len() != before;
    let alive = tenant.pods.iter().filter(|pod| pod.deletion.is_none()).count();
    if alive < Tenant::REPLICAS {
        tenant.pods.push(crate::world::Pod {
            uid: fresh,
            node: None,
            deletion: None,
        });
        changed = true;
    }
    let mut load: Vec<(usize, String)> = nodes
        .iter()
        .filter(|(_, node)| node.ready && node.cordon == NodeCordon::None && !node.uninitialized)
        .map(|(name, _)| {
            (
                tenant.pods.iter().filter(|pod| pod.node.as_ref() == Some(name)).count(),
                name.clone(),
            )
        })
        .collect();
    load.sort();
    if let (Some((_, node)), Some(pod)) = (load.first(), tenant.pods.iter_mut().find(|pod| pod.node.is_none())) {
        pod.node = Some(node.clone());
        changed = true;
    }
    changed
}

/// KubeVirt carries on one migration.
fn migration(world: &mut World, which: u8) -> bool {
    let active: Vec<usize> = (0..world.objects.migrations.len())
        .filter(|at| world.objects.migrations[*at].state == MigrationState::Active)
        .collect();
    if active.is_empty() {
        // A migration that was deleted is aborted.
        let orphan = world
            .objects
            .instances
            .iter()
            .find(|(_, one)| one.migrating)
            .map(|(key, _)| key.clone());
        if let Some(instance) = orphan.and_then(|key| world.instances().get_mut(&key)) {
            instance.migrating = false;
            return true;
        }
        return false;
    }
    let at = active[usize::from(which) % active.len()];
    let key = world.objects.migrations[at].key.clone();
    let Some(instance) = world.objects.instances.get(&key).cloned() else {
        world.migrations()[at].state = MigrationState::Failed;
        return true;
    };
    if !instance.migrating {
        let Some(instance) = world.instances().get_mut(&key) else {
            return false;
        };
        instance.migrating = true;
        return true;
    }
    let target = world.place(instance.node, usize::from(which));
    let fails = world.migrations_fail || target.is_none() || instance.terminating;
    world.migrations()[at].state = if fails {
        MigrationState::Failed
    } else {
        MigrationState::Succeeded
    };
    if let Some(instance) = world.instances().get_mut(&key) {
        instance.migrating = false;
        if !fails {
            instance.node = target;
            instance.marked = None;
        }
    }
    true
}

/// Breaks something, or heals it.
pub fn fault(world: &mut World, fault: Fault, which: u8) {
    match fault {
        Fault::Tenant => {
            let tenant = world.tenant(CLUSTERS[usize::from(which) % CLUSTERS.len()]);
            tenant.silent = !tenant.silent;
        }
        Fault::Node => {
            let at = usize::from(which) % NODES.len();
            let node = &mut world.nodes()[at];
            node.silent = !node.silent;
        }
        Fault::Pods => {
            let tenant = world.tenant(CLUSTERS[usize::from(which) % CLUSTERS.len()]);
            tenant.stuck = !tenant.stuck;
        }
        Fault::Migrations => world.migrations_fail = !world.migrations_fail,
        Fault::Guest => {
            let now = world.now;
            if let Some(key) = world.any_machine(which)
                && let Some(node) = world.tenant(&key.namespace).nodes.get_mut(&key.machine)
                && node.ready
            {
                (node.ready, node.since) = (false, now);
            }
        }
    }
}

/// Ends every fault.
pub fn heal(world: &mut World) {
    world.migrations_fail = false;
    for namespace in CLUSTERS {
        let tenant = world.tenant(namespace);
        (tenant.silent, tenant.stuck) = (false, false);
    }
    for node in world.nodes() {
        node.silent = false;
    }
}

/// Lets time pass.
pub fn wait(world: &mut World, seconds: u16) {
    world.now += SignedDuration::from_secs(i64::from(seconds));
}
