//! Passes over the volumes of one machine and over one volume, as `steading_storage::apply` carries them out.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use steading_lifecycle::plan::evacuation::MachineKey;
use steading_storage::{
    domain::{
        attachment::elsewhere,
        machine::{InstanceDisk, ObservedDisk, ObservedInstance, ObservedMachine},
        mark::disk_name,
        overhead::Overheads,
        placement::{Clearance, InstanceTrace, Trace, VmTrace, clearance},
        site::Site,
    },
    plan::{
        machine::{Concerned, MachineView, plan, record_for},
        volume::{VolumeAction, plan as plan_volume},
    },
};

use super::{
    operation::{Operation, Read},
    write::{Patch, Write},
};
use crate::world::{CLUSTERS, NODES, Objects, World};

/// A machine as objects show it.
fn site(objects: &Objects, key: &MachineKey) -> Site {
    let vm = objects.vms.get(key);
    let instance = objects.instances.get(key);
    let ours = |claim: &String| {
        let disk = ObservedDisk {
            claim: Some(claim.clone()),
            ours: true,
            bus: None,
        };
        (disk_name(claim), disk)
    };
    let shown = |claim: &String| {
        let disk = InstanceDisk {
            claim: Some(claim.clone()),
            hotplugged: true,
            phase: "Ready".into(),
            ..InstanceDisk::default()
        };
        (disk_name(claim), disk)
    };
    Site {
        machine: key.machine.clone(),
        vm: vm.map(|vm| {
            Arc::new(ObservedMachine {
                uid: vm.uid.to_string(),
                fence: vm.fence,
                deleting: vm.terminating,
                terminating: vm.terminating || vm.is_to_be_deleted(),
                settled: instance.is_none_or(|one| one.plugged == vm.disks),
                disks: vm.disks.iter().map(ours).collect(),
                ..ObservedMachine::default()
            })
        }),
        instance: instance.map(|one| {
            Arc::new(ObservedInstance {
                migrating: one.migrating,
                node: one.node.map(|node| NODES[node].0.to_owned()),
                disks: one.plugged.iter().map(shown).collect(),
                ..ObservedInstance::default()
            })
        }),
        node: None,
    }
}

/// Every machine on which a volume is wanted, recorded or seen.
fn sites(view: &Objects, id: &str) -> Vec<Site> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    if let Some((_, volume)) = view.volumes.get(id) {
        names.extend(volume.attach_to.clone());
        names.extend(volume.placement.as_ref().map(|record| record.machine.clone()));
    }
    for (key, vm) in view.vms.iter().filter(|(key, _)| key.namespace == CLUSTERS[0]) {
        if vm.disks.contains(id) {
            names.insert(key.machine.clone());
        }
    }
    for (key, one) in view.instances.iter().filter(|(key, _)| key.namespace == CLUSTERS[0]) {
        if one.plugged.contains(id) {
            names.insert(key.machine.clone());
        }
    }
    let key = |machine: &String| MachineKey {
        namespace: CLUSTERS[0].into(),
        machine: machine.clone(),
    };
    names.iter().map(|machine| site(view, &key(machine))).collect()
}

