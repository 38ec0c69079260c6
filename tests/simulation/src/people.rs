//! What people and programs wish, through the API or with kubectl.

use std::collections::BTreeMap;

use jiff::Timestamp;
use steading_infra::{
    crd::maintenance::{MaintenanceDesire, MaintenanceSpec, MaintenanceStatus, MaintenanceStrategy},
    intent::{API, Action, Intent},
};
use steading_lifecycle::{domain::machine::NodeCordon, plan::maintenance::State};
use steading_model::{name::VolumeName, quantity::Quantity};
use steading_storage::domain::volume::{AccessMode, Bus, ReclaimPolicy, Source, Stage, Volume, VolumeMode};

use crate::{
    step::Wish,
    world::{CLUSTERS, Maintenance, NODES, VOLUMES, World},
};

/// Actions that are wished through the API.
const ACTIONS: [Action; 5] = [
    Action::Replace,
    Action::Drain,
    Action::Restart,
    Action::Delete,
    Action::ForceDelete,
];
/// Maintenances that there can be at once; two of one infra node are possible.
const MAINTENANCES: [&str; 3] = ["m1", "m2", "m3"];

/// Writes a wish down.
pub fn wish(world: &mut World, wish: Wish, which: u8, how: u8) {
    match wish {
        Wish::Scale | Wish::Template | Wish::Pause | Wish::Quota => pool(world, wish, which, how),
        Wish::Intent | Wish::Withdraw => machine(world, wish, which, how),
        Wish::Maintenance | Wish::EndMaintenance => maintenance(world, wish, which, how),
        Wish::Cordon => cordon(world, which, how),
        Wish::Attach | Wish::Detach | Wish::DeleteVolume => volume(world, wish, which, how),
        Wish::DeleteByHand => {
            let Some(key) = world.any_machine(which) else { return };
            if how.is_multiple_of(2) {
                // The finalizer holds what is deleted with kubectl.
                let now = world.now;
                if let Some(vm) = world.vms().get_mut(&key) {
                    let intent = Intent::new(Action::Delete, "me", "by hand", now);
                    vm.annotations.insert(intent.key(), intent.value());
                }
            } else {
                world.tenant(&key.namespace).nodes.remove(&key.machine);
            }
        }
        Wish::Evict => {
            let Some(key) = world.any_machine(which) else { return };
            if let Some(instance) = world.instances().get_mut(&key) {
                instance.marked = instance.node;
            }
        }
    }
}

fn pool(world: &mut World, wish: Wish, which: u8, how: u8) {
    let at = usize::from(which) % CLUSTERS.len();
    let pool = &mut world.pools()[at];
    pool.generation += 1;
    match wish {
        Wish::Scale => pool.replicas = usize::from(how) % 4,
        Wish::Template => pool.revision = how % 6,
        Wish::Pause => pool.paused = !pool.paused,
        _ => pool.most = (!how.is_multiple_of(3)).then(|| usize::from(how) % 5),
    }
    if wish == Wish::Template {
        pool.max_surge = usize::from(how / 6) % 2;
        pool.max_unavailable = usize::from(pool.max_surge == 0 || how.is_multiple_of(2));
    }
}

fn machine(world: &mut World, wish: Wish, which: u8, how: u8) {
    let (now, key) = (world.now, world.any_machine(which));
    let Some(key) = key else { return };
    if wish == Wish::Withdraw {
        world.withdraw(&key);
    }
    let Some(vm) = world.vms().get_mut(&key) else {
        return;
    };
    let intent = Intent::new(ACTIONS[usize::from(how) % ACTIONS.len()], API, "because", now);
    match wish {
        Wish::Intent => {
            vm.annotations.insert(intent.key(), intent.value());
        }
        _ => {
            // The API does not revoke a deletion.
            if !intent.action.deletes() {
                vm.annotations.remove(&intent.key());
            }
        }
    }
}

