//! Create, Update and Delete.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use steading_api::{error::RpcError, reflect, types::v1::ErrorReason};

use super::{Collection, kube_error, read::fetch};
use crate::{
    CallContext,
    auth::{Action, Verb},
    clock::Clock,
};

/// Attempts of an update without an etag: each lost race is somebody else's progress.
const MAX_ATTEMPTS: usize = 5;

/// What a create call asks for.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest<M> {
    /// The parent; empty for shared collections.
    pub parent: String,
    /// Last segment of the name.
    pub id: String,
    /// What is wanted.
    pub message: Option<M>,
    /// UUID of the attempt.
    pub request_id: String,
    /// Check only.
    pub validate_only: bool,
}

/// What an update call asks for.
#[derive(Debug, Clone, Default)]
pub struct UpdateRequest<M> {
    /// The new values.
    pub message: Option<M>,
    /// Fields to write.
    pub mask: Option<prost_types::FieldMask>,
    /// UUID of the attempt.
    pub request_id: String,
    /// Check only.
    pub validate_only: bool,
}

/// What a delete call asks for.
#[derive(Debug, Clone, Default)]
pub struct DeleteRequest {
    /// Which.
    pub name: String,
    /// Must be the present etag, if set.
    pub etag: String,
    /// Succeed if there is none.
    pub allow_missing: bool,
    /// UUID of the attempt.
    pub request_id: String,
    /// Check only.
    pub validate_only: bool,
}

/// Creates a resource, or returns what the same request has created before.
///
/// # Errors
/// If it exists already, something in it is wrong, or the caller may not.
pub async fn create<C: Collection>(
    collection: &C,
    context: &CallContext,
    request: &CreateRequest<C::Message>,
) -> Result<C::Message, RpcError> {
    let name = collection.name_in(&request.parent, &request.id)?;
    let object_name = collection.object_name(&name)?;
    check_request_id(&request.request_id)?;
    let message = request.message.as_ref().ok_or_else(|| missing(C::FIELD))?;
    context
        .authorize(Action::new(Verb::Create, C::KIND, &request.parent))
        .await?;

    let api = collection.api(&name)?;
    let wanted = async {
        let object = collection.object(&name, message, None).await?;
        collection.before_write(&name, &object, None).await?;
        Ok::<_, RpcError>(object)
    };
    // On the heap: what looks up references is large.
    let mut object = match Box::pin(wanted).await {
        Ok(object) if !request.validate_only => object,
        // That it exists already is told first, whatever else is wrong. What is right is told so by the write itself.
        outcome => {
            let found = api
                .get_opt(&object_name)
                .await
                .map_err(|e| kube_error(C::KIND, &name, &e))?;
            if let Some(existing) = found {
                return replay(collection, request, message, &name, &existing).await;
            }
            outcome?
        }
    };
    let hash = content_hash(&object)?;
    let meta = object.meta_mut();
    meta.name = Some(object_name.clone());
    meta.resource_version = None;
    meta.uid = None;
    if !request.request_id.is_empty() {
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(C::KEYS.request_id.to_owned(), request.request_id.clone());
        annotations.insert(C::KEYS.request_hash.to_owned(), hash.clone());
    }
    let stored = if request.validate_only {
        object
    } else {
        match api.create(&PostParams::default(), &object).await {
            Ok(stored) => {
                tracing::info!(kind = C::KIND, name, "created");
                collection.after_write(&stored).await?;
                stored
            }
            // Somebody was faster, possibly this very request on another replica.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let existing = fetch(collection, &name, &object_name).await?;
                return replay(collection, request, message, &name, &existing).await;
            }
            // What is to be created cannot be missing; its namespace or its kind is.
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                return Err(RpcError::new(
                    ErrorReason::CapabilityMissing,
                    format!("the infra cluster is not prepared for {name}: {}", status.message),
                )
                .with_resource(C::KIND, &name));
            }
            Err(error) => return Err(kube_error(C::KIND, &name, &error)),
        }
    };
    collection.message(&stored).ok_or_else(RpcError::internal)
}

async fn replay<C: Collection>(
    collection: &C,
    request: &CreateRequest<C::Message>,
    message: &C::Message,
    name: &str,
    existing: &C::Object,
) -> Result<C::Message, RpcError> {
    let annotation = |key: &str| existing.annotations().get(key).map_or("", String::as_str);
    let same_request = !request.request_id.is_empty() && annotation(C::KEYS.request_id) == request.request_id;
    if !same_request {
        return Err(RpcError::already_exists(C::KIND, name));
    }
    let hash = content_hash(&collection.object(name, message, None).await?)?;
    if annotation(C::KEYS.request_hash) != hash {
        return Err(reused(&request.request_id).with_resource(C::KIND, name));
    }
    collection
        .message(existing)
        .ok_or_else(|| RpcError::already_exists(C::KIND, name))
}

