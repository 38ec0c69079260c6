//! One machine pool: accept, render, plan, make and remove machines, report.
//!
//! The plan is made from the cache. If it wants to make or remove anything it is made again from a read of the API server, so that
//! a cache that is behind never makes a machine too many or removes one too many; names follow from that read.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, MachinePool, cluster::BootstrapKind, machine_pool::MachinePoolStatus},
    error::InfraError,
    kubevirt::VirtualMachine,
    labels, list,
};

use super::{Outcome, quota};
use crate::{
    apply::{
        machine::{create_machine, request_delete},
        render::{self, PoolPlace},
        status::{set_condition, truth},
    },
    context::Context,
    domain::{
        bootstrap::{check_custom, short_hash},
        machine::ObservedMachine,
        pool::{Availability, PoolWish, validate},
        rendering::Rendering,
        version::check_skew,
    },
    error::Error,
    observe::machine::{observe_machine, patience_of},
    plan::pool::{PoolMachine, PoolPlan, RemoveReason, plan_pool, will_go},
};

/// Machines made at once.
const PARALLEL: usize = 8;
/// Machines made before looking again, so that a scale-down in between is seen soon.
const BATCH: usize = 64;
/// How old a resolved placement may be when machines are made by it.
const PLACEMENT_AGE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
/// How long to wait for what has no signal of its own: readiness over time, joins that never come.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Reason of a pool whose Kubernetes version does not go with its cluster's.
const SKEW: &str = "VersionSkew";