fn maintenance(world: &mut World, wish: Wish, which: u8, how: u8) {
    let id = MAINTENANCES[usize::from(which) % MAINTENANCES.len()];
    let node = NODES[usize::from(how) % NODES.len()].0;
    let maintenances = world.maintenances();
    match (wish, maintenances.get_mut(id)) {
        (Wish::Maintenance, Some(old)) if State::of(&old.status).is_final() && !old.finalizer => {
            maintenances.remove(id);
        }
        (Wish::Maintenance, Some(old)) => {
            if old.spec.desired_state == MaintenanceDesire::Planned {
                old.spec.desired_state = MaintenanceDesire::InMaintenance;
                old.generation += 1;
            }
        }
        (Wish::Maintenance, None) => {
            let spec = MaintenanceSpec {
                infra_node: node.into(),
                desired_state: if how.is_multiple_of(4) {
                    MaintenanceDesire::Planned
                } else {
                    MaintenanceDesire::InMaintenance
                },
                strategy: match how % 5 {
                    0 => MaintenanceStrategy::MigrateOnly,
                    1 => MaintenanceStrategy::ReplaceOnly,
                    _ => MaintenanceStrategy::MigrateOrReplace,
                },
                ..MaintenanceSpec::default()
            };
            maintenances.insert(
                id.into(),
                Maintenance {
                    spec,
                    status: MaintenanceStatus::default(),
                    generation: 1,
                    deleting: false,
                    finalizer: false,
                },
            );
        }
        (_, Some(old)) => match how % 3 {
            0 => {
                old.spec.desired_state = MaintenanceDesire::Cancelled;
                old.generation += 1;
            }
            1 => {
                old.spec.desired_state = MaintenanceDesire::Completed;
                old.generation += 1;
            }
            _ => old.deleting = true,
        },
        (_, None) => {}
    }
    world.maintenances().retain(|_, one| !one.deleting || one.finalizer);
}

fn cordon(world: &mut World, which: u8, how: u8) {
    if how.is_multiple_of(2) {
        let at = usize::from(which) % NODES.len();
        let node = &mut world.nodes()[at];
        node.cordoned = !node.cordoned;
        if !node.cordoned {
            node.cordoned_by = None;
        }
        return;
    }
    let Some(key) = world.any_machine(which) else { return };
    if let Some(node) = world.tenant(&key.namespace).nodes.get_mut(&key.machine) {
        node.cordon = match node.cordon {
            NodeCordon::None => NodeCordon::Others,
            NodeCordon::Ours | NodeCordon::Others => NodeCordon::None,
        };
    }
}

fn volume(world: &mut World, wish: Wish, which: u8, how: u8) {
    let id = VOLUMES[usize::from(which) % VOLUMES.len()];
    let (now, number) = (world.now, world.number());
    let machines: Vec<String> = world
        .objects
        .vms
        .iter()
        .filter(|(key, vm)| key.namespace == CLUSTERS[0] && !vm.terminating && !vm.is_to_be_deleted())
        .map(|(key, _)| key.machine.clone())
        .collect();
    let Some((version, volume)) = world.volumes().get_mut(id) else {
        if wish == Wish::Attach
            && let Some(volume) = make_volume(id, number)
        {
            world.volumes().insert(id.into(), (number, volume));
        }
        return;
    };
    match wish {
        // The service refuses what is wanted or recorded elsewhere.
        Wish::Attach if volume.attach_to.is_none() && volume.placement.is_none() && volume.deleted.is_none() => {
            if machines.is_empty() {
                return;
            }
            volume.attach_to = machines.get(usize::from(how) % machines.len()).cloned();
        }
        Wish::Detach => volume.attach_to = None,
        Wish::DeleteVolume => volume.deleted = volume.deleted.or(Some(now)),
        _ => return,
    }
    *version = number;
}

fn make_volume(id: &str, number: u64) -> Option<Volume> {
    let cluster = "projects/shop/clusters/a".parse().ok()?;
    Some(Volume {
        name: VolumeName::new(cluster, id.parse().ok()?),
        uid: format!("{number:08x}-0000-4000-8000-000000000000"),
        version: "1".into(),
        created: Some(Timestamp::UNIX_EPOCH),
        updated: None,
        deleted: None,
        held: true,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        class: "fast".into(),
        infra_class: "ceph".into(),
        size: Quantity::from_bytes(1 << 30),
        made: Quantity::from_bytes(1 << 30),
        access_mode: AccessMode::ReadWriteOnce,
        volume_mode: VolumeMode::Block,
        source: Source::Blank,
        bus: Bus::Scsi,
        reclaim: ReclaimPolicy::Delete,
        zones: Vec::new(),
        attach_to: None,
        placement: None,
        attach_refusal: None,
        expand_refusal: None,
        stage: Stage::Ready,
        message: String::new(),
        progress: 100,
    })
}
