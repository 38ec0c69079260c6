//! One machine pool: accept, render, hold to the quota, plan, execute, report; each step in its own file.
//!
//! The plan is made from the cache. If it wants to make or remove anything it is made again from a read of the API server (of the pool, and of
//! its machines), so that a cache that is behind never makes a machine too many or removes one too many; names follow from that read.

mod execute;
mod quota;
mod report;

use std::time::Duration;

use kube::{Resource, ResourceExt};
use steading_controller::{Fresh, fresh::Deletion};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, MachinePool},
    error::InfraError,
    intent, labels,
};

use super::Outcome;
use crate::{
    apply::{intent::request_delete, render::PoolPlace},
    context::Context,
    domain::{machine::ObservedMachine, pool::DesiredPool, rendering::Rendering},
    error::Error,
    observe::pool::{
        accept,
        desired::desired_of,
        machines::{cached, failures_of, ledger_of, pool_machines},
        rendering,
        trouble::Trouble,
    },
    plan::{
        evacuation::MachineKey,
        pool::{PoolInput, PoolPlan, plan_pool},
        recheck::is_same_wish,
    },
};

use execute::{BATCH, Pass, fresh_machines};
use report::Report;

/// How long to wait for what has no signal of its own: readiness over time, joins that never come.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Pause before a peer that did not answer is asked again.
const PEER_AGAIN: Duration = Duration::from_secs(2);

/// Pause before a pool is looked at again whose watch had shown what the API server does not have.
const BEHIND: Duration = Duration::from_secs(1);

