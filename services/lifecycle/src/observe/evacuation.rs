//! What evacuations depend on: machines of an infra node, their tenants' budgets, where they could go, and all that is away.
//!
//! The infra cluster's side comes from the indexes. Tenants and scheduling are asked, at most once in [`FRESH`] for the same
//! question and all at the same time, and what does not answer is unknown.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    core::{Selector, SelectorExt},
};
use steading_api::scheduling::v1::SimulateDrainRequest;
use steading_infra::{
    error::InfraError,
    intent::intents,
    kubevirt::{
        VirtualMachineInstance,
        virtual_machine_instance::{VmiPhase, VolumePhase},
    },
    labels,
};
use steading_model::name::{InfraNodeName, MachineName};

use super::{list::everything, machine::observe_machine as observe_whole};
use crate::{
    context::Context,
    domain,
    memory::{FRESH, Targets},
    plan::{
        disruption::{Cause, Disruption},
        evacuation::{
            Asked, Guest, Hotplug, MachineKey, Migratable, ObservedClusterState, ObservedMachine, ObservedPool,
            ObservedTenant, Surge, Target, Way,
        },
    },
};

/// Longest wait for a tenant's or scheduling's answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What an infra node holds.
#[derive(Debug, Default)]
pub struct ObservedInfraNode {
    /// Our machines on it.
    pub machines: Vec<ObservedMachine>,
    /// VMIs on it that are not ours.
    pub unmanaged: Vec<String>,
    /// Whether scheduling said where they could go.
    pub capacity_known: bool,
}

/// Looks at an infra node; asks tenants and scheduling.
pub async fn observe_node(context: &Context, node: &str) -> ObservedInfraNode {
    context.memory.lock().evacuations.prune(context.clock.now());
    let mut sight = ObservedInfraNode::default();
    let vmis: Vec<_> = context
        .observed
        .vmis
        .all()
        .into_iter()
        .filter(|vmi| node_of(vmi) == Some(node))
        .collect();
    if vmis.is_empty() {
        sight.capacity_known = true;
        return sight;
    }
    let targets = targets_of(context, node).await;
    sight.capacity_known = targets.is_some();
    for vmi in vmis {
        let (namespace, name) = (vmi.namespace().unwrap_or_default(), vmi.name_any());
        let key = MachineKey {
            namespace,
            machine: name,
        };
        let Some(mut machine) = observe_machine(context, &key, &vmi, node) else {
            sight.unmanaged.push(key.to_string());
            continue;
        };
        if let (Some(targets), Some(name)) = (&targets, MachineName::from_object(&key.namespace, &key.machine)) {
            machine.target = targets.get(&name.to_string()).cloned().unwrap_or(Target::Unknown);
        }
        sight.machines.push(machine);
    }
    // Side by side: a tenant that hangs costs one wait, not one for each of its machines.
    let tenants = join_all(sight.machines.iter().map(|machine| tenant_of(context, &machine.key))).await;
    for (machine, tenant) in sight.machines.iter_mut().zip(tenants) {
        machine.tenant = tenant;
    }
    sight.machines.sort_by(|a, b| a.key.cmp(&b.key));
    sight
}

/// The infra node of an instance.
pub fn node_of(vmi: &VirtualMachineInstance) -> Option<&str> {
    vmi.status
        .as_ref()
        .and_then(|status| status.node_name.as_deref())
        .filter(|name| !name.is_empty())
}

/// The machine of a VMI; `None` if it is not Steading's. Its tenant and target are unknown yet.
pub fn observe_machine(
    context: &Context,
    key: &MachineKey,
    vmi: &VirtualMachineInstance,
    node: &str,
) -> Option<ObservedMachine> {
    let observed = &context.observed;
    let vm = observed.vms.get(&key.namespace, &key.machine)?;
    let whole = observe_whole(observed, &vm, context.clock.now());
    let status = vmi.status.clone().unwrap_or_default();
    let cluster = observed.clusters.get("", &key.namespace);
    let asked = whole.intents.iter().filter_map(|intent| {
        let owner = intent.owner.clone();
        Way::of(intent.action).map(|way| Asked { way, owner })
    });
    Some(ObservedMachine {
        key: key.clone(),
        instance_uid: vmi.uid().unwrap_or_default(),
        guest: match status.phase {
            Some(VmiPhase::Running | VmiPhase::Unknown) => Guest::Running,
            _ => Guest::NotRunning,
        },
        migratable: migratable_of(&status.conditions),
        hotplug: hotplug_of(&status.volume_status),
        migrating: whole.is_migrating(),
        marked: status.evacuation_node_name.as_deref() == Some(node),
        terminating: whole.is_terminating(),
        asked: asked.collect(),
        pool_name: whole.pool.clone(),
        cluster: match &cluster {
            None => ObservedClusterState::Deleting,
            Some(cluster) if cluster.metadata.deletion_timestamp.is_some() => ObservedClusterState::Deleting,
            Some(cluster) if cluster.spec.paused => ObservedClusterState::Paused,
            Some(_) => ObservedClusterState::Active,
        },
        pool: pool_of(context, key, vm.labels().get(labels::POOL).map(String::as_str)),
        tenant: ObservedTenant::Unreachable,
        target: Target::Unknown,
    })
}

