//! Gathers what evacuations depend on: machines of an infra node, their tenants' budgets, where they could go.
//!
//! The infra cluster's side comes from the indexes. Tenants and scheduling are asked, at most once in [`FRESH`] for the same
//! question, and what does not answer is unknown.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
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
    kubevirt::{
        VirtualMachineInstance,
        migration::MigrationPhase,
        virtual_machine_instance::{MigrationState, VmiPhase, VolumePhase},
    },
    labels,
};
use steading_model::name::{InfraNodeName, MachineName};

use crate::{
    context::Context,
    plan::{
        evacuation::{
            Guest, Hotplug, MachineKey, Migratable, ObservedClusterState, ObservedMachine, ObservedPool,
            ObservedTenant, Surge, Target,
        },
        maintenance::Moving,
    },
};

/// How long an answer of a tenant or of scheduling is good for. Long against a pass (two a second at worst), short against a
/// pod's start.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
/// How long something that we began is counted although the indexes do not show it yet.
const SETTLING: SignedDuration = SignedDuration::from_secs(30);
/// Longest wait for a tenant's or scheduling's answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Objects in one answer of a tenant.
const MANY: u32 = 500;

type Targets = HashMap<String, Target>;

/// What maintenances asked others lately. May be forgotten at any moment.
#[derive(Debug, Default)]
pub struct EvacuationMemory {
    tenants: HashMap<(String, String), (Timestamp, ObservedTenant)>,
    targets: HashMap<String, (Timestamp, Option<Arc<Targets>>)>,
    begun: HashMap<MachineKey, Begun>,
}

/// A move that we began and that the indexes may not show yet.
#[derive(Debug, Clone)]
pub struct Begun {
    /// When.
    pub at: Timestamp,
    /// The infra node that is left.
    pub node: String,
    /// How.
    pub how: How,
}

/// How a move was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By live migration.
    Migration,
    /// By replacement.
    Replacement,
    /// By restart.
    Restart,
}

/// Notes that a move was begun.
pub fn remember(context: &Context, key: &MachineKey, node: &str, how: How) {
    let begun = Begun {
        at: context.clock.now(),
        node: node.to_owned(),
        how,
    };
    context.memory.lock().evacuations.begun.insert(key.clone(), begun);
}

/// What an infra node holds.
#[derive(Debug, Default)]
pub struct NodeSight {
    /// Our machines on it.
    pub machines: Vec<ObservedMachine>,
    /// VMIs on it that are not ours.
    pub unmanaged: Vec<String>,
    /// Whether scheduling said where they could go.
    pub capacity_known: bool,
}

/// Looks at an infra node; asks tenants and scheduling.
pub async fn observe_node(context: &Context, node: &str) -> NodeSight {
    let mut sight = NodeSight::default();
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
        machine.tenant = tenant_of(context, &key).await;
        if let (Some(targets), Some(name)) = (&targets, MachineName::from_object(&key.namespace, &key.machine)) {
            machine.target = targets.get(&name.to_string()).cloned().unwrap_or(Target::Unknown);
        }
        sight.machines.push(machine);
    }
    sight.machines.sort_by(|a, b| a.key.cmp(&b.key));
    sight
}

fn node_of(vmi: &VirtualMachineInstance) -> Option<&str> {
    vmi.status
        .as_ref()
        .and_then(|status| status.node_name.as_deref())
        .filter(|name| !name.is_empty())
}

