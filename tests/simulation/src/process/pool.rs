//! Passes over one pool, as `steading_lifecycle::reconcile::pool` carries them out: planned from the view, and again from reads.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use steading_infra::intent::{self, Action, Intent};
use steading_lifecycle::{
    domain::{
        machine::ObservedMachine,
        pool::{DesiredPool, Trigger},
    },
    plan::{
        disruption::Ledger,
        evacuation::MachineKey,
        pool::{PoolInput, PoolMachine, PoolPlan, Termination, moving_per_pool, plan_pool},
    },
};

use super::{
    Operation, Read, Write,
    observe::{self, PATIENCE},
    write,
};
use crate::world::{CLUSTERS, Objects, Pool, World};

/// What a pool wants.
pub fn desired(pool: &Pool) -> DesiredPool {
    DesiredPool {
        replicas: pool.most.map_or(pool.replicas, |most| most.min(pool.replicas)),
        revision: Some(format!("r{}", pool.revision)),
        trigger: Trigger::OnChange,
        paused: pool.paused,
        repair: true,
        max_surge: pool.max_surge,
        max_unavailable: pool.max_unavailable,
        most: pool.most,
        max_failures: 3,
    }
}

/// The machines of a pool, their VirtualMachines from `vms`, all else from the view.
pub fn machines(view: &Objects, vms: &Objects, at: usize, now: Timestamp) -> Vec<PoolMachine> {
    let namespace = CLUSTERS[at];
    let here = vms.vms.iter().filter(|(key, _)| key.namespace == namespace);
    here.map(|(key, vm)| pool_machine(&observe::machine(view, key, vm, now), now))
        .collect()
}

fn pool_machine(machine: &ObservedMachine, now: Timestamp) -> PoolMachine {
    let deletes = || machine.intents.iter().filter(|one| one.action.deletes());
    let termination = if machine.vm_terminating {
        Termination::Final
    } else if deletes().next().is_none() {
        Termination::None
    } else if deletes().all(|one| one.action == Action::Delete && one.owner == intent::POOL) {
        Termination::Revocable
    } else {
        Termination::Final
    };
    PoolMachine {
        name: machine.name.clone(),
        revision: machine.revision.clone(),
        availability: machine.availability(&PATIENCE, now),
        termination,
        replace: machine.wants(Action::Replace),
        infra_node: machine.infra_node().map(str::to_owned),
        created: machine.created,
        joined: machine
            .joined
            .or_else(|| machine.has_joined().then_some(machine.created)),
        deletion_cost: 0,
        trouble: String::new(),
    }
}

/// Decides about a pool.
pub fn decide(view: &Objects, vms: &Objects, at: usize, now: Timestamp) -> PoolPlan {
    let pool = &view.pools[at];
    let (desired, machines) = (desired(pool), machines(view, vms, at, now));
    let away = observe::away(view, Some(CLUSTERS[at]), now);
    let mut ledger = Ledger::new(&away, &BTreeMap::new());
    let input = PoolInput {
        namespace: CLUSTERS[at],
        pool: "w",
        desired: &desired,
        machines: &machines,
        failures: &pool.failures,
        moving_per_cluster: moving_per_pool(&desired),
    };
    plan_pool(&input, &mut ledger)
}

/// Plans from a view.
pub fn begin(view: &Objects, at: usize, now: Timestamp) -> Vec<Operation> {
    let plan = decide(view, view, at, now);
    if plan.is_empty() && plan.failures == view.pools[at].failures {
        return Vec::new();
    }
    vec![Operation::Read(Read::Pool(at))]
}

/// Plans from reads of the pool and its machines.
pub fn again(view: &Objects, world: &World, at: usize) -> Vec<Operation> {
    let truth = &world.objects;
    if truth.pools[at].generation != view.pools[at].generation {
        return Vec::new();
    }
    let plan = decide(view, truth, at, world.now);
    let namespace = CLUSTERS[at];
    let key = |machine: &str| MachineKey {
        namespace: namespace.to_owned(),
        machine: machine.to_owned(),
    };
    let mut all = Vec::new();
    if plan.failures != view.pools[at].failures {
        all.push(Write::StoreFailures(at, plan.failures.clone()));
    }
    let own = intent::key(Action::Delete, intent::POOL);
    all.extend(plan.revoke.iter().map(|one| write::clear(&key(one), [own.clone()])));
    for (machine, reason) in &plan.remove {
        let wanted = Intent::new(Action::Delete, intent::POOL, reason.as_str(), world.now);
        all.push(write::ask(&key(machine), &wanted));
    }
    if !view.tenants[at].silent {
        let made = names(truth, at, plan.create);
        all.extend(
            made.iter()
                .map(|name| Write::CreateVm(key(name), view.pools[at].revision)),
        );
    }
    all.into_iter().map(Operation::Write).collect()
}

/// Names follow from what exists, so that two who see the same make the same.
fn names(truth: &Objects, at: usize, count: usize) -> Vec<String> {
    let taken: BTreeSet<&str> = truth
        .vms
        .keys()
        .filter(|key| key.namespace == CLUSTERS[at])
        .map(|key| key.machine.as_str())
        .collect();
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in taken.iter().flat_map(|name| name.bytes().chain([0])) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (0..)
        .map(|number: u64| {
            let mixed = (state ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("w-{:04x}", mixed >> 48)
        })
        .filter(|name| !taken.contains(name.as_str()))
        .take(count)
        .collect()
}
