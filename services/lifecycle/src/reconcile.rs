//! Observe → plan → apply → report, for one key at a time, under the lease.
//!
//! A key names what to look at, never what changed. The queue holds each key once, and no cluster takes more than its share of the
//! slots. Everything is looked at again at intervals.

pub mod cluster;
pub mod drain;
pub mod load_balancer;
pub mod machine;
pub mod maintenance;
mod outcome;
pub mod pool;
pub mod project;
pub mod teardown;
pub mod token;

pub use outcome::Outcome;

use std::{convert::Infallible, sync::Arc, time::Duration};

use kube::ResourceExt;
use steading_controller::{
    Keyed, Outcome as Worked, Queue, QueueConfig, RetryPolicy as _,
    work::{WorkConfig, work_fed},
};
use steading_infra::labels;
use steading_runtime::{CancellationToken, tasks::Chain};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    config::Config,
    context::Context,
    error::Error,
    memory::Memory,
    observe::{Change, Kind, Observed},
};

/// What is reconciled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A project by its id.
    Project(String),
    /// A cluster by its namespace.
    Cluster(String),
    /// A pool by namespace and name.
    Pool(String, String),
    /// A machine by namespace and name.
    Machine(String, String),
    /// All maintenances, and drains of infra nodes: budgets span them.
    Maintenances,
    /// All load balancers of a cluster by its namespace.
    LoadBalancers(String),
}

impl Keyed for Key {
    fn tenant(&self) -> Option<&str> {
        match self {
            Self::Cluster(namespace)
            | Self::Pool(namespace, _)
            | Self::Machine(namespace, _)
            | Self::LoadBalancers(namespace) => Some(namespace),
            Self::Project(_) | Self::Maintenances => None,
        }
    }
}

/// Pause for events that come in bursts, so that one look serves many.
const GATHER: Duration = Duration::from_millis(50);
/// Longest pause after failures, unless the error asks for more: what people wait for.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Pause before a cluster counts its machines again: the numbers are for people.
const COUNT: Duration = Duration::from_secs(1);

/// Reconciles until the lease is lost or the service ends.
///
/// # Errors
/// Never; the type is the lease's.
pub async fn run(context: Context, config: &Config, lost: CancellationToken) -> Result<(), Infallible> {
    tokio::select! {
        () = lost.cancelled() => return Ok(()),
        () = context.observed.synced() => {}
    }
    // What one term remembers of its acting is nothing to the next: others may have acted in between.
    let forget = || *context.memory.lock() = Memory::default();
    forget();
    let queue = Arc::new(Queue::new(QueueConfig {
        slots: config.concurrency,
        last_pause: LAST_PAUSE,
        ..QueueConfig::default()
    }));
    let feed = feed(&context.observed, context.observed.subscribe(), &queue, config.resync);
    let metrics = config.server.metrics.controllers().reconciler("lifecycle", "clusters");
    work_fed(Arc::clone(&queue), feed, WorkConfig::new(metrics), lost, |key| {
        let context = context.clone();
        async move {
            match reconcile(&context, &key).await {
                Ok(Outcome::Settled) => Worked::Settled,
                Ok(Outcome::Again(pause)) => Worked::Again(pause),
                Err(error) => {
                    tracing::warn!(?key, error = %Chain(&error), "reconciliation failed");
                    Worked::Failed(error.retry())
                }
            }
        }
    })
    .await;
    forget();
    Ok(())
}

/// Fills the queue with what changes, and with everything at intervals and when changes came too fast.
async fn feed(observed: &Observed, mut changes: Receiver<Change>, queue: &Queue<Key>, resync: Duration) {
    let mut resync = tokio::time::interval(resync);
    loop {
        let keys = tokio::select! {
            _ = resync.tick() => every_key(observed).into_iter().map(|key| (key, Duration::ZERO)).collect(),
            change = changes.recv() => match change {
                Ok(change) => keys_of(observed, &change),
                Err(RecvError::Lagged(_)) => every_key(observed).into_iter().map(|key| (key, GATHER)).collect(),
                Err(RecvError::Closed) => return,
            },
        };
        for (key, pause) in keys {
            queue.add_after(key, pause);
        }
    }
}