/// Why a pool is not worked on.
type Refusal = (&'static str, String);

/// Looks at one pool.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Outcome, Error> {
    let Some(pool) = context.observed.pools.get(namespace, name) else {
        context
            .memory
            .lock()
            .renderings
            .remove(&(namespace.to_owned(), name.to_owned()));
        return Ok(Outcome::Settled);
    };
    let api = context.namespaced::<MachinePool>(namespace);
    if pool.meta().deletion_timestamp.is_some() {
        return delete(context, &pool).await;
    }
    if !pool.finalizers().iter().any(|f| f == labels::MACHINE_POOL_FINALIZER) {
        match apply::add_finalizer(&api, FieldManager::Lifecycle, name, labels::MACHINE_POOL_FINALIZER).await {
            Ok(_) | Err(InfraError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (cluster, place) = match accept(context, &pool) {
        Ok(found) => found,
        Err(refusal) => return report(context, &pool, &Sight::refused(refusal)).await,
    };
    if cluster.spec.paused {
        return report(
            context,
            &pool,
            &Sight::refused(("ClusterPaused", "the cluster is paused".into())),
        )
        .await;
    }
    let (rendering, mut trouble) = match skew(&pool, &cluster) {
        Some(refusal) => (None, Some(refusal)),
        None => match rendering(context, &place, &pool, &cluster).await {
            Ok(rendering) => (Some(rendering), None),
            Err(error) if error.is_refusal() => (None, Some(("TemplateRefused", error.to_string()))),
            Err(error) => (None, Some(("RenderingUnavailable", error.to_string()))),
        },
    };
    let mut wish = PoolWish::of(&pool.spec, rendering.as_ref().map(|r| r.revision.clone()));
    let wanted = wish.replicas;
    if let Some(rendering) = &rendering {
        trouble = trouble.or(quota::hold(context, &place, &pool, rendering, &mut wish));
    }
    let now = context.clock.now();
    let mut plan = plan_pool(&wish, &pool_machines(&pool, &cached(context, namespace, name), now));
    let mut failure = None;
    if !plan.is_empty() {
        let fresh = list::all(
            &context.namespaced::<VirtualMachine>(namespace),
            &format!("{}={name}", labels::POOL),
        )
        .await?
        .items;
        let machines: Vec<ObservedMachine> = fresh.iter().map(|vm| observe_machine(&context.observed, vm)).collect();
        plan = plan_pool(&wish, &pool_machines(&pool, &machines, now));
        failure = execute(context, &place, &cluster, &pool, rendering.as_deref(), &plan, &machines)
            .await
            .err();
    }
    let mut sight = Sight::of(&wish, &plan, &cached(context, namespace, name), &pool, now);
    sight.rendering = rendering;
    sight.trouble = trouble.or_else(|| failure.as_ref().map(|error| ("MachineRefused", chain(error))));
    let unavailable = sight
        .trouble
        .as_ref()
        .is_some_and(|(reason, _)| *reason == "RenderingUnavailable");
    let reported = report(context, &pool, &sight).await?;
    if let Some(error) = failure {
        return Err(error);
    }
    let waits = sight.ready < wanted || plan.outdated > 0 || sight.going > 0;
    Ok(match reported {
        _ if plan.create > BATCH => Outcome::Again(Duration::ZERO),
        _ if unavailable => Outcome::Again(Duration::from_secs(2)),
        _ if waits => Outcome::Again(LOOK_AGAIN),
        outcome => outcome,
    })
}

fn chain(error: &Error) -> String {
    steading_runtime::tasks::Chain(error).to_string()
}

fn cached(context: &Context, namespace: &str, pool: &str) -> Vec<ObservedMachine> {
    let of_pool = |vm: &Arc<VirtualMachine>| vm.labels().get(labels::POOL).is_some_and(|label| label == pool);
    context
        .observed
        .vms
        .list(namespace)
        .iter()
        .filter(|vm| of_pool(vm))
        .map(|vm| observe_machine(&context.observed, vm))
        .collect()
}

fn pool_machines(pool: &MachinePool, machines: &[ObservedMachine], now: Timestamp) -> Vec<PoolMachine> {
    let patience = patience_of(Some(pool));
    machines
        .iter()
        .map(|machine| PoolMachine {
            name: machine.name.clone(),
            revision: machine.revision.clone(),
            availability: machine.availability(&patience, now),
            going: machine.is_going(),
            replace: machine.replace,
            infra_node: machine.infra_node().map(str::to_owned),
            created: machine.created,
        })
        .collect()
}

/// Checks what `kubectl` may have written.
fn accept(context: &Context, pool: &MachinePool) -> Result<(Arc<Cluster>, PoolPlace), Refusal> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let place = PoolPlace::of(&namespace, &name).ok_or_else(|| {
        (
            "InvalidName",
            format!("{namespace}/{name} is not <project>--<cluster>/<pool id>"),
        )
    })?;
    let violations = validate(&pool.spec);
    if !violations.is_empty() {
        return Err(("InvalidSpec", violations.to_string()));
    }
    if place.template(pool).is_none() {
        return Err(("InvalidSpec", "machineTemplate is not an id".into()));
    }
    let cluster = context.observed.clusters.get("", &namespace);
    let cluster = cluster.ok_or_else(|| ("ClusterNotFound", format!("cluster {} does not exist", place.cluster)))?;
    if cluster.metadata.deletion_timestamp.is_some() {
        return Err(("ClusterGoing", "the cluster is being deleted".into()));
    }
    let bootstrap = &cluster.spec.bootstrap;
    if bootstrap.kind == BootstrapKind::Custom
        && let Err(fault) = check_custom(&bootstrap.user_data)
    {
        return Err(("InvalidBootstrap", format!("the cluster's bootstrap.userData: {fault}")));
    }
    Ok((cluster, place))
}

/// Why no machines are made of the pool's Kubernetes version. Those that exist stay: a new version of the API server breaks no pool.
fn skew(pool: &MachinePool, cluster: &Cluster) -> Option<Refusal> {
    let server = cluster
        .status
        .as_ref()
        .and_then(|status| status.kubernetes_version.as_deref());
    let why = check_skew(&pool.spec.kubernetes_version, server).err()?;
    Some((
        SKEW,
        format!("kubernetes version {} {why}", pool.spec.kubernetes_version),
    ))
}

/// The pool's rendering: from memory while its sources are as they were.
async fn rendering(
    context: &Context,
    place: &PoolPlace,
    pool: &MachinePool,
    cluster: &Cluster,
) -> Result<Arc<Rendering>, Error> {
    let key = (place.cluster.namespace(), place.name.id.to_string());
    let now = context.clock.now();
    let template = place
        .template(pool)
        .and_then(|name| context.observed.templates.get("", &name.object_name()));
    let source = serde_json::json!([
        template.as_ref().map(|t| (
            t.uid(),
            t.metadata.generation,
            t.status.as_ref().and_then(|s| s.latest_revision.clone())
        )),
        pool.spec.machine_template,
        pool.spec.machine_template_revision,
        pool.spec.placement_policy,
        pool.spec.kubernetes_version,
        serde_json::to_value(&cluster.spec.bootstrap).unwrap_or_default(),
    ])
    .to_string();
    let known = context.memory.lock().renderings.get(&key).cloned();
    if let Some(known) = known
        && known.source == source
        && now.duration_since(known.made) < PLACEMENT_AGE
    {
        return Ok(known);
    }
    let rendering = Arc::new(render_now(context, place, pool, cluster, source).await?);
    context.memory.lock().renderings.insert(key, Arc::clone(&rendering));
    Ok(rendering)
}

/// Renders a pool as it is wanted now.
async fn render_now(
    context: &Context,
    place: &PoolPlace,
    pool: &MachinePool,
    cluster: &Cluster,
    source: String,
) -> Result<Rendering, Error> {
    let placement = render::resolve_placement(context, place, &pool.spec.placement_policy).await?;
    let answer = render::render(context, place, pool, placement).await?;
    let bootstrap =
        serde_json::to_string(&(&cluster.spec.bootstrap.kind, &cluster.spec.bootstrap.user_data)).unwrap_or_default();
    let spec = &pool.spec;
    let revision = short_hash(
        &[
            &spec.machine_template,
            &answer.revision,
            &spec.placement_policy,
            &spec.kubernetes_version,
            &bootstrap,
        ],
        10,
    );
    let resources = answer.resources.unwrap_or_default();
    Ok(Rendering {
        source,
        revision,
        template_revision: answer.revision,
        virtual_machine: answer.virtual_machine.map(render::json).unwrap_or_default(),
        name_paths: answer.machine_name_paths,
        user_data: answer.user_data,
        vcpus: resources.vcpus,
        memory: resources.memory,
        storage: resources.local_storage,
        instance_type: answer.instance_type,
        made: context.clock.now(),
    })
}

/// What a change of a pool would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// Machines that would be replaced.
    pub replaced: Vec<String>,
    /// Machines that would be removed.
    pub removed: Vec<String>,
    /// How many machines would be added.
    pub added: usize,
    /// Most machines at a time.
    pub peak: usize,
    /// Hash that machines would be made from.
    pub revision: String,
    /// Revision of the template.
    pub template_revision: String,
}

/// Says what the pool as it is given would do, without doing it.
///
/// # Errors
/// If it cannot be rendered.
pub async fn preview(context: &Context, pool: &MachinePool) -> Result<Preview, Error> {
    let (cluster, place) = accept(context, pool).map_err(|(_, message)| Error::Malformed(message))?;
    let rendering = render_now(context, &place, pool, &cluster, String::new()).await?;
    let mut wish = PoolWish::of(&pool.spec, Some(rendering.revision.clone()));
    wish.paused = false;
    let seen = cached(context, &place.cluster.namespace(), &place.name.id);
    let machines = pool_machines(pool, &seen, context.clock.now());
    let current = machines.iter().filter(|m| !m.going).count();
    let (replaced, removed) = will_go(&wish, &machines);
    let busy = if replaced.is_empty() { 0 } else { wish.surge() };
    Ok(Preview {
        added: wish.replicas.saturating_sub(current),
        peak: current.max(wish.replicas + busy),
        replaced,
        removed,
        revision: rendering.revision,
        template_revision: rendering.template_revision,
    })
}

/// Names for new machines. They follow from the pool and from what exists, so that two who see the same make the same.
fn names(pool: &MachinePool, machines: &[ObservedMachine], count: usize) -> Vec<String> {
    let (uid, pool_name) = (pool.uid().unwrap_or_default(), pool.name_any());
    let mut taken: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
    taken.sort_unstable();
    let state = short_hash(&taken, 16);
    let candidates = (0_u32..).map(|n| format!("{pool_name}-{}", short_hash(&[&uid, &state, &n.to_string()], 5)));
    let mut found: Vec<String> = Vec::with_capacity(count);
    for name in candidates.take(count.saturating_mul(4).saturating_add(64)) {
        if found.len() == count {
            break;
        }
        if !taken.contains(&name.as_str()) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

async fn execute(
    context: &Context,
    place: &PoolPlace,
    cluster: &Cluster,
    pool: &MachinePool,
    rendering: Option<&Rendering>,
    plan: &PoolPlan,
    machines: &[ObservedMachine],
) -> Result<(), Error> {
    let namespace = place.cluster.namespace();
    for (machine, reason) in &plan.remove {
        let text = match reason {
            RemoveReason::ScaleDown => "scale down",
            RemoveReason::Replaced => "replaced",
            RemoveReason::Outdated => "outdated",
            RemoveReason::Unhealthy => "unhealthy",
        };
        tracing::info!(namespace, machine, reason = text, "machine is to go");
        request_delete(context, &namespace, machine).await?;
    }
    let Some(rendering) = rendering.filter(|_| plan.create > 0) else {
        return Ok(());
    };
    let tenant = context
        .observed
        .tenant(&namespace)
        .filter(|tenant| tenant.is_reachable());
    let tenant =
        tenant.ok_or_else(|| Error::Malformed("machines are made once the tenant api server answers".into()))?;
    let tenant = &tenant;
    let makes: Vec<_> = names(pool, machines, plan.create.min(BATCH))
        .into_iter()
        .map(|machine| async move { create_machine(context, place, cluster, pool, rendering, tenant, &machine).await })
        .collect();
    let mut results = stream::iter(makes).buffer_unordered(PARALLEL);
    let mut first = None;
    while let Some(result) = results.next().await {
        first = first.or(result.err());
    }
    first.map_or(Ok(()), Err)
}

async fn delete(context: &Context, pool: &MachinePool) -> Result<Outcome, Error> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let api = context.namespaced::<VirtualMachine>(&namespace);
    let fresh = list::all(&api, &format!("{}={name}", labels::POOL)).await?.items;
    for vm in &fresh {
        if !observe_machine(&context.observed, vm).is_going() {
            request_delete(context, &namespace, &vm.name_any()).await?;
        }
    }
    if fresh.is_empty() {
        let pools = context.namespaced::<MachinePool>(&namespace);
        match apply::remove_finalizer(&pools, FieldManager::Lifecycle, &name, labels::MACHINE_POOL_FINALIZER).await {
            Ok(()) | Err(InfraError::NotFound(_)) => return Ok(Outcome::Settled),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Outcome::Again(LOOK_AGAIN))
}

/// What is told of a pool.
#[derive(Debug, Default)]
struct Sight {
    refusal: Option<Refusal>,
    trouble: Option<Refusal>,
    rendering: Option<Arc<Rendering>>,
    replicas: usize,
    ready: usize,
    updated: usize,
    going: usize,
    waiting: Option<(&'static str, String)>,
    broken: Option<String>,
    rolling: bool,
    scaling: bool,
}

impl Sight {
    fn refused(refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::default()
        }
    }

    fn of(wish: &PoolWish, plan: &PoolPlan, machines: &[ObservedMachine], pool: &MachinePool, now: Timestamp) -> Self {
        let current: Vec<&ObservedMachine> = machines.iter().filter(|m| !m.is_going()).collect();
        let patience = patience_of(Some(pool));
        let updated = |m: &&&ObservedMachine| wish.revision.as_deref().is_none_or(|revision| m.revision == revision);
        let broken = current
            .iter()
            .find(|m| m.availability(&patience, now) == Availability::Broken);
        Self {
            replicas: current.len(),
            ready: current.iter().filter(|m| m.is_ready()).count(),
            updated: current.iter().filter(updated).count(),
            going: machines.len() - current.len(),
            waiting: plan.waiting.clone(),
            broken: broken.map(|m| format!("{}: {}", m.name, m.phase(&patience, false, now).message)),
            rolling: plan.outdated > 0,
            scaling: current.len() != wish.replicas || machines.len() != current.len(),
            ..Self::default()
        }
    }
}

/// Writes the status if it differs.
async fn report(context: &Context, pool: &MachinePool, sight: &Sight) -> Result<Outcome, Error> {
    let before = pool.status.clone().unwrap_or_default();
    let (now, generation) = (context.clock.now(), pool.metadata.generation);
    let mut after = before.clone();
    after.observed_generation = generation;
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    if let Some((reason, message)) = &sight.refusal {
        set_condition(
            &mut after.conditions,
            generation,
            now,
            ("Accepted", "False", reason, message),
        );
        set_condition(
            &mut after.conditions,
            generation,
            now,
            ("Ready", "False", "NotAccepted", message),
        );
        after.phase = Some("Rejected".into());
    } else {
        after.replicas = count(sight.replicas);
        after.ready_replicas = count(sight.ready);
        after.updated_replicas = count(sight.updated);
        after.deleting_replicas = count(sight.going);
        conditions(&mut after, pool, sight, now);
    }
    if after == before {
        return Ok(Outcome::Settled);
    }
    let api = context.namespaced::<MachinePool>(&pool.namespace().unwrap_or_default());
    match apply::apply_status(&api, FieldManager::Lifecycle, &pool.name_any(), &after).await {
        Ok(_) | Err(InfraError::NotFound(_)) => Ok(Outcome::Settled),
        Err(error) => Err(error.into()),
    }
}

fn conditions(after: &mut MachinePoolStatus, pool: &MachinePool, sight: &Sight, now: Timestamp) {
    let generation = pool.metadata.generation;
    if let Some(rendering) = &sight.rendering {
        after.revision = Some(rendering.revision.clone());
        after.template_revision = Some(rendering.template_revision.clone());
        after.machine_vcpus = Some(rendering.vcpus);
        after.machine_memory = Some(rendering.memory.clone());
        after.machine_storage = Some(rendering.storage.clone());
    }
    let wanted = usize::try_from(pool.spec.replicas).unwrap_or_default();
    let accepted = sight
        .trouble
        .as_ref()
        .is_none_or(|(reason, _)| !["TemplateRefused", SKEW].contains(reason));
    let (reason, message) = sight.trouble.clone().unwrap_or(("Accepted", String::new()));
    set_condition(
        &mut after.conditions,
        generation,
        now,
        (
            "Accepted",
            truth(accepted),
            if accepted { "Accepted" } else { reason },
            if accepted { "" } else { &message },
        ),
    );
    let ready = sight.ready >= wanted && !sight.scaling && !sight.rolling;
    let (reason, message) = if ready {
        ("AllReady", String::new())
    } else if let Some((reason, message)) = &sight.trouble {
        (*reason, message.clone())
    } else if let Some(broken) = &sight.broken {
        ("MachineUnhealthy", broken.clone())
    } else {
        ("Progressing", format!("{} of {wanted} machines are ready", sight.ready))
    };
    set_condition(
        &mut after.conditions,
        generation,
        now,
        ("Ready", truth(ready), reason, &message),
    );
    let (reason, message) = match (&sight.waiting, sight.rolling, pool.spec.rollout.paused) {
        (Some((reason, message)), _, _) => (*reason, message.clone()),
        (None, true, _) => ("Replacing", "machines are being replaced".to_owned()),
        (None, false, true) => ("Paused", "rollouts of this pool are paused".to_owned()),
        (None, false, false) => ("UpToDate", String::new()),
    };
    set_condition(
        &mut after.conditions,
        generation,
        now,
        ("RollingOut", truth(sight.rolling), reason, &message),
    );
    let phase = if !accepted {
        "Rejected"
    } else if ready {
        "Ready"
    } else if sight.rolling {
        "Rolling"
    } else if sight.broken.is_some() {
        "Degraded"
    } else {
        "Scaling"
    };
    after.phase = Some(phase.into());
}