/// Changes fields of a resource.
///
/// # Errors
/// If it does not exist, changed meanwhile, something in it is wrong, or the caller may not.
pub async fn update<C: Collection>(
    collection: &C,
    context: &CallContext,
    request: &UpdateRequest<C::Message>,
) -> Result<C::Message, RpcError> {
    let wanted = request.message.as_ref().ok_or_else(|| missing(C::FIELD))?;
    let (name, etag) = collection.identity(wanted);
    let object_name = collection
        .object_name(name)
        .map_err(|e| e.with_metadata("field", format!("{}.name", C::FIELD)))?;
    check_request_id(&request.request_id)?;
    context.authorize(Action::new(Verb::Update, C::KIND, name)).await?;
    let api = collection.api(name)?;
    let mark = UpdateMark::of::<C>(wanted, request)?;

    for attempt in 1..=MAX_ATTEMPTS {
        let current = fetch(collection, name, &object_name).await?;
        let before = collection
            .message(&current)
            .ok_or_else(|| RpcError::not_found(C::KIND, name))?;
        if let Some(mark) = &mark
            && mark.is_on(&current)
        {
            return mark.check(&current, C::KIND, name).map(|()| before);
        }
        check_etag::<C>(etag, name, &current)?;
        if current.meta().deletion_timestamp.is_some() {
            return Err(
                RpcError::new(ErrorReason::ResourceDeleting, format!("{name} is being deleted"))
                    .with_resource(C::KIND, name),
            );
        }
        collection.guard(&current)?;
        let after = reflect::update(C::MESSAGE, C::FIELD, &before, wanted, request.mask.as_ref())?;
        if after == before {
            return Ok(before);
        }
        let mut object = collection.object(name, &after, Some(&current)).await?;
        collection.before_write(name, &object, Some(&current)).await?;
        if let Some(mark) = &mark {
            mark.put(&mut object);
        }
        let version = current.meta().resource_version.clone();
        object.meta_mut().name = Some(object_name.clone());
        object.meta_mut().resource_version = version;
        if request.validate_only {
            return collection.message(&object).ok_or_else(RpcError::internal);
        }
        match api.replace(&object_name, &PostParams::default(), &object).await {
            Ok(stored) => {
                tracing::info!(kind = C::KIND, name, "updated");
                collection.after_write(&stored).await?;
                return collection.message(&stored).ok_or_else(RpcError::internal);
            }
            Err(kube::Error::Api(status)) if status.is_conflict() && etag.is_empty() && attempt < MAX_ATTEMPTS => {}
            Err(kube::Error::Api(status)) if status.is_conflict() && !etag.is_empty() => {
                return Err(RpcError::etag_mismatch(C::KIND, name));
            }
            Err(error) => return Err(kube_error(C::KIND, name, &error)),
        }
    }
    Err(RpcError::new(
        ErrorReason::Conflict,
        format!("{name} is being changed by others all the time"),
    )
    .with_resource(C::KIND, name))
}

/// What an update leaves on its object, so that the same request again changes nothing and is no stale one either.
struct UpdateMark {
    id_key: String,
    hash_key: String,
    id: String,
    hash: String,
}

impl UpdateMark {
    /// The mark of a request; `None` if it has no id.
    fn of<C: Collection>(wanted: &C::Message, request: &UpdateRequest<C::Message>) -> Result<Option<Self>, RpcError> {
        if request.request_id.is_empty() {
            return Ok(None);
        }
        let content = (
            reflect::dynamic(C::MESSAGE, wanted)?,
            request.mask.as_ref().map(|mask| &mask.paths),
        );
        Ok(Some(Self {
            // Beside those of the create, which may be repeated still.
            id_key: format!("{}.update", C::KEYS.request_id),
            hash_key: format!("{}.update", C::KEYS.request_hash),
            id: request.request_id.clone(),
            hash: content_hash(&content)?,
        }))
    }

    fn is_on<K: Resource>(&self, object: &K) -> bool {
        object.annotations().get(&self.id_key) == Some(&self.id)
    }

    fn check<K: Resource>(&self, object: &K, kind: &str, name: &str) -> Result<(), RpcError> {
        if object.annotations().get(&self.hash_key) == Some(&self.hash) {
            return Ok(());
        }
        Err(reused(&self.id).with_resource(kind, name))
    }

    fn put<K: Resource>(&self, object: &mut K) {
        let annotations = object.annotations_mut();
        annotations.insert(self.id_key.clone(), self.id.clone());
        annotations.insert(self.hash_key.clone(), self.hash.clone());
    }
}

fn reused(id: &str) -> RpcError {
    RpcError::new(
        ErrorReason::RequestIdReused,
        format!("request id {id} was used before with other content"),
    )
}

