//! The ways of writing: server-side apply, create once, JSON patch with tests.
//!
//! Two appliers would fight over atomic lists (DESIGN §3), so such lists are changed with
//! [`patch_with_retry`] only: it reads, lets the caller compute a patch that begins with `test`s of what was
//! read, and starts again when the API server says that the world has moved on.

use std::fmt::Debug;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{InfraError, Result, optional};
use crate::labels;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldManager {
    /// The templating service.
    Templating,
    /// The scheduling service.
    Scheduling,
    /// The storage service.
    Storage,
    /// The lifecycle service.
    Lifecycle,
    /// The simulated controllers.
    Simulation,
}

impl FieldManager {
    /// The name in `metadata.managedFields`; also the name of the service's Lease.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Templating => labels::TEMPLATING_MANAGER,
            Self::Scheduling => labels::SCHEDULING_MANAGER,
            Self::Storage => labels::STORAGE_MANAGER,
            Self::Lifecycle => labels::LIFECYCLE_MANAGER,
            Self::Simulation => labels::SIMULATION_MANAGER,
        }
    }

    fn params(self) -> PatchParams {
        PatchParams {
            field_manager: Some(self.as_str().to_owned()),
            ..PatchParams::default()
        }
    }
}

/// Server-side apply of an object that the manager owns alone; conflicts are overridden.
pub async fn apply<K>(api: &Api<K>, manager: FieldManager, object: &K) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
    K::DynamicType: Default,
{
    let mut body = typed_body(object)?;
    strip_server_fields(&mut body);
    let params = PatchParams::apply(manager.as_str()).force();
    Ok(api.patch(&object.name_any(), &params, &Patch::Apply(&body)).await?)
}

/// Server-side apply of an object's status.
pub async fn apply_status<K>(api: &Api<K>, manager: FieldManager, name: &str, status: &impl Serialize) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let body = serde_json::json!({
        "apiVersion": K::api_version(&K::DynamicType::default()),
        "kind": K::kind(&K::DynamicType::default()),
        "metadata": {"name": name},
        "status": status,
    });
    let params = PatchParams::apply(manager.as_str()).force();
    Ok(api.patch_status(name, &params, &Patch::Apply(&body)).await?)
}

/// Creates an object.
///
/// # Errors
/// [`InfraError::AlreadyExists`] if the name is taken.
pub async fn create<K>(api: &Api<K>, manager: FieldManager, object: &K) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let params = PostParams {
        field_manager: Some(manager.as_str().to_owned()),
        ..PostParams::default()
    };
    Ok(api.create(&params, object).await?)
}

/// Builds a JSON patch. Paths are lists of plain keys; escaping is done here.
#[derive(Clone, Debug, Default)]
pub struct PatchBuilder {
    operations: Vec<PatchOperation>,
}

impl PatchBuilder {
    /// An empty patch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The patch holds only if the value at the path is this one.
    #[must_use]
    pub fn test(mut self, path: &[&str], value: impl Into<Value>) -> Self {
        self.operations.push(PatchOperation::Test(TestOperation {
            path: pointer(path),
            value: value.into(),
        }));
        self
    }

    /// Adds a value, or replaces it if the key exists.
    #[must_use]
    pub fn add(mut self, path: &[&str], value: impl Into<Value>) -> Self {
        self.operations.push(PatchOperation::Add(AddOperation {
            path: pointer(path),
            value: value.into(),
        }));
        self
    }

    /// Replaces a value that exists.
    #[must_use]
    pub fn replace(mut self, path: &[&str], value: impl Into<Value>) -> Self {
        self.operations.push(PatchOperation::Replace(ReplaceOperation {
            path: pointer(path),
            value: value.into(),
        }));
        self
    }

    /// Removes a value that exists.
    #[must_use]
    pub fn remove(mut self, path: &[&str]) -> Self {
        self.operations
            .push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
        self
    }

    /// The patch.
    pub fn build(self) -> JsonPatch {
        JsonPatch(self.operations)
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

/// Sends a JSON patch.
pub async fn patch_json<K>(api: &Api<K>, manager: FieldManager, name: &str, patch: JsonPatch) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    Ok(api.patch(name, &manager.params(), &Patch::Json::<()>(patch)).await?)
}

/// Sends a JSON merge patch.
pub async fn patch_merge<K>(api: &Api<K>, manager: FieldManager, name: &str, patch: &Value) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    Ok(api.patch(name, &manager.params(), &Patch::Merge(patch)).await?)
}

