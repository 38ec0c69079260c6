//! Passes over all maintenances, as `steading_lifecycle::reconcile::maintenance` carries them out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use steading_infra::intent::{self, Intent};
use steading_lifecycle::{
    domain::machine::MigrationState,
    plan::{
        evacuation::{
            Asked, Guest, Hotplug, MachineKey, Migratable, ObservedClusterState, ObservedMachine, ObservedPool,
            ObservedTenant, Surge, Target, Way,
        },
        maintenance::{
            Action, Eviction, FailedMigrations, ObservedMaintenance, ObservedNode, PassInput, State, plan_pass,
        },
    },
};

use super::{Operation, Write, observe, write};
use crate::world::{NODES, Objects, SLOTS, cluster_of, node_number};

/// Plans from a view.
pub fn begin(view: &Objects, now: Timestamp) -> Vec<Operation> {
    let input = input(view, now);
    let plan = plan_pass(&input, now);
    let mut all: Vec<Write> = plan.actions.iter().flat_map(|action| writes(action, now)).collect();
    for outcome in plan.outcomes {
        let Some(seen) = view.maintenances.get(&outcome.name) else {
            continue;
        };
        let state = State::of(&outcome.status);
        // An end is stored when it is reached; only the finalizer goes last.
        let (before, after): (Vec<&Action>, Vec<&Action>) = outcome
            .actions
            .iter()
            .partition(|action| state.is_final() && !matches!(action, Action::Release { .. }));
        all.extend(before.into_iter().flat_map(|action| writes(action, now)));
        if outcome.status != seen.status {
            all.push(Write::StoreStatus(
                outcome.name.clone(),
                Box::new(outcome.status.clone()),
            ));
        }
        all.extend(after.into_iter().flat_map(|action| writes(action, now)));
    }
    all.into_iter().map(Operation::Write).collect()
}

fn writes(action: &Action, now: Timestamp) -> Vec<Write> {
    match action {
        Action::Hold { maintenance } => vec![Write::Hold(maintenance.clone())],
        Action::Release { maintenance } => vec![Write::Release(maintenance.clone())],
        Action::Cordon { node, maintenance } => node_number(node)
            .map(|at| Write::CordonInfraNode(at, maintenance.clone()))
            .into_iter()
            .collect(),
        Action::Uncordon { node, by } => node_number(node)
            .map(|at| Write::UncordonInfraNode(at, by.clone()))
            .into_iter()
            .collect(),
        Action::GiveBack { node, maintenance } => node_number(node)
            .map(|at| Write::GiveBackInfraNode(at, maintenance.clone()))
            .into_iter()
            .collect(),
        Action::Ask {
            key, owner, way, node, ..
        } => {
            let mut wanted = Intent::new(way.action(), owner, "maintenance", now);
            wanted.details.infra_node = Some(node.clone());
            let mut changes = without(owner, Some(*way));
            changes.push((wanted.key(), Some(wanted.value())));
            vec![Write::Annotate(key.clone(), changes)]
        }
        Action::Withdraw { key, owner } => vec![Write::Annotate(key.clone(), without(owner, None))],
        Action::CancelMark { key, .. } => vec![Write::CancelMark(key.clone())],
        Action::RefuseEviction { key, .. } => vec![
            write::clear(key, without(intent::EVICTION, None).into_iter().map(|(key, _)| key)),
            Write::CancelMark(key.clone()),
        ],
    }
}

/// The removal of every way of an owner but one.
fn without(owner: &str, but: Option<Way>) -> Vec<(String, Option<String>)> {
    [Way::Migrate, Way::Relocate, Way::Replace]
        .into_iter()
        .filter(|way| Some(*way) != but)
        .map(|way| (intent::key(way.action(), owner), None))
        .collect()
}

