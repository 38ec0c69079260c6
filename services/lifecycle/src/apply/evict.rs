//! Cordons, evictions and forced deletions of pods as requests to a tenant. What to evict is decided in `plan::drain`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, EvictParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use steading_infra::{
    error::{InfraError, optional},
    labels,
};

use crate::plan::drain::{DrainPod, DrainPolicy, EvictionAttempts, EvictionRefusal, grace_of};

/// Keeps new pods off a tenant node and notes on it that Steading did, in one write. One that is gone already is fine.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn cordon(client: &Client, node: &str) -> Result<(), InfraError> {
    let body = json!({
        "metadata": {"annotations": {labels::CORDONED: "true"}},
        "spec": {"unschedulable": true},
    });
    patch_node(client, node, body).await
}

/// Lets new pods on a tenant node again if it was Steading that kept them off. One that is gone already is fine.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn uncordon(client: &Client, node: &str) -> Result<(), InfraError> {
    let found = optional(Api::<Node>::all(client.clone()).get(node).await)?;
    let ours = found.as_ref().and_then(|node| node.metadata.annotations.as_ref());
    if !ours.is_some_and(|annotations| annotations.contains_key(labels::CORDONED)) {
        return Ok(());
    }
    let body = json!({
        "metadata": {"annotations": {labels::CORDONED: null}},
        "spec": {"unschedulable": null},
    });
    patch_node(client, node, body).await
}

async fn patch_node(client: &Client, node: &str, body: serde_json::Value) -> Result<(), InfraError> {
    let params = PatchParams {
        field_manager: Some(labels::LIFECYCLE_MANAGER.into()),
        ..PatchParams::default()
    };
    let nodes = Api::<Node>::all(client.clone());
    optional(nodes.patch(node, &params, &Patch::Merge(body)).await).map(|_| ())
}

/// Asks for the eviction of one pod. A pod that accepts is ending; one that is gone has its uid cleared.
///
/// # Errors
/// If the API server cannot be asked; that it refuses is noted in the attempts.
pub async fn evict(
    client: &Client,
    pod: &mut DrainPod,
    policy: &DrainPolicy,
    (attempts, held_since): (&mut BTreeMap<String, EvictionAttempts>, Option<Timestamp>),
    now: Timestamp,
) -> Result<(), InfraError> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let params = EvictParams {
        delete_options: Some(delete_params(pod, policy)),
        ..EvictParams::default()
    };
    let refusal = match api.evict(&pod.name, &params).await.map_err(InfraError::from) {
        Ok(_) => {
            attempts.remove(&pod.uid);
            mark_ending(pod, policy, now);
            return Ok(());
        }
        // Gone, or another pod of that name.
        Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => {
            attempts.remove(&pod.uid);
            pod.uid.clear();
            return Ok(());
        }
        Err(error) if matches!(error, InfraError::TimedOut(_)) => return Err(error),
        Err(InfraError::TooManyRequests { message, .. }) => (EvictionRefusal::Budget, message),
        Err(error @ InfraError::Unavailable(_)) => match unavailable_reason(&error) {
            Some(message) => (EvictionRefusal::Refused, message),
            None => return Err(error),
        },
        Err(error) => (EvictionRefusal::Refused, error.to_string()),
    };
    let tried = attempts.entry(pod.uid.clone()).or_insert_with(|| EvictionAttempts {
        refusals: 0,
        first: held_since.unwrap_or(now),
        last: now,
        message: String::new(),
        refusal: refusal.0,
    });
    tried.refusals = tried.refusals.saturating_add(1);
    (tried.last, tried.refusal, tried.message) = (now, refusal.0, refusal.1);
    Ok(())
}

/// A 500 to an eviction is an answer (the pod is in two budgets), not an absent server.
fn unavailable_reason(error: &InfraError) -> Option<String> {
    match error {
        InfraError::Unavailable(source) => match source.as_ref() {
            kube::Error::Api(status) if status.code == 500 => Some(status.message.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Deletes one pod without asking its budgets.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn force_delete(
    client: &Client,
    pod: &mut DrainPod,
    policy: &DrainPolicy,
    now: Timestamp,
) -> Result<(), InfraError> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    tracing::warn!(namespace = %pod.namespace, pod = %pod.name, "deleting a pod that evictions could not move, as the policy says");
    match api
        .delete(&pod.name, &delete_params(pod, policy))
        .await
        .map_err(InfraError::from)
    {
        Ok(_) => mark_ending(pod, policy, now),
        Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => pod.uid.clear(),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn delete_params(pod: &DrainPod, policy: &DrainPolicy) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: policy
            .pod_grace
            .map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX)),
        preconditions: Some(Preconditions {
            uid: Some(pod.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

fn mark_ending(pod: &mut DrainPod, policy: &DrainPolicy, now: Timestamp) {
    let grace = SignedDuration::try_from(grace_of(pod, policy)).unwrap_or(SignedDuration::ZERO);
    pod.deletion = Some(now.checked_add(grace).unwrap_or(now));
}