/// Reads the machine and plans: the volumes are those of the view.
pub fn begin(view: &Objects, world: &World, key: &MachineKey) -> Vec<Operation> {
    let site = site(&world.objects, key);
    let record = record_for(&site);
    let concerned = view.volumes.values().filter(|(_, volume)| {
        let recorded = volume.placement.as_ref().is_some_and(|one| one.machine == key.machine);
        volume.attach_to.as_deref() == Some(&key.machine) || recorded || site.holds(volume.id())
    });
    let volumes = concerned
        .map(|(_, volume)| {
            let other = elsewhere(volume, &sites(view, volume.id()), Some(&key.machine)).map(str::to_owned);
            Concerned {
                volume: Arc::new(volume.clone()),
                elsewhere: other,
            }
        })
        .collect();
    let planned = plan(&MachineView { site, volumes }, world.now);
    let version = |id: &str| view.volumes.get(id).map(|(version, _)| *version).unwrap_or_default();
    if !planned.clear.is_empty() {
        let volumes: Vec<(String, u64)> = planned.clear.iter().map(|id| (id.clone(), version(id))).collect();
        return clear(view, world, key, &volumes);
    }
    let Some(vm) = world.objects.vms.get(key) else {
        return Vec::new();
    };
    let mut all: Vec<Operation> = planned
        .record
        .iter()
        .map(|id| Operation::Write(Write::Record(id.clone(), version(id), record.clone())))
        .collect();
    let attach: Vec<String> = planned
        .attach
        .iter()
        .chain(&planned.retry)
        .map(|one| one.claim.clone())
        .collect();
    let detach: Vec<String> = planned.detach.iter().map(|one| one.volume.clone()).collect();
    if !attach.is_empty() || !detach.is_empty() {
        all.push(Operation::Read(Read::ConfirmDetach(Box::new(Patch {
            key: key.clone(),
            uid: vm.uid,
            fence: vm.fence,
            disks: vm.disks.clone(),
            attach,
            detach,
        }))));
    }
    all
}

/// Leaves out detaches of volumes that a read wants on the machine.
pub fn confirm(world: &World, mut patch: Patch) -> Vec<Operation> {
    let wanted = |id: &String| {
        let volume = world.objects.volumes.get(id).map(|(_, volume)| volume);
        volume.is_some_and(|volume| volume.wanted_on() == Some(&patch.key.machine))
    };
    let detach: Vec<String> = patch.detach.iter().filter(|id| !wanted(id)).cloned().collect();
    patch.detach = detach;
    if patch.attach.is_empty() && patch.detach.is_empty() {
        return Vec::new();
    }
    vec![Operation::Write(Write::PatchDisks(Box::new(patch)))]
}

/// Reads machine and instance, and clears the records of what they are seen without; the fence is raised first.
pub fn clear(view: &Objects, world: &World, key: &MachineKey, volumes: &[(String, u64)]) -> Vec<Operation> {
    let (vm, instance) = (world.objects.vms.get(key), world.objects.instances.get(key));
    let mut all = Vec::new();
    for (id, version) in volumes {
        let Some(record) = view.volumes.get(id).and_then(|(_, volume)| volume.placement.clone()) else {
            continue;
        };
        let trace = Trace {
            vm: vm.map(|vm| VmTrace {
                uid: vm.uid.to_string(),
                fence: vm.fence,
                shows: vm.disks.contains(id),
                deleting: vm.terminating,
                settled: instance.is_none_or(|one| one.plugged == vm.disks),
            }),
            instance: instance.map(|one| InstanceTrace {
                shows: one.plugged.contains(id),
            }),
        };
        match clearance(&record, &trace) {
            Clearance::Keep => {}
            Clearance::Clear => all.push(Operation::Write(Write::Record(id.clone(), *version, None))),
            Clearance::RaiseFence => {
                let Some(vm) = vm else { continue };
                return vec![
                    Operation::Write(Write::RaiseFence(key.clone(), vm.uid, vm.fence)),
                    Operation::Read(Read::Clear {
                        key: key.clone(),
                        volumes: volumes.to_vec(),
                    }),
                ];
            }
        }
    }
    all
}

/// Plans one volume from a view.
pub fn begin_volume(view: &Objects, id: &str, now: Timestamp) -> Vec<Operation> {
    let Some((version, volume)) = view.volumes.get(id) else {
        return Vec::new();
    };
    plan_volume(volume, None, &sites(view, id), &Overheads::default(), now)
        .into_iter()
        .filter_map(|action| match action {
            VolumeAction::Release => Some(Operation::Write(Write::ReleaseVolume(id.to_owned(), *version))),
            VolumeAction::Hold | VolumeAction::Expand(_) => None,
        })
        .collect()
}