/// The machine of a VMI; `None` if it is none of ours. Its tenant and target are unknown yet.
fn observe_machine(
    context: &Context,
    key: &MachineKey,
    vmi: &VirtualMachineInstance,
    node: &str,
) -> Option<ObservedMachine> {
    let observed = &context.observed;
    let vm = observed.vms.get(&key.namespace, &key.machine)?;
    let status = vmi.status.clone().unwrap_or_default();
    let annotation = |name: &str| vm.annotations().get(name).cloned();
    let cluster = observed.clusters.get("", &key.namespace);
    let migration = observed.migrations.list(&key.namespace).into_iter().any(|one| {
        one.spec.vmi_name == key.machine
            && !one
                .status
                .as_ref()
                .and_then(|s| s.phase.as_ref())
                .is_some_and(MigrationPhase::is_final)
    });
    let begun = context
        .memory
        .lock()
        .evacuations
        .begun
        .get(key)
        .filter(|begun| begun.node == node)
        .map(|begun| begun.how);
    let replace_requested = annotation(labels::REPLACE_REQUESTED);
    Some(ObservedMachine {
        key: key.clone(),
        instance_uid: vmi.uid().unwrap_or_default(),
        guest: match status.phase {
            Some(VmiPhase::Running | VmiPhase::Unknown) => Guest::Running,
            _ => Guest::NotRunning,
        },
        migratable: migratable_of(&status.conditions),
        hotplug: hotplug_of(&status.volume_status),
        migrating: migration
            || status
                .migration_state
                .as_ref()
                .is_some_and(MigrationState::is_under_way)
            || begun == Some(How::Migration),
        marked: status.evacuation_node_name.as_deref() == Some(node),
        going: vm.metadata.deletion_timestamp.is_some() || vm.annotations().contains_key(labels::DELETE_REQUESTED),
        replace_requested: replace_requested.or_else(|| (begun == Some(How::Replacement)).then(|| "begun".to_owned())),
        evacuation: annotation(labels::EVACUATION),
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
        replicas: pool.spec.replicas,
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
    let all = ListParams::default().limit(MANY);
    let budgets = match Api::<PodDisruptionBudget>::all(client.clone()).list(&all).await {
        Ok(budgets) => budgets.items,
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
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
    let here = ListParams::default()
        .fields(&format!("spec.nodeName={}", key.machine))
        .limit(MANY);
    let pods = Api::<Pod>::all(client).list(&here).await.ok()?.items;
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

/// Every machine that is on the move anywhere, with the infra node that it leaves.
pub fn observe_moving(context: &Context) -> Vec<Moving> {
    let (observed, now) = (&context.observed, context.clock.now());
    let mut moving: BTreeMap<MachineKey, String> = BTreeMap::new();
    for vm in observed.vms.all() {
        let wanted = [labels::REPLACE_REQUESTED, labels::EVACUATION]
            .iter()
            .any(|key| vm.annotations().contains_key(*key));
        if wanted {
            let key = MachineKey {
                namespace: vm.namespace().unwrap_or_default(),
                machine: vm.name_any(),
            };
            let vmi = observed.vmis.get(&key.namespace, &key.machine);
            let node = vmi.as_deref().and_then(node_of).unwrap_or_default().to_owned();
            moving.insert(key, node);
        }
    }
    for migration in observed.migrations.all() {
        let over = migration
            .status
            .as_ref()
            .and_then(|s| s.phase.as_ref())
            .is_some_and(MigrationPhase::is_final);
        let key = MachineKey {
            namespace: migration.namespace().unwrap_or_default(),
            machine: migration.spec.vmi_name.clone(),
        };
        if let Some(vmi) = observed.vmis.get(&key.namespace, &key.machine)
            && !over
        {
            moving.insert(key, node_of(&vmi).unwrap_or_default().to_owned());
        }
    }
    let mut memory = context.memory.lock();
    let begun = &mut memory.evacuations.begun;
    begun.retain(|key, begun| {
        let here = observed
            .vmis
            .get(&key.namespace, &key.machine)
            .as_deref()
            .and_then(node_of)
            == Some(begun.node.as_str());
        here && !is_shown(context, key, begun.how) && now.duration_since(begun.at) < SETTLING
    });
    for (key, begun) in begun.iter() {
        moving.insert(key.clone(), begun.node.clone());
    }
    moving.into_iter().map(|(key, node)| Moving { key, node }).collect()
}

/// Whether the indexes show what was begun, so that they alone tell from now on.
fn is_shown(context: &Context, key: &MachineKey, how: How) -> bool {
    let vm = context.observed.vms.get(&key.namespace, &key.machine);
    let annotated = |name: &str| vm.as_ref().is_some_and(|vm| vm.annotations().contains_key(name));
    match how {
        How::Migration => context.observed.migrations.list(&key.namespace).iter().any(|one| {
            one.spec.vmi_name == key.machine
                && one.labels().contains_key(labels::MAINTENANCE)
                && !one
                    .status
                    .as_ref()
                    .and_then(|s| s.phase.as_ref())
                    .is_some_and(|phase| matches!(phase, MigrationPhase::Succeeded))
        }),
        How::Replacement => annotated(labels::REPLACE_REQUESTED),
        How::Restart => annotated(labels::EVACUATION),
    }
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
