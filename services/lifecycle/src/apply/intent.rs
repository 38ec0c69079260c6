//! Writing and revoking intents on machines. Nothing else is done to a machine from outside its own reconciler.

use serde_json::{Map, Value, json};
use steading_infra::{
    apply::{self, FieldManager},
    error::InfraError,
    intent::{Action, Intent, key},
    kubevirt::VirtualMachine,
    labels,
};

use crate::{
    context::Context,
    error::Error,
    plan::evacuation::{MachineKey, Way},
};

/// Intents that make a machine leave.
const WAYS: [Action; 3] = [Action::Migrate, Action::Relocate, Action::Replace];

/// Writes an intent on a machine; one that is gone is fine.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn write_intent(context: &Context, machine: &MachineKey, intent: &Intent) -> Result<(), Error> {
    change(context, machine, &[(intent.key(), Some(intent.value()))]).await?;
    tracing::info!(%machine, action = intent.action.as_str(), owner = %intent.owner, reason = %intent.details.reason, "intent written");
    Ok(())
}

/// Writes an intent that makes a machine leave, in place of any other of the same owner, in one write.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn write_way(context: &Context, machine: &MachineKey, way: Way, intent: &Intent) -> Result<(), Error> {
    let mut changes: Vec<(String, Option<String>)> = WAYS
        .into_iter()
        .filter(|other| *other != way.action())
        .map(|other| (key(other, &intent.owner), None))
        .collect();
    changes.push((intent.key(), Some(intent.value())));
    change(context, machine, &changes).await?;
    tracing::info!(%machine, action = intent.action.as_str(), owner = %intent.owner, reason = %intent.details.reason, "intent written");
    Ok(())
}

/// Revokes every intent of an owner that makes a machine leave.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn withdraw_ways(context: &Context, machine: &MachineKey, owner: &str) -> Result<(), Error> {
    let changes: Vec<_> = WAYS.into_iter().map(|action| (key(action, owner), None)).collect();
    change(context, machine, &changes).await?;
    tracing::info!(%machine, owner, "intents revoked");
    Ok(())
}

/// Asks for the deletion of a machine after a drain.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn request_delete(context: &Context, machine: &MachineKey, owner: &str, reason: &str) -> Result<(), Error> {
    let mut wanted = Intent::new(Action::Delete, owner, reason, context.clock.now());
    labels::LIFECYCLE_MANAGER.clone_into(&mut wanted.details.by);
    write_intent(context, machine, &wanted).await
}

/// Removes intents by their keys.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn clear(context: &Context, machine: &MachineKey, keys: &[String]) -> Result<(), Error> {
    let changes: Vec<_> = keys.iter().map(|key| (key.clone(), None)).collect();
    change(context, machine, &changes).await?;
    tracing::info!(%machine, ?keys, "intents are done");
    Ok(())
}

async fn change(context: &Context, machine: &MachineKey, changes: &[(String, Option<String>)]) -> Result<(), Error> {
    let annotations: Map<String, Value> = changes
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().map_or(Value::Null, Value::String)))
        .collect();
    let api = context.namespaced::<VirtualMachine>(&machine.namespace);
    let patch = json!({"metadata": {"annotations": annotations}});
    match apply::patch_merge(&api, FieldManager::Lifecycle, &machine.machine, &patch).await {
        Ok(written) => {
            // The next decision may come before the watch's event, and must count this one.
            context.observed.vms.upsert(written);
            Ok(())
        }
        Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