fn migratable_of(conditions: &[steading_infra::kubevirt::Condition]) -> Migratable {
    let Some(condition) = conditions.iter().find(|one| one.type_ == "LiveMigratable") else {
        return Migratable::Unknown;
    };
    match condition.status.as_str() {
        "True" => Migratable::Yes,
        "False" => Migratable::No {
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        },
        _ => Migratable::Unknown,
    }
}

fn hotplug_of(volumes: &[steading_infra::kubevirt::virtual_machine_instance::VolumeStatus]) -> Hotplug {
    let unsettled: Vec<String> = volumes
        .iter()
        .filter(|one| one.hotplug_volume.is_some() && one.phase != Some(VolumePhase::Ready))
        .map(|one| one.name.clone())
        .collect();
    if unsettled.is_empty() {
        Hotplug::Settled
    } else {
        Hotplug::Unsettled(unsettled)
    }
}

fn pool_of(context: &Context, key: &MachineKey, pool: Option<&str>) -> ObservedPool {
    let Some(pool) = pool.and_then(|pool| context.observed.pools.get(&key.namespace, pool)) else {
        return ObservedPool::None;
    };
    if pool.metadata.deletion_timestamp.is_some() {
        return ObservedPool::Deleting;
    }
    let forbidden = match &pool.spec.rollout.max_surge {
        Some(IntOrString::Int(count)) => *count <= 0,
        Some(IntOrString::String(text)) => matches!(text.as_str(), "0" | "0%"),
        None => false,
    };
    let surge = if forbidden { Surge::Forbidden } else { Surge::Allowed };
    ObservedPool::Keeps {
        replicas: pool
            .spec
            .replicas
            .or(pool.status.as_ref().and_then(|status| status.desired_replicas))
            .unwrap_or_default(),
        surge,
    }
}

/// Where scheduling says that the machines of a node could go.
async fn targets_of(context: &Context, node: &str) -> Option<Arc<Targets>> {
    let now = context.clock.now();
    if let Some((at, known)) = context.memory.lock().evacuations.targets.get(node)
        && now.duration_since(*at) < FRESH
    {
        return known.clone();
    }
    let fresh = ask_scheduling(context, node).await.map(Arc::new);
    context
        .memory
        .lock()
        .evacuations
        .targets
        .insert(node.to_owned(), (now, fresh.clone()));
    fresh
}

async fn ask_scheduling(context: &Context, node: &str) -> Option<Targets> {
    let name = format!("infraNodes/{node}");
    let mut client = context.peers.capacity();
    let call = client.simulate_drain(SimulateDrainRequest {
        name,
        also_drained: Vec::new(),
    });
    let answer = match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => {
            tracing::debug!(node, code = ?status.code(), message = status.message(), "scheduling does not say where machines could go");
            return None;
        }
        Err(_) => return None,
    };
    let target_of = |target: String, reason: String| match target.parse::<InfraNodeName>() {
        Ok(name) => {
            let node = name.object_name();
            let zone = context.observed.zone_of(&node).0.unwrap_or_default();
            Target::Found { node, zone }
        }
        Err(_) if target.is_empty() => Target::Nowhere(reason),
        Err(_) => Target::Unknown,
    };
    Some(
        answer
            .moves
            .into_iter()
            .map(|one| (one.machine, target_of(one.target, one.reason)))
            .collect(),
    )
}

/// What the tenant's API server says of the machine's node.
async fn tenant_of(context: &Context, key: &MachineKey) -> ObservedTenant {
    let (now, place) = (context.clock.now(), (key.namespace.clone(), key.machine.clone()));
    if let Some((at, known)) = context.memory.lock().evacuations.tenants.get(&place)
        && now.duration_since(*at) < FRESH
    {
        return known.clone();
    }
    let fresh = match tokio::time::timeout(ANSWER, ask_tenant(context, key)).await {
        Ok(Some(exhausted_budgets)) => ObservedTenant::Reachable { exhausted_budgets },
        Ok(None) | Err(_) => ObservedTenant::Unreachable,
    };
    context
        .memory
        .lock()
        .evacuations
        .tenants
        .insert(place, (now, fresh.clone()));
    fresh
}

