//! Passes over one machine, as `steading_lifecycle::reconcile::machine` carries them out.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use jiff::Timestamp;
use steading_infra::intent::Action;
use steading_lifecycle::{
    domain::machine::{MigrationState, NodeCordon, ObservedNode},
    plan::{
        drain::{
            Cordon, DetachWait, DrainInput, DrainPod, DrainPodKind, DrainPolicy, DrainStep, EvictionAttempts, Kubelet,
            ObservedDrainNode, plan_drain,
        },
        evacuation::MachineKey,
        machine::{AfterDrain, ClusterFate, MachineStep, is_ours_to_uncordon, plan_machine},
    },
};

use super::{Operation, Read, Write, observe, write};
use crate::world::{Migration, Objects, World};

/// Steps of a drain within one pass.
const ROUNDS: u8 = 4;

/// Plans from a view.
pub fn begin(view: &Objects, key: &MachineKey, now: Timestamp) -> Vec<Operation> {
    let Some(vm) = view.vms.get(key) else { return Vec::new() };
    let machine = observe::machine(view, key, vm, now);
    let writes = |all: Vec<Write>| all.into_iter().map(Operation::Write).collect::<Vec<_>>();
    match plan_machine(&machine, ClusterFate::Stays, now) {
        MachineStep::WaitForInstance | MachineStep::WaitForTenant | MachineStep::WaitToMigrate(_) => Vec::new(),
        step @ (MachineStep::Finish { .. } | MachineStep::DeleteVm | MachineStep::Restart { .. }) => {
            vec![confirmed(key, step)]
        }
        MachineStep::Drain(after) => match vm.drain_started {
            None => writes(vec![Write::DrainStarted(key.clone(), Some(now))]),
            Some(_) => vec![Operation::Read(Read::Drain {
                key: key.clone(),
                after,
                rounds: ROUNDS,
            })],
        },
        MachineStep::Clear(keys) => writes(vec![write::clear(key, keys)]),
        MachineStep::CancelMigration(name) => writes(vec![Write::DeleteMigration(name)]),
        MachineStep::Migrate {
            owner,
            attempt,
            instance,
        } => writes(vec![Write::CreateMigration(Migration {
            name: format!("{}-{owner}-{instance}-{attempt}", key.machine),
            key: key.clone(),
            owner: Some(owner),
            state: MigrationState::Active,
            created: now,
        })]),
        MachineStep::NoteInstance { key: intent, instance } => {
            let found = machine.intents.iter().find(|one| one.key() == intent).cloned();
            let noted = found.map(|mut one| {
                one.details.instance = Some(instance);
                write::ask(key, &one)
            });
            writes(noted.into_iter().collect())
        }
        MachineStep::Uncordon => {
            let ours = is_ours_to_uncordon(&machine.node).then(|| Write::UncordonNode(key.clone()));
            writes(
                ours.into_iter()
                    .chain([Write::DrainStarted(key.clone(), None)])
                    .collect(),
            )
        }
        MachineStep::Maintain => match machine.node {
            ObservedNode::Present {
                ready: true,
                uninitialized,
                ..
            } => {
                let mut all = Vec::new();
                if uninitialized {
                    all.push(Write::InitializeNode(key.clone()));
                }
                if vm.joined.is_none() {
                    all.push(Write::Joined(key.clone(), now));
                }
                writes(all)
            }
            ObservedNode::Present { .. } | ObservedNode::Absent | ObservedNode::Unknown => Vec::new(),
        },
    }
}

