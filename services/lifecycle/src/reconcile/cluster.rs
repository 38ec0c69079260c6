//! One cluster: its namespace and isolation, and what is seen of its API server.

use std::time::Duration;

use k8s_openapi::api::{
    networking::v1::NetworkPolicy,
    rbac::v1::{Role, RoleBinding},
};
use kube::{Api, ResourceExt};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, cluster::BootstrapKind},
    labels,
};

use super::{Outcome, project::ignore_missing};
use crate::{
    apply::{event::Tone, namespace as own_namespace},
    context::Context,
    domain::{bootstrap::check_custom, kubeconfig::Endpoint},
    error::Error,
    observe::cluster::observe_cluster,
    plan::{
        cluster::{ISOLATION, image_cloners, isolation, may_clone_images, missing_labels},
        ownership::is_named_rightly,
        report::{Acceptance, NamespaceState, ObservedCluster, status_of},
    },
};

/// Pause before a namespace that is going or not ours is looked at again, besides its events.
const NAMESPACE: Duration = Duration::from_secs(15);

/// Looks at one cluster.
///
/// # Errors
/// If the infra cluster or storage refuses or cannot be reached.
pub async fn reconcile(context: &Context, name: &str) -> Result<Outcome, Error> {
    let Some(cluster) = context.observed.clusters.get("", name) else {
        return Ok(Outcome::Settled);
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return super::teardown::reconcile(context, &cluster).await;
    }
    let api = context.all::<Cluster>();
    if !cluster.finalizers().iter().any(|f| f == labels::CLUSTER_FINALIZER) {
        ignore_missing(
            apply::add_finalizer(&api, FieldManager::Lifecycle, name, labels::CLUSTER_FINALIZER)
                .await
                .map(drop),
        )?;
    }
    let acceptance = acceptance(&cluster);
    if acceptance == Acceptance::Accepted
        && let Some(patch) = missing_labels(&cluster)
    {
        ignore_missing(
            apply::patch_merge(&api, FieldManager::Lifecycle, name, &patch)
                .await
                .map(drop),
        )?;
    }
    let mut observed = observe_cluster(&context.observed, &cluster, acceptance.clone(), context.clock.now());
    if acceptance == Acceptance::Accepted && !cluster.spec.paused {
        keep_namespace(context, &cluster, &mut observed).await?;
    }
    report(context, &cluster, &observed).await?;
    Ok(match observed.namespace {
        NamespaceState::Ready { .. } => Outcome::Settled,
        NamespaceState::Absent | NamespaceState::Terminating | NamespaceState::NotOurs { .. } => {
            Outcome::Again(NAMESPACE)
        }
    })
}

fn acceptance(cluster: &Cluster) -> Acceptance {
    if !is_named_rightly(cluster) {
        Acceptance::InvalidName
    } else if cluster.spec.control_plane.external.is_none() {
        Acceptance::ControlPlaneNotSupported
    } else if let Some(why) = bootstrap_fault(cluster) {
        Acceptance::InvalidBootstrap(why)
    } else {
        Acceptance::Accepted
    }
}

fn bootstrap_fault(cluster: &Cluster) -> Option<String> {
    let bootstrap = &cluster.spec.bootstrap;
    let checked = (bootstrap.kind == BootstrapKind::Custom).then(|| check_custom(&bootstrap.user_data))?;
    checked.err().map(|fault| format!("bootstrap.userData: {fault}"))
}

/// Makes the namespace if there is none, and sets it up once for each namespace, spec and address of the tenant.
async fn keep_namespace(context: &Context, cluster: &Cluster, observed: &mut ObservedCluster) -> Result<(), Error> {
    if observed.namespace == NamespaceState::Absent {
        let ownership = own_namespace::ensure(context, cluster).await?;
        let fresh = own_namespace::read(context, cluster).await?;
        observed.namespace = NamespaceState::of(fresh.object.as_deref(), ownership);
    }
    let NamespaceState::Ready { uid } = &observed.namespace else {
        return Ok(());
    };
    let status = cluster.status.clone().unwrap_or_default();
    let is_set_up = status.namespace_uid.as_ref() == Some(uid)
        && status.observed_generation == cluster.metadata.generation
        && status.endpoint.as_deref().unwrap_or_default() == observed.endpoint.server;
    if !is_set_up {
        set_up(context, cluster, &observed.endpoint).await?;
    }
    Ok(())
}

async fn set_up(context: &Context, cluster: &Cluster, endpoint: &Endpoint) -> Result<(), Error> {
    let name = cluster.name_any();
    let roles = context.namespaced::<Role>(labels::SYSTEM_NAMESPACE);
    apply::apply(&roles, FieldManager::Lifecycle, &image_cloners()).await?;
    let bindings = context.namespaced::<RoleBinding>(labels::SYSTEM_NAMESPACE);
    apply::apply(&bindings, FieldManager::Lifecycle, &may_clone_images(cluster, &name)).await?;
    let policies: Api<NetworkPolicy> = context.namespaced(&name);
    let server = Some(endpoint.server.as_str()).filter(|server| !server.is_empty());
    match isolation(cluster, &name, server) {
        Some(policy) => {
            apply::apply(&policies, FieldManager::Lifecycle, &policy).await?;
        }
        None => ignore_missing(apply::delete(&policies, ISOLATION, None).await)?,
    }
    Ok(())
}

async fn report(context: &Context, cluster: &Cluster, observed: &ObservedCluster) -> Result<(), Error> {
    let before = cluster.status.clone().unwrap_or_default();
    let after = status_of(cluster, observed, context.clock.now());
    if after == before {
        return Ok(());
    }
    let name = cluster.name_any();
    ignore_missing(
        apply::apply_status(&context.all::<Cluster>(), FieldManager::Lifecycle, &name, &after)
            .await
            .map(drop),
    )?;
    if after.phase != before.phase {
        let phase = after.phase.unwrap_or_default();
        let ready = after.conditions.iter().find(|one| one.type_ == "Ready");
        let (reason, message) = ready.map_or(("", ""), |one| (one.reason.as_str(), one.message.as_str()));
        tracing::info!(cluster = %name, phase, reason, message, "cluster changed its state");
        let note = if message.is_empty() { phase.as_str() } else { message };
        let tone = if ["Unreachable", "Failed"].contains(&phase.as_str()) {
            Tone::Warning
        } else {
            Tone::Normal
        };
        if !reason.is_empty() {
            context.events.publish(cluster, tone, "Reconcile", reason, note).await;
        }
    }
    Ok(())
}
