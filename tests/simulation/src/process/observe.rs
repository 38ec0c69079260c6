//! A view as the deciders take it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use steading_infra::intent::Intent;
use steading_lifecycle::{
    domain::machine::{ObservedInstance, ObservedMachine, ObservedMigration, ObservedNode, Patience},
    plan::{
        disruption::{Cause, Disruption},
        evacuation::MachineKey,
    },
};

use crate::world::{InstancePhase, NODES, Objects, Vm, cluster_of};

/// How patient every pool is: minutes, so that a history of hours shows all that follows.
pub const PATIENCE: Patience = Patience {
    join: SignedDuration::from_mins(5),
    unhealthy: SignedDuration::from_mins(3),
    min_ready: SignedDuration::ZERO,
};

/// A machine, its VirtualMachine as given, all else as the view shows it.
pub fn machine(view: &Objects, key: &MachineKey, vm: &Vm, now: Timestamp) -> ObservedMachine {
    let (expired, intents): (Vec<Intent>, Vec<Intent>) =
        vm.intents().into_iter().partition(|intent| intent.is_expired(now));
    let instance = view.instances.get(key);
    let tenant = &view.tenants[cluster_of(&key.namespace)];
    let node = match (tenant.silent, tenant.nodes.get(&key.machine)) {
        (true, _) => ObservedNode::Unknown,
        (false, None) => ObservedNode::Absent,
        (false, Some(node)) => ObservedNode::Present {
            ready: node.ready,
            since: Some(node.since),
            kubelet: "v1.36.0".into(),
            uninitialized: node.uninitialized,
            cordon: node.cordon,
        },
    };
    let mut migrations: Vec<ObservedMigration> = view
        .migrations
        .iter()
        .filter(|one| one.key == *key)
        .map(|one| ObservedMigration {
            name: one.name.clone(),
            owner: one.owner.clone(),
            state: one.state,
            created: one.created,
        })
        .collect();
    migrations.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    ObservedMachine {
        namespace: key.namespace.clone(),
        name: key.machine.clone(),
        pool: "w".into(),
        revision: format!("r{}", vm.revision),
        created: vm.created,
        vm_terminating: vm.terminating,
        intents,
        expired: expired.iter().map(Intent::key).collect(),
        drain_started: vm.drain_started,
        joined: vm.joined,
        deletion_cost: 0,
        printable: match instance {
            Some(one) if one.phase == InstancePhase::Running => "Running".into(),
            _ => "Starting".into(),
        },
        trouble: None,
        instance: instance.map(|one| observed_instance(view, vm, one)),
        node,
        migrations,
    }
}

fn observed_instance(view: &Objects, vm: &Vm, one: &crate::world::Instance) -> ObservedInstance {
    let silent = one.node.is_some_and(|node| view.nodes[node].silent);
    ObservedInstance {
        uid: one.uid.to_string(),
        phase: match one.phase {
            InstancePhase::Scheduling => "Scheduling".into(),
            InstancePhase::Running if silent => "Unknown".into(),
            InstancePhase::Running => "Running".into(),
        },
        ready: one.phase == InstancePhase::Running,
        terminating: one.terminating,
        created: Some(one.created),
        running_since: one.running_since,
        infra_node: one.node.map(|node| NODES[node].0.to_owned()),
        addresses: Vec::new(),
        migrating: one.migrating,
        migratable: true,
        hotplug_settled: one.plugged == vm.disks,
    }
}

/// Everything that is away in a view.
pub fn away(view: &Objects, namespace: Option<&str>, now: Timestamp) -> Vec<Disruption> {
    let here = view
        .vms
        .iter()
        .filter(|(key, _)| namespace.is_none_or(|one| one == key.namespace));
    here.map(|(key, vm)| machine(view, key, vm, now))
        .filter(ObservedMachine::is_away)
        .map(|one| Disruption {
            cause: if one.is_moving() { Cause::Moving } else { Cause::Away },
            node: one.infra_node().unwrap_or_default().to_owned(),
            key: MachineKey {
                namespace: one.namespace,
                machine: one.name,
            },
            pool: one.pool,
        })
        .collect()
}

/// The zones of the infra nodes.
pub fn zones() -> BTreeMap<String, String> {
    NODES
        .iter()
        .map(|(node, zone)| ((*node).to_owned(), (*zone).to_owned()))
        .collect()
}