/// Looks at one pool.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Outcome, Error> {
    let Some(pool) = context.observed.pools.get(namespace, name) else {
        let key = (namespace.to_owned(), name.to_owned());
        context.memory.lock().renderings.remove(&key);
        return Ok(Outcome::Settled);
    };
    if pool.meta().deletion_timestamp.is_some() {
        return delete(context, &pool).await;
    }
    let api = context.namespaced::<MachinePool>(namespace);
    if !pool.finalizers().iter().any(|f| f == labels::MACHINE_POOL_FINALIZER) {
        match apply::add_finalizer(&api, FieldManager::Lifecycle, name, labels::MACHINE_POOL_FINALIZER).await {
            Ok(_) | Err(InfraError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (cluster, place) = match accept::accept(context, &pool) {
        Ok(found) => found,
        Err(refusal) => return report::store(context, &pool, &Report::refused(refusal)).await,
    };
    if cluster.spec.paused {
        let refusal = Trouble::new("ClusterPaused", "the cluster is paused");
        return report::store(context, &pool, &Report::refused(refusal)).await;
    }
    let (rendering, trouble) = match accept::skew(&pool, &cluster) {
        Some(refusal) => (None, Some(refusal)),
        None => match rendering::rendering(context, &place, &pool, &cluster).await {
            Ok(rendering) => (Some(rendering), None),
            Err(error) if error.is_refusal() => (None, Some(Trouble::new("TemplateRefused", error.to_string()))),
            Err(error) => (None, Some(Trouble::new(report::UNAVAILABLE, error.to_string()))),
        },
    };
    work(context, &place, &cluster, &pool, rendering.as_deref(), trouble).await
}

/// Plans and executes for a pool that is accepted.
async fn work(
    context: &Context,
    place: &PoolPlace,
    cluster: &Cluster,
    pool: &MachinePool,
    rendering: Option<&Rendering>,
    mut trouble: Option<Trouble>,
) -> Result<Outcome, Error> {
    let (namespace, name) = (place.cluster.namespace(), pool.name_any());
    let machines = cached(context, &namespace, &name);
    let mut desired = desired_of(pool, &machines, rendering.map(|r| r.revision.clone()));
    let wanted = desired.replicas;
    if let Some(rendering) = rendering {
        trouble = trouble.or(quota::hold(context, place, pool, rendering, &mut desired));
    }
    let mut plan = decide(context, pool, &desired, &machines);
    let mut failure = None;
    if !plan.is_empty() {
        // What is wanted may have changed while the watch was behind: an old wish makes and removes no machine.
        let read = Fresh::get(&context.namespaced::<MachinePool>(&namespace), &name).await?;
        let Some(read) = read else {
            return Ok(Outcome::Again(BEHIND));
        };
        if !is_same_wish(pool, &read) {
            let (known, version) = (pool.resource_version(), read.resource_version());
            context.observed.pools.upsert(read.into_inner());
            return Ok(Outcome::Again(if known == version { BEHIND } else { Duration::ZERO }));
        }
        let machines = fresh_machines(context, &namespace, &name, context.clock.now()).await?;
        plan = decide(context, pool, &desired, &machines);
        let pass = Pass {
            context,
            place,
            cluster,
            pool,
            rendering,
            machines: &machines,
        };
        failure = pass.execute(&plan).await.err();
    }
    let refused = failure
        .as_ref()
        .map(|error| Trouble::new("MachineRefused", steading_runtime::tasks::Chain(error).to_string()));
    let mut seen = Report::of(
        &desired,
        &plan,
        &cached(context, &namespace, &name),
        pool,
        context.clock.now(),
    );
    seen.desired = wanted;
    seen.rendering = rendering.cloned();
    seen.trouble = trouble.or(refused);
    let unavailable = seen
        .trouble
        .as_ref()
        .is_some_and(|why| why.reason == report::UNAVAILABLE);
    let waits = seen.ready < wanted || plan.outdated > 0 || seen.terminating > 0;
    let reported = report::store(context, pool, &seen).await?;
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(match reported {
        _ if plan.create > BATCH => Outcome::Again(Duration::ZERO),
        _ if unavailable => Outcome::Again(PEER_AGAIN),
        _ if waits => Outcome::Again(LOOK_AGAIN),
        outcome => outcome,
    })
}

fn decide(context: &Context, pool: &MachinePool, desired: &DesiredPool, machines: &[ObservedMachine]) -> PoolPlan {
    let (namespace, name, now) = (
        pool.namespace().unwrap_or_default(),
        pool.name_any(),
        context.clock.now(),
    );
    let (mut ledger, moving_per_cluster) = ledger_of(context, &namespace, desired);
    let known = failures_of(pool);
    let input = PoolInput {
        namespace: &namespace,
        pool: &name,
        desired,
        machines: &pool_machines(pool, machines, now),
        failures: &known,
        moving_per_cluster,
    };
    let mut plan = plan_pool(&input, &mut ledger);
    if plan.failures.count > known.count {
        plan.failures.last = Some(now);
    }
    plan
}

async fn delete(context: &Context, pool: &MachinePool) -> Result<Outcome, Error> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let pools = context.namespaced::<MachinePool>(&namespace);
    // Another pool of this name may have been made since: its machines stay.
    let Some(read) = Fresh::get(&pools, &name).await?.filter(|read| read.uid() == pool.uid()) else {
        return Ok(Outcome::Again(BEHIND));
    };
    let machines = fresh_machines(context, &namespace, &name, context.clock.now()).await?;
    for machine in machines.iter().filter(|machine| !machine.is_terminating()) {
        let key = MachineKey {
            namespace: namespace.clone(),
            machine: machine.name.clone(),
        };
        request_delete(context, &key, intent::POOL, "its pool is being deleted").await?;
    }
    if machines.is_empty() {
        let manager = FieldManager::Lifecycle.as_str();
        let deletion = read
            .without_finalizer(&pools, manager, labels::MACHINE_POOL_FINALIZER)
            .await?;
        return Ok(match deletion {
            Deletion::Accepted | Deletion::Gone => Outcome::Settled,
            Deletion::Changed => Outcome::Again(Duration::ZERO),
        });
    }
    Ok(Outcome::Again(LOOK_AGAIN))
}