/// Reads the tenant and takes the next step of a drain; `None` if the tenant does not answer.
pub fn drain(
    view: &Objects,
    world: &World,
    key: &MachineKey,
    after: AfterDrain,
    rounds: u8,
    attempts: &BTreeMap<String, EvictionAttempts>,
) -> Option<Vec<Operation>> {
    let started = view.vms.get(key)?.drain_started?;
    let tenant = world.tenant_now(&key.namespace);
    if tenant.silent {
        return None;
    }
    let node = match tenant.nodes.get(&key.machine) {
        None => ObservedDrainNode::Gone,
        Some(node) => ObservedDrainNode::Present {
            cordon: match node.cordon {
                NodeCordon::None => Cordon::Schedulable,
                NodeCordon::Ours | NodeCordon::Others => Cordon::Cordoned,
            },
            kubelet: if node.ready {
                Kubelet::Reporting
            } else {
                Kubelet::Unreachable
            },
        },
    };
    let pods: Vec<DrainPod> = tenant
        .pods
        .iter()
        .filter(|pod| pod.node.as_deref() == Some(key.machine.as_str()))
        .map(|pod| DrainPod {
            namespace: "default".into(),
            name: format!("pod-{}", pod.uid),
            uid: pod.uid.to_string(),
            kind: DrainPodKind::Ordinary,
            deletion: pod.deletion,
            grace: Some(Duration::from_secs(30)),
        })
        .collect();
    let input = DrainInput {
        node,
        pods,
        attached_volumes: Vec::new(),
        attempts: attempts.clone(),
        policy: DrainPolicy {
            detach: match after {
                AfterDrain::Delete => DetachWait::Wait,
                AfterDrain::Stay | AfterDrain::Restart(_) => DetachWait::Skip,
            },
            ..DrainPolicy::default()
        },
        started,
        detaching_since: None,
    };
    let uid = |at: usize| input.pods[at].uid.parse().unwrap_or_default();
    let mut next: Vec<Operation> = match plan_drain(&input, world.now) {
        DrainStep::Cordon => vec![Operation::Write(Write::CordonNode(key.clone()))],
        DrainStep::Evict(chosen) => {
            let evict = |at| Operation::Write(Write::Evict(key.clone(), uid(at)));
            chosen.into_iter().map(evict).collect()
        }
        DrainStep::ForceDelete(chosen) => {
            let delete = |at| Operation::Write(Write::ForceDelete(key.clone(), uid(at)));
            chosen.into_iter().map(delete).collect()
        }
        DrainStep::WaitPods { .. } | DrainStep::WaitDetach { .. } | DrainStep::Stalled { .. } => {
            return Some(Vec::new());
        }
        DrainStep::Done(_) => {
            return Some(match after {
                AfterDrain::Stay => Vec::new(),
                AfterDrain::Restart(_) => vec![confirmed(key, MachineStep::Drain(after))],
                AfterDrain::Delete => vec![Operation::Read(Read::Detach(key.clone()))],
            });
        }
    };
    if rounds > 0 {
        next.push(Operation::Read(Read::Drain {
            key: key.clone(),
            after,
            rounds: rounds - 1,
        }));
    }
    Some(next)
}

/// Asks storage to take everything off; the deletion follows once nothing is on.
pub fn detach(world: &World, key: &MachineKey) -> Vec<Operation> {
    let concerned = world
        .objects
        .volumes
        .values()
        .map(|(_, volume)| volume)
        .filter(|volume| {
            let wanted = volume.attach_to.as_deref() == Some(&key.machine);
            wanted
                || volume
                    .placement
                    .as_ref()
                    .is_some_and(|record| record.machine == key.machine)
        });
    let unwant: Vec<Operation> = concerned
        .map(|volume| Operation::Write(Write::Unwant(volume.id().to_owned(), key.machine.clone())))
        .collect();
    if unwant.is_empty() || key.namespace != crate::world::CLUSTERS[0] {
        return vec![confirmed(key, MachineStep::Drain(AfterDrain::Delete))];
    }
    unwant
}

/// A step that is decided again before it is taken.
fn confirmed(key: &MachineKey, step: MachineStep) -> Operation {
    Operation::Read(Read::Confirm { key: key.clone(), step })
}

/// Reads the machine, and its instance where that must be gone, and plans again: nothing is done if anything else is to be done now.
pub fn confirm(view: &mut Objects, world: &World, key: &MachineKey, step: &MachineStep) -> Vec<Operation> {
    let Some(vm) = world.objects.vms.get(key) else {
        return Vec::new();
    };
    if view.vms.get(key).is_none_or(|seen| seen.uid != vm.uid) {
        return Vec::new();
    }
    Rc::make_mut(&mut view.vms).insert(key.clone(), vm.clone());
    let mut now = view.clone();
    if matches!(step, MachineStep::Finish { .. }) {
        let instances = Rc::make_mut(&mut now.instances);
        match world.objects.instances.get(key) {
            Some(instance) => {
                instances.insert(key.clone(), instance.clone());
                Rc::make_mut(&mut view.instances).insert(key.clone(), instance.clone());
            }
            None => drop(instances.remove(key)),
        }
    }
    let machine = observe::machine(&now, key, vm, world.now);
    if plan_machine(&machine, ClusterFate::Stays, world.now) != *step {
        return Vec::new();
    }
    let all = match step {
        MachineStep::DeleteVm | MachineStep::Drain(AfterDrain::Delete) => {
            vec![Write::DeleteVm(key.clone(), Box::new(vm.clone()))]
        }
        MachineStep::Restart { instance } | MachineStep::Drain(AfterDrain::Restart(instance)) => {
            let uid = instance.parse().unwrap_or_default();
            vec![Write::EndInstance(key.clone(), uid, world.moment)]
        }
        MachineStep::Finish { .. } => {
            // Also if none is seen: it may have registered a moment ago.
            let finish = Write::Finish(key.clone(), Box::new(vm.clone()));
            vec![Write::DeleteNode(key.clone()), finish]
        }
        _ => Vec::new(),
    };
    all.into_iter().map(Operation::Write).collect()
}

/// Whether an instance of this uid may be ended.
pub fn may_end(world: &World, key: &MachineKey) -> bool {
    let Some(vm) = world.objects.vms.get(key) else {
        return true;
    };
    vm.intents()
        .iter()
        .any(|one| matches!(one.action, Action::Relocate | Action::Restart))
}