async fn reconcile(context: &Context, key: &Key) -> Result<Outcome, Error> {
    match key {
        Key::Project(id) => project::reconcile(context, id).await,
        Key::Cluster(namespace) => cluster::reconcile(context, namespace).await,
        Key::Pool(namespace, name) => pool::reconcile(context, namespace, name).await,
        Key::Machine(namespace, name) => machine::reconcile(context, namespace, name).await,
        Key::Maintenances => maintenance::reconcile(context).await,
        Key::LoadBalancers(namespace) => load_balancer::reconcile(context, namespace).await,
    }
}

fn every_key(observed: &Observed) -> Vec<Key> {
    let mut keys: Vec<Key> = observed
        .projects
        .all()
        .iter()
        .map(|p| Key::Project(p.name_any()))
        .collect();
    for cluster in observed.clusters.all() {
        keys.push(Key::Cluster(cluster.name_any()));
        keys.push(Key::LoadBalancers(cluster.name_any()));
    }
    let place = |namespace: Option<String>, name: String| (namespace.unwrap_or_default(), name);
    keys.extend(
        observed
            .pools
            .all()
            .iter()
            .map(|p| place(p.namespace(), p.name_any()))
            .map(|(s, n)| Key::Pool(s, n)),
    );
    keys.extend(
        observed
            .vms
            .all()
            .iter()
            .map(|v| place(v.namespace(), v.name_any()))
            .map(|(s, n)| Key::Machine(s, n)),
    );
    keys.push(Key::Maintenances);
    keys
}

/// The pool of a machine; by the name if the machine is gone.
fn pool_of(observed: &Observed, namespace: &str, machine: &str) -> Option<String> {
    let vm = observed.vms.get(namespace, machine);
    let label = vm.as_ref().and_then(|vm| vm.labels().get(labels::POOL).cloned());
    label.or_else(|| machine.rsplit_once('-').map(|(pool, _)| pool.to_owned()))
}

fn machine_keys(observed: &Observed, namespace: &str, machine: &str) -> Vec<(Key, Duration)> {
    let mut keys = vec![(Key::Machine(namespace.into(), machine.into()), Duration::ZERO)];
    if let Some(pool) = pool_of(observed, namespace, machine) {
        keys.push((Key::Pool(namespace.into(), pool), GATHER));
    }
    keys
}

/// The load balancers of all clusters of a project.
fn balancers_of_project(observed: &Observed, project: &str, pause: Duration) -> Vec<(Key, Duration)> {
    let clusters = observed.clusters.all();
    let own = clusters.iter().filter(|cluster| cluster.spec.project == project);
    own.map(|cluster| (Key::LoadBalancers(cluster.name_any()), pause))
        .collect()
}