/// How often [`patch_with_retry`] reads anew before it gives up. Five covers every case of two or three
/// controllers writing one object at once; more only hides a fight.
const PATCH_ATTEMPTS: usize = 5;

/// Reads, computes a patch, sends it; starts again on 409 and on a failed `test` (422).
///
/// `compute` returns `None` when nothing is to be done; the object as read is returned then.
///
/// # Errors
/// The last [`InfraError::Conflict`] or [`InfraError::Invalid`] when all attempts are used up.
pub async fn patch_with_retry<K>(
    api: &Api<K>,
    manager: FieldManager,
    name: &str,
    mut compute: impl FnMut(&K) -> Option<JsonPatch>,
) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut attempt = 1;
    loop {
        let read = api.get(name).await?;
        let Some(patch) = compute(&read) else {
            return Ok(read);
        };
        match patch_json(api, manager, name, patch).await {
            Err(InfraError::Conflict(_) | InfraError::Invalid(_)) if attempt < PATCH_ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// Takes a finalizer off, if it is on. An object that is gone already is fine.
pub async fn remove_finalizer<K>(api: &Api<K>, manager: FieldManager, name: &str, finalizer: &str) -> Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let outcome = patch_with_retry(api, manager, name, |object| {
        let index = object
            .finalizers()
            .iter()
            .position(|found| found == finalizer)?
            .to_string();
        let path = ["metadata", "finalizers", index.as_str()];
        Some(PatchBuilder::new().test(&path, finalizer).remove(&path).build())
    })
    .await;
    match outcome {
        Ok(_) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts a finalizer on, if it is not on.
pub async fn add_finalizer<K>(api: &Api<K>, manager: FieldManager, name: &str, finalizer: &str) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    patch_with_retry(api, manager, name, |object| {
        if object.finalizers().iter().any(|found| found == finalizer) || object.meta().deletion_timestamp.is_some() {
            return None;
        }
        let version = object.resource_version().unwrap_or_default();
        let builder = PatchBuilder::new().test(&["metadata", "resourceVersion"], version);
        Some(match object.meta().finalizers {
            Some(_) => builder.add(&["metadata", "finalizers", "-"], finalizer).build(),
            None => builder.add(&["metadata", "finalizers"], vec![finalizer]).build(),
        })
    })
    .await
}

/// Deletes an object in the background; only that very one if preconditions are given. Gone already is fine.
///
/// # Errors
/// [`InfraError::Conflict`] if a precondition does not hold.
pub async fn delete<K>(api: &Api<K>, name: &str, preconditions: Option<Preconditions>) -> Result<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions,
        ..DeleteParams::default()
    };
    optional(api.delete(name, &params).await).map(|_| ())
}

fn typed_body<K>(object: &K) -> Result<Value>
where
    K: Resource + Serialize,
    K::DynamicType: Default,
{
    let mut body = serde_json::to_value(object).map_err(|error| InfraError::from(kube::Error::SerdeError(error)))?;
    if let Some(map) = body.as_object_mut() {
        map.insert(
            "apiVersion".to_owned(),
            K::api_version(&K::DynamicType::default()).into(),
        );
        map.insert("kind".to_owned(), K::kind(&K::DynamicType::default()).into());
    }
    Ok(body)
}

/// Fields that only the server writes must not be in an applied configuration.
fn strip_server_fields(body: &mut Value) {
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in [
            "managedFields",
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "generation",
        ] {
            metadata.remove(key);
        }
    }
    if let Some(map) = body.as_object_mut() {
        map.remove("status");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_slashes_are_escaped_in_patches() {
        let patch = PatchBuilder::new()
            .test(&["metadata", "annotations", labels::ATTACH_TO], "m")
            .remove(&["metadata", "annotations", labels::ATTACH_TO])
            .build();
        let mut object = serde_json::json!({"metadata": {"annotations": {"steading.dev/attach-to": "m"}}});
        assert!(json_patch::patch(&mut object, &patch).is_ok());
        assert_eq!(object, serde_json::json!({"metadata": {"annotations": {}}}));
    }
}
