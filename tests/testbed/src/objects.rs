//! Objects of any kind, applied as JSON.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

/// Who the test bed is to the API server.
const FIELD_MANAGER: &str = "steading-testbed";
/// Applies under way at once: enough for a fast bring-up, far below what an API server refuses.
const AT_ONCE: usize = 16;

/// The API of an object's kind, and its name.
///
/// # Errors
/// An object without kind or name.
pub fn api_of(client: &Client, object: &Value) -> anyhow::Result<(Api<DynamicObject>, String)> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let version = text("/apiVersion").context("an object has no apiVersion")?;
    let kind = text("/kind").context("an object has no kind")?;
    let name = text("/metadata/name").with_context(|| format!("a {kind} has no name"))?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api = match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, name.to_owned()))
}

/// Applies one.
///
/// # Errors
/// What the API server says.
pub async fn apply(client: &Client, object: &Value) -> anyhow::Result<DynamicObject> {
    let (api, name) = api_of(client, object)?;
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("cannot apply {} {name}", object["kind"]))
}

/// Applies many that do not depend on one another.
///
/// # Errors
/// The first that is refused.
pub async fn apply_all(client: &Client, objects: &[Value]) -> anyhow::Result<()> {
    futures::stream::iter(objects)
        .map(|object| apply(client, object))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
}

/// Merges into the status of one.
///
/// # Errors
/// What the API server says.
pub async fn patch_status(client: &Client, object: &Value, status: &Value) -> anyhow::Result<()> {
    let (api, name) = api_of(client, object)?;
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .with_context(|| format!("cannot write the status of {} {name}", object["kind"]))?;
    Ok(())
}

/// Whether a condition of an object is true.
///
/// # Errors
/// When it cannot be read.
pub async fn has_condition(client: &Client, object: &Value, condition: &str) -> anyhow::Result<bool> {
    let (api, name) = api_of(client, object)?;
    let Some(found) = api.get_opt(&name).await? else {
        return Ok(false);
    };
    let conditions = found.data.pointer("/status/conditions").and_then(Value::as_array);
    let holds = conditions
        .into_iter()
        .flatten()
        .any(|found| found["type"] == condition && found["status"] == "True");
    tracing::trace!(name = found.name_any(), condition, holds);
    Ok(holds)
}
