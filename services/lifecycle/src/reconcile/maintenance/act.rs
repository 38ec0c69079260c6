//! The steps of maintenances as requests. Machines are only asked, by intents.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use serde_json::{Value, json};
use steading_controller::Fresh;
use steading_infra::{
    apply::{self, FieldManager},
    crd::Maintenance,
    error::InfraError,
    intent::{EVICTION, Intent},
    labels,
};

use crate::{
    apply::{
        event::Tone,
        intent::{withdraw_ways, write_way},
    },
    context::Context,
    error::Error,
    observe::cordon::observe_cordon,
    plan::{
        evacuation::{MachineKey, Way},
        maintenance::{Action, State},
    },
};

const MANAGER: FieldManager = FieldManager::Lifecycle;

pub(super) async fn act(context: &Context, action: &Action) -> Result<(), Error> {
    match action {
        Action::Hold { maintenance } => {
            apply::add_finalizer(
                &context.all::<Maintenance>(),
                MANAGER,
                maintenance,
                labels::MAINTENANCE_FINALIZER,
            )
            .await?;
        }
        Action::Release { maintenance } => {
            apply::remove_finalizer(
                &context.all::<Maintenance>(),
                MANAGER,
                maintenance,
                labels::MAINTENANCE_FINALIZER,
            )
            .await?;
        }
        Action::Cordon { node, maintenance } => cordon(context, node, maintenance).await?,
        Action::Uncordon { node, by } => uncordon(context, node, by.as_deref()).await?,
        Action::GiveBack { node, maintenance } => give_back(context, node, maintenance).await?,
        Action::Ask {
            key,
            owner,
            way,
            node,
            force_after_seconds,
        } => ask(context, key, owner, *way, node, *force_after_seconds).await?,
        Action::Withdraw { key, owner } => withdraw_ways(context, key, owner).await?,
        Action::CancelMark { key, node } => cancel_mark(context, key, node).await?,
        Action::RefuseEviction {
            key,
            node,
            reason,
            message,
        } => refuse(context, key, node, reason, message).await?,
    }
    Ok(())
}

/// Cordons an infra node, or takes over the cordon of another maintenance. What a person cordoned stays theirs.
async fn cordon(context: &Context, node: &str, maintenance: &str) -> Result<(), Error> {
    let Some(fresh) = Fresh::get(&context.all::<Node>(), node).await? else {
        return Ok(());
    };
    let seen = observe_cordon(&fresh);
    if seen.cordoned && seen.cordoned_by.is_none() {
        context.observed.nodes.upsert(fresh.into_inner());
        return Ok(());
    }
    let patch = json!({
        "metadata": {"annotations": {labels::CORDONED_BY: maintenance}},
        "spec": {"unschedulable": true},
    });
    patch_node(context, &fresh, patch).await?;
    tracing::info!(node, maintenance, "infra node cordoned");
    Ok(())
}

/// Takes back the cordon of `by` and of nobody else.
async fn uncordon(context: &Context, node: &str, by: Option<&str>) -> Result<(), Error> {
    let Some(fresh) = Fresh::get(&context.all::<Node>(), node).await? else {
        return Ok(());
    };
    let seen = observe_cordon(&fresh);
    if !seen.cordoned || seen.cordoned_by.as_deref() != by {
        context.observed.nodes.upsert(fresh.into_inner());
        return Ok(());
    }
    let patch = json!({
        "metadata": {"annotations": {labels::CORDONED_BY: null}},
        "spec": {"unschedulable": null},
    });
    patch_node(context, &fresh, patch).await?;
    tracing::info!(node, "infra node given back");
    Ok(())
}

/// Takes back the cordon of a maintenance that is over or does not exist.
async fn give_back(context: &Context, node: &str, maintenance: &str) -> Result<(), Error> {
    let found = Fresh::get(&context.all::<Maintenance>(), maintenance).await?;
    if found.is_some_and(|found| !State::of(&found.status.clone().unwrap_or_default()).is_final()) {
        return Ok(());
    }
    uncordon(context, node, Some(maintenance)).await
}

/// Patches an infra node as it was read.
async fn patch_node(context: &Context, node: &Fresh<Node>, mut patch: Value) -> Result<(), Error> {
    patch["metadata"]["resourceVersion"] = json!(node.resource_version());
    let patched = apply::patch_merge(&context.all::<Node>(), MANAGER, &node.name_any(), &patch).await;
    match patched {
        Ok(written) => {
            context.observed.nodes.upsert(written);
            Ok(())
        }
        Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn ask(
    context: &Context,
    key: &MachineKey,
    owner: &str,
    way: Way,
    node: &str,
    force_after_seconds: Option<i64>,
) -> Result<(), Error> {
    let reason = if owner == EVICTION {
        format!("evicted from infra node {node}")
    } else {
        format!("maintenance of infra node {node}")
    };
    let mut intent = Intent::new(way.action(), owner, &reason, context.clock.now());
    labels::LIFECYCLE_MANAGER.clone_into(&mut intent.details.by);
    intent.details.infra_node = Some(node.to_owned());
    intent.details.force_after_seconds = force_after_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    write_way(context, key, way, &intent).await
}

/// Says on the machine why its eviction is not carried out, then takes the mark back: an order is never undone silently.
async fn refuse(context: &Context, key: &MachineKey, node: &str, reason: &str, message: &str) -> Result<(), Error> {
    let note = format!(
        "the machine was evicted from infra node {node}, which is not cordoned, and cannot be migrated: {message}"
    );
    tracing::warn!(machine = %key, node, reason, "an eviction is not carried out");
    if let Some(vmi) = context.observed.vmis.get(&key.namespace, &key.machine) {
        let events = &context.events;
        events
            .publish(vmi.as_ref(), Tone::Warning, "Evict", "EvictionNotCarriedOut", &note)
            .await;
    }
    if let Some(vm) = context.observed.vms.get(&key.namespace, &key.machine) {
        let events = &context.events;
        events
            .publish(vm.as_ref(), Tone::Warning, "Evict", "EvictionNotCarriedOut", &note)
            .await;
    }
    withdraw_ways(context, key, EVICTION).await?;
    cancel_mark(context, key, node).await
}

/// Takes an eviction's mark back by KubeVirt's own subresource.
pub(super) async fn cancel_mark(context: &Context, key: &MachineKey, node: &str) -> Result<(), Error> {
    let path = format!(
        "/apis/subresources.kubevirt.io/v1/namespaces/{}/virtualmachineinstances/{}/evacuate/cancel",
        key.namespace, key.machine
    );
    let body = serde_json::to_vec(&json!({"evacuationNodeName": node})).unwrap_or_default();
    let request = http::Request::put(path)
        .header("content-type", "application/json")
        .body(body)
        .map_err(|error| Error::Malformed(format!("request for evacuate/cancel: {error}")))?;
    match context.kube.request_text(request).await.map_err(InfraError::from) {
        Ok(_) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