fn input(view: &Objects, now: Timestamp) -> PassInput {
    let mut input = PassInput {
        zones: observe::zones(),
        away: observe::away(view, None, now),
        capacity_known: NODES.iter().map(|(node, _)| (*node).to_owned()).collect(),
        ..PassInput::default()
    };
    for (id, one) in view.maintenances.iter() {
        let node = node_number(&one.spec.infra_node).map(|at| &view.nodes[at]);
        input.maintenances.push(ObservedMaintenance {
            name: id.clone(),
            spec: one.spec.clone(),
            status: one.status.clone(),
            generation: one.generation,
            deleting: one.deleting,
            finalizer: one.finalizer,
            node: node.map(|node| ObservedNode {
                cordoned: node.cordoned,
                cordoned_by: node.cordoned_by.clone(),
            }),
        });
    }
    for (at, node) in view.nodes.iter().enumerate() {
        if let Some(by) = node.cordoned_by.clone().filter(|_| node.cordoned) {
            input.cordons.insert(NODES[at].0.to_owned(), by);
        }
    }
    let mut evictions = Vec::new();
    for (key, instance) in view.instances.iter() {
        let (Some(at), Some(vm)) = (instance.node, view.vms.get(key)) else {
            continue;
        };
        input.locations.insert(key.clone(), NODES[at].0.to_owned());
        let whole = observe::machine(view, key, vm, now);
        let machine = observed(view, key, &whole, at);
        let asked = machine.asked.iter().any(|one| one.owner == intent::EVICTION);
        if (instance.marked == Some(at) || asked) && !view.nodes[at].cordoned {
            evictions.push(Eviction {
                node: NODES[at].0.to_owned(),
                machine: machine.clone(),
                failures: failures(view, key, intent::EVICTION),
            });
        }
        input.machines.entry(NODES[at].0.to_owned()).or_default().push(machine);
    }
    input.evictions = evictions;
    for (key, vm) in view
        .vms
        .iter()
        .filter(|(_, vm)| !vm.terminating && !vm.is_to_be_deleted())
    {
        let ids: Vec<String> = vm
            .intents()
            .iter()
            .filter_map(|one| one.maintenance().map(str::to_owned))
            .collect();
        for id in ids {
            let machines: &mut Vec<MachineKey> = input.asked.entry(id).or_default();
            if !machines.contains(key) {
                machines.push(key.clone());
            }
        }
    }
    input.failed = failed(view);
    input
}

fn failures(view: &Objects, key: &MachineKey, owner: &str) -> i32 {
    let failed = view
        .migrations
        .iter()
        .filter(|one| one.key == *key && one.state == MigrationState::Failed && one.owner.as_deref() == Some(owner));
    i32::try_from(failed.count()).unwrap_or(i32::MAX)
}

fn failed(view: &Objects) -> BTreeMap<(String, MachineKey), FailedMigrations> {
    let mut failed: BTreeMap<(String, MachineKey), FailedMigrations> = BTreeMap::new();
    for one in view.migrations.iter().filter(|one| one.state == MigrationState::Failed) {
        let id = one
            .owner
            .as_deref()
            .and_then(|owner| owner.strip_prefix(intent::MAINTENANCE_PREFIX));
        let Some(id) = id else { continue };
        let entry = failed
            .entry((id.to_owned(), one.key.clone()))
            .or_insert(FailedMigrations {
                count: 0,
                last: one.created,
            });
        entry.count += 1;
        entry.last = entry.last.max(one.created);
    }
    failed
}

fn observed(
    view: &Objects,
    key: &MachineKey,
    whole: &steading_lifecycle::domain::machine::ObservedMachine,
    at: usize,
) -> ObservedMachine {
    let instance = whole.instance.as_ref();
    let cluster = cluster_of(&key.namespace);
    let tenant = &view.tenants[cluster];
    let pool = &view.pools[cluster];
    ObservedMachine {
        key: key.clone(),
        instance_uid: instance.map(|one| one.uid.clone()).unwrap_or_default(),
        guest: match instance.is_some_and(|one| one.may_run()) {
            true => Guest::Running,
            false => Guest::NotRunning,
        },
        migratable: Migratable::Yes,
        hotplug: match instance.is_none_or(|one| one.hotplug_settled) {
            true => Hotplug::Settled,
            false => Hotplug::Unsettled(vec!["data".into()]),
        },
        migrating: whole.is_migrating(),
        marked: view.instances.get(key).and_then(|one| one.marked) == Some(at),
        terminating: whole.is_terminating(),
        asked: whole
            .intents
            .iter()
            .filter_map(|one| {
                let owner = one.owner.clone();
                Way::of(one.action).map(|way| Asked { way, owner })
            })
            .collect(),
        pool_name: "w".into(),
        cluster: ObservedClusterState::Active,
        pool: ObservedPool::Keeps {
            replicas: i32::try_from(pool.replicas).unwrap_or(i32::MAX),
            surge: if pool.max_surge > 0 {
                Surge::Allowed
            } else {
                Surge::Forbidden
            },
        },
        tenant: match tenant.silent {
            true => ObservedTenant::Unreachable,
            false => ObservedTenant::Reachable {
                exhausted_budgets: Vec::new(),
            },
        },
        target: target(view, at),
    }
}

/// Where scheduling says that a machine could go.
fn target(view: &Objects, from: usize) -> Target {
    let load = |at: usize| view.instances.values().filter(|one| one.node == Some(at)).count();
    let found = (0..NODES.len())
        .find(|at| *at != from && !view.nodes[*at].cordoned && !view.nodes[*at].silent && load(*at) < SLOTS);
    match found {
        Some(at) => Target::Found {
            node: NODES[at].0.to_owned(),
            zone: NODES[at].1.to_owned(),
        },
        None => Target::Nowhere("no other infra node takes machines".into()),
    }
}