/// Deletes a resource and returns it as it goes.
///
/// # Errors
/// If it does not exist, is used by others, or the caller may not.
pub async fn delete<C: Collection>(
    collection: &C,
    context: &CallContext,
    clock: &Clock,
    request: &DeleteRequest,
) -> Result<C::Message, RpcError> {
    let name = request.name.as_str();
    let object_name = collection.object_name(name)?;
    check_request_id(&request.request_id)?;
    context.authorize(Action::new(Verb::Delete, C::KIND, name)).await?;
    let mut attempt = 1;
    loop {
        match delete_as_read(collection, clock, request, &object_name).await {
            // Without an etag any version may go, once it has been looked at.
            Err(error)
                if error.reason() == ErrorReason::Conflict && request.etag.is_empty() && attempt < MAX_ATTEMPTS =>
            {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Reads the object and deletes just that version.
async fn delete_as_read<C: Collection>(
    collection: &C,
    clock: &Clock,
    request: &DeleteRequest,
    object_name: &str,
) -> Result<C::Message, RpcError> {
    let name = request.name.as_str();
    let current = match fetch(collection, name, object_name).await {
        Err(error) if request.allow_missing && error.reason() == ErrorReason::ResourceNotFound => {
            return Ok(C::Message::default());
        }
        found => found?,
    };
    let mut last = collection
        .message(&current)
        .ok_or_else(|| RpcError::not_found(C::KIND, name))?;
    check_etag::<C>(&request.etag, name, &current)?;
    collection.guard(&current)?;
    if current.meta().deletion_timestamp.is_some() {
        return Ok(last);
    }
    collection.before_delete(&current).await?;
    let mut going = current.clone();
    going.meta_mut().deletion_timestamp = Some(Time(clock.now()));
    if let Some(message) = collection.message(&going) {
        last = message;
    }
    if request.validate_only {
        return Ok(last);
    }
    // What was looked at is what goes: not a namesake that was made since, nor a version that others now use.
    let exact = Preconditions {
        uid: current.meta().uid.clone(),
        resource_version: current.meta().resource_version.clone(),
    };
    let params = DeleteParams {
        preconditions: Some(exact),
        ..DeleteParams::default()
    };
    match collection.api(name)?.delete(object_name, &params).await {
        Ok(outcome) => {
            tracing::info!(kind = C::KIND, name, "deletion begun");
            let going = outcome
                .left()
                .filter(|object| object.meta().deletion_timestamp.is_some());
            Ok(going.and_then(|object| collection.message(&object)).unwrap_or(last))
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(last),
        Err(kube::Error::Api(status)) if status.is_conflict() && !request.etag.is_empty() => {
            Err(RpcError::etag_mismatch(C::KIND, name))
        }
        Err(error) => Err(kube_error(C::KIND, name, &error)),
    }
}
fn check_etag<C: Collection>(etag: &str, name: &str, current: &C::Object) -> Result<(), RpcError> {
    if etag.is_empty() || current.meta().resource_version.as_deref() == Some(etag) {
        Ok(())
    } else {
        Err(RpcError::etag_mismatch(C::KIND, name))
    }
}

fn check_request_id(id: &str) -> Result<(), RpcError> {
    if id.is_empty() || uuid::Uuid::try_parse(id).is_ok() {
        return Ok(());
    }
    Err(RpcError::new(ErrorReason::InvalidField, "request_id: must be a UUID")
        .with_field("request_id", "must be a UUID"))
}

fn missing(field: &str) -> RpcError {
    RpcError::new(ErrorReason::InvalidField, format!("{field}: must be set")).with_field(field, "must be set")
}

/// Digest of what a create wants, made from the object before anybody has seen it.
fn content_hash<K: Serialize>(object: &K) -> Result<String, RpcError> {
    let value = serde_json::to_value(object).map_err(|_| RpcError::internal())?;
    let mut text = String::new();
    canonical(&value, &mut text);
    Ok(Sha256::digest(text)
        .iter()
        .take(16)
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }))
}

/// JSON with sorted keys: maps of messages have no order of their own.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            text.push('{');
            for key in keys {
                canonical(&Value::String(key.clone()), text);
                text.push(':');
                canonical(map.get(key).unwrap_or(&Value::Null), text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(list) => {
            text.push('[');
            for item in list {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter_and_everything_else_does() {
        let hash = |value: Value| content_hash(&value).expect("a hash");
        assert_eq!(
            hash(json!({"a": 1, "b": {"c": 2, "d": 3}})),
            hash(json!({"b": {"d": 3, "c": 2}, "a": 1}))
        );
        assert_ne!(hash(json!({"a": "12"})), hash(json!({"a": "21"})));
        assert_ne!(hash(json!({"a": [1, 2]})), hash(json!({"a": [2, 1]})));
        assert_ne!(hash(json!({"a": {"b": 1}})), hash(json!({"a": {}, "b": 1})));
    }
}