/// What to look at after a change, and after how long.
fn keys_of(observed: &Observed, change: &Change) -> Vec<(Key, Duration)> {
    let (namespace, name) = (change.namespace.as_str(), change.name.as_str());
    let now = Duration::ZERO;
    match change.kind {
        Kind::Project => {
            let mut keys = vec![(Key::Project(name.into()), now)];
            let prefix = format!("{name}{}", labels::PROJECT_SEPARATOR);
            let pools = observed.pools.all();
            let pools = pools
                .iter()
                .map(|pool| (pool.namespace().unwrap_or_default(), pool.name_any()))
                .filter(|(namespace, _)| namespace.starts_with(&prefix));
            // Its quota may have changed. Its status does too, with every pool.
            keys.extend(pools.map(|(namespace, pool)| (Key::Pool(namespace, pool), COUNT)));
            keys.extend(balancers_of_project(observed, name, COUNT));
            keys
        }
        Kind::Cluster => {
            let mut keys = vec![
                (Key::Cluster(name.into()), now),
                (Key::LoadBalancers(name.into()), GATHER),
            ];
            keys.extend(
                observed
                    .pools
                    .list(name)
                    .iter()
                    .map(|p| (Key::Pool(name.into(), p.name_any()), GATHER)),
            );
            let vms = observed.vms.list(name);
            keys.extend(vms.iter().map(|vm| (Key::Machine(name.into(), vm.name_any()), COUNT)));
            if let Some((project, _)) = name.split_once(labels::PROJECT_SEPARATOR) {
                keys.push((Key::Project(project.into()), GATHER));
            }
            keys
        }
        Kind::MachinePool => {
            let mut keys = vec![
                (Key::Pool(namespace.into(), name.into()), now),
                (Key::Cluster(namespace.into()), GATHER),
            ];
            // Its labels and taints are for the Nodes of its machines.
            let vms = observed.vms.list(namespace);
            let machines = vms
                .iter()
                .filter(|vm| vm.labels().get(labels::POOL).is_some_and(|pool| pool == name));
            keys.extend(machines.map(|vm| (Key::Machine(namespace.into(), vm.name_any()), GATHER)));
            keys
        }
        Kind::MachineTemplate => observed
            .pools
            .all()
            .iter()
            .filter(|pool| name.ends_with(&format!("{}{}", labels::PROJECT_SEPARATOR, pool.spec.machine_template)))
            .map(|pool| (Key::Pool(pool.namespace().unwrap_or_default(), pool.name_any()), GATHER))
            .collect(),
        Kind::Maintenance => vec![(Key::Maintenances, now)],
        Kind::VirtualMachine => {
            let mut keys = machine_keys(observed, namespace, name);
            keys.push((Key::Cluster(namespace.into()), COUNT));
            keys.push((Key::Maintenances, GATHER));
            keys
        }
        Kind::VirtualMachineInstance | Kind::Migration => {
            let machine = match change.kind {
                Kind::Migration => observed
                    .migrations
                    .get(namespace, name)
                    .map(|m| m.spec.vmi_name.clone()),
                _ => Some(name.to_owned()),
            };
            let mut keys = machine
                .map(|machine| machine_keys(observed, namespace, &machine))
                .unwrap_or_default();
            keys.push((Key::LoadBalancers(namespace.into()), GATHER));
            keys.push((Key::Maintenances, GATHER));
            keys
        }
        Kind::InfraNode => vec![(Key::Maintenances, GATHER)],
        Kind::TenantService | Kind::InfraSlice => vec![(Key::LoadBalancers(namespace.into()), GATHER)],
        Kind::InfraService => {
            let mut keys = vec![
                (Key::LoadBalancers(namespace.into()), GATHER),
                (Key::Cluster(namespace.into()), COUNT),
            ];
            // Under a quota, one that is gone makes a place for another cluster's.
            if let Some((project, _)) = namespace.split_once(labels::PROJECT_SEPARATOR)
                && observed
                    .projects
                    .get("", project)
                    .is_some_and(|project| project.spec.quota.contains_key("loadBalancers"))
            {
                keys.extend(balancers_of_project(observed, project, COUNT));
            }
            keys
        }
        Kind::Namespace => vec![(Key::Cluster(name.into()), GATHER)],
        Kind::Volume => vec![(Key::Cluster(namespace.into()), COUNT)],
        // The tenant's own task takes it up.
        Kind::Kubeconfig => Vec::new(),
        Kind::TenantNode => {
            let mut keys = machine_keys(observed, namespace, name);
            keys.push((Key::Cluster(namespace.into()), COUNT));
            keys.push((Key::LoadBalancers(namespace.into()), GATHER));
            keys
        }
        Kind::Tenant => {
            let mut keys = vec![
                (Key::Cluster(namespace.into()), now),
                (Key::LoadBalancers(namespace.into()), GATHER),
            ];
            keys.extend(
                observed
                    .pools
                    .list(namespace)
                    .iter()
                    .map(|p| (Key::Pool(namespace.into(), p.name_any()), GATHER)),
            );
            keys.extend(
                observed
                    .vms
                    .list(namespace)
                    .iter()
                    .map(|v| (Key::Machine(namespace.into(), v.name_any()), GATHER)),
            );
            keys
        }
    }
}