/// Budgets that allow no disruption and select a pod on the node; `None` if the tenant does not answer.
async fn ask_tenant(context: &Context, key: &MachineKey) -> Option<Vec<String>> {
    let tenant = context
        .observed
        .tenant(&key.namespace)
        .filter(|tenant| tenant.is_reachable())?;
    let client = tenant.client()?;
    let budgets = Api::<PodDisruptionBudget>::all(client.clone());
    let budgets = match everything(&budgets, &ListParams::default()).await {
        Ok(budgets) => budgets,
        // A tenant without the kind has no budgets.
        Err(InfraError::NotFound(_)) => Vec::new(),
        Err(_) => return None,
    };
    let exhausted: Vec<_> = budgets
        .into_iter()
        .filter(|one| {
            one.status
                .as_ref()
                .is_some_and(|status| status.disruptions_allowed.unwrap_or(0) == 0)
        })
        .filter_map(|one| {
            let selector = one.spec.as_ref()?.selector.clone()?;
            Some((one.namespace()?, one.name_any(), Selector::try_from(selector).ok()?))
        })
        .collect();
    if exhausted.is_empty() {
        return Some(Vec::new());
    }
    let here = ListParams::default().fields(&format!("spec.nodeName={}", key.machine));
    let pods = everything::<Pod>(&Api::all(client), &here).await.ok()?;
    let on_node =
        |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(key.machine.as_str());
    let pods: Vec<&Pod> = pods.iter().filter(on_node).collect();
    let concerns = |namespace: &str, selector: &Selector| {
        pods.iter()
            .any(|pod| pod.namespace().as_deref() == Some(namespace) && selector.matches(pod.labels()))
    };
    Some(
        exhausted
            .iter()
            .filter(|(namespace, _, selector)| concerns(namespace, selector))
            .map(|(namespace, name, _)| format!("{namespace}/{name}"))
            .collect(),
    )
}

/// Every machine that is away or on the move in the given clusters, or anywhere: what the disruption ledger is filled from.
pub fn observe_away(context: &Context, namespace: Option<&str>) -> Vec<Disruption> {
    let (observed, now) = (&context.observed, context.clock.now());
    let vms = namespace.map_or_else(|| observed.vms.all(), |namespace| observed.vms.list(namespace));
    vms.iter()
        .map(|vm| observe_whole(observed, vm, now))
        .filter(domain::machine::ObservedMachine::is_away)
        .map(|machine| Disruption {
            cause: if machine.is_moving() {
                Cause::Moving
            } else {
                Cause::Away
            },
            node: machine.infra_node().unwrap_or_default().to_owned(),
            key: MachineKey {
                namespace: machine.namespace,
                machine: machine.name,
            },
            pool: machine.pool,
        })
        .collect()
}

/// Machines with intents of maintenances, by the maintenance's id; those that are being deleted are left out.
pub fn observe_asked(context: &Context) -> BTreeMap<String, Vec<MachineKey>> {
    let mut asked: BTreeMap<String, Vec<MachineKey>> = BTreeMap::new();
    for vm in context.observed.vms.all() {
        let found = intents(vm.annotations());
        let ends = vm.metadata.deletion_timestamp.is_some() || found.iter().any(|one| one.action.deletes());
        for id in found.iter().filter(|_| !ends).filter_map(|intent| intent.maintenance()) {
            let machines = asked.entry(id.to_owned()).or_default();
            let key = MachineKey {
                namespace: vm.namespace().unwrap_or_default(),
                machine: vm.name_any(),
            };
            if !machines.contains(&key) {
                machines.push(key);
            }
        }
    }
    asked
}

/// Where each of our running machines is.
pub fn locations(context: &Context) -> BTreeMap<MachineKey, String> {
    let ours = |vmi: &VirtualMachineInstance| {
        let key = MachineKey {
            namespace: vmi.namespace()?,
            machine: vmi.name_any(),
        };
        context.observed.vms.get(&key.namespace, &key.machine)?;
        Some((key, node_of(vmi)?.to_owned()))
    };
    context.observed.vmis.all().iter().filter_map(|vmi| ours(vmi)).collect()
}
