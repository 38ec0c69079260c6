//! One project: what it uses, and its end.

use std::collections::BTreeMap;

use kube::ResourceExt;
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, Project},
    error::InfraError,
    labels, list,
};
use steading_model::quantity::Quantity;

use super::Outcome;
use crate::{context::Context, error::Error, observe::Observed};

/// Looks at one project.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn reconcile(context: &Context, id: &str) -> Result<Outcome, Error> {
    let Some(project) = context.observed.projects.get("", id) else {
        return Ok(Outcome::Settled);
    };
    let api = context.all::<Project>();
    if project.metadata.deletion_timestamp.is_some() {
        let clusters = list::all(&context.all::<Cluster>(), &format!("{}={id}", labels::PROJECT))
            .await?
            .items;
        for cluster in clusters.iter().filter(|c| c.metadata.deletion_timestamp.is_none()) {
            ignore_missing(apply::delete(&context.all::<Cluster>(), &cluster.name_any(), None).await)?;
        }
        if clusters.is_empty() {
            ignore_missing(
                apply::remove_finalizer(&api, FieldManager::Lifecycle, id, labels::PROJECT_FINALIZER).await,
            )?;
        }
        return Ok(Outcome::Settled);
    }
    if !project.finalizers().iter().any(|f| f == labels::PROJECT_FINALIZER) {
        ignore_missing(
            apply::add_finalizer(&api, FieldManager::Lifecycle, id, labels::PROJECT_FINALIZER)
                .await
                .map(drop),
        )?;
    }
    let mut status = project.status.clone().unwrap_or_default();
    status.observed_generation = project.metadata.generation;
    status.used = usage(&context.observed, id);
    if project.status.as_ref() != Some(&status) {
        ignore_missing(
            apply::apply_status(&api, FieldManager::Lifecycle, id, &status)
                .await
                .map(drop),
        )?;
    }
    Ok(Outcome::Settled)
}

pub(super) fn ignore_missing(result: Result<(), InfraError>) -> Result<(), Error> {
    match result {
        Ok(()) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a project uses, in the keys of its quota. Machines are counted as they are wanted, sizes as their pools resolve them.
pub fn usage(observed: &Observed, project: &str) -> BTreeMap<String, String> {
    let clusters: Vec<_> = observed
        .clusters
        .all()
        .into_iter()
        .filter(|c| c.spec.project == project)
        .collect();
    let (mut machines, mut vcpus, mut balancers) = (0_i64, 0_i64, 0_usize);
    let (mut memory, mut storage) = (Quantity::from_bytes(0), Quantity::from_bytes(0));
    for cluster in &clusters {
        let namespace = cluster.name_any();
        balancers += observed.services.count(&namespace);
        for pool in observed.pools.list(&namespace) {
            let count = i64::from(pool.spec.replicas.max(0));
            let status = pool.status.clone().unwrap_or_default();
            machines += count;
            vcpus += count * i64::from(status.machine_vcpus.unwrap_or_default());
            let times = |text: Option<String>| {
                let bytes = text.and_then(|t| t.parse::<Quantity>().ok()).map_or(0, Quantity::bytes);
                Quantity::from_bytes(bytes.saturating_mul(u64::try_from(count).unwrap_or_default()))
            };
            memory = memory.saturating_add(times(status.machine_memory));
            storage = storage.saturating_add(times(status.machine_storage));
        }
    }
    BTreeMap::from([
        ("clusters".to_owned(), clusters.len().to_string()),
        ("machines".to_owned(), machines.to_string()),
        ("vcpus".to_owned(), vcpus.to_string()),
        ("memory".to_owned(), memory.to_string()),
        ("storage".to_owned(), storage.to_string()),
        ("loadBalancers".to_owned(), balancers.to_string()),
    ])
}
