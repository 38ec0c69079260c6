//! Create, update and patch: from a received object to a committed one.
//!
//! Updates and patches are optimistic, as against etcd: read, build the next state, commit against what was read, again if somebody was faster
//! (unless the client named the resourceVersion that it had in mind; then it loses with 409).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    admission,
    body::{check_identity, decode},
    convert, crd, dig, duplicates,
    exchange::{Answer, Target},
    managed::{self, Intent},
    output::Writer,
    prepare, scheduling,
    status::{ApiError, Cause},
    store::{Key, Object},
    terminating,
};

/// How often a write without a resourceVersion is tried again when others are faster.
const ATTEMPTS: usize = 32;

fn decode_object(target: &Target<'_>, body: &Bytes) -> Result<Value, ApiError> {
    let media = target.info.content_type.as_str();
    if !matches!(
        media,
        "" | "*/*" | "application/json" | "application/yaml" | "application/vnd.kubernetes.protobuf"
    ) {
        return Err(ApiError::unsupported_media_type(
            "accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        ));
    }
    let mut object = decode(body, media)?;
    if !object.is_object() {
        return Err(ApiError::bad_request("the body must be an object"));
    }
    let (kind, api_version) = (target.def.kind.as_str(), target.def.api_version(&target.version.name));
    for (key, expected) in [("kind", kind), ("apiVersion", api_version.as_str())] {
        let got = dig::text(&object, &[key]);
        if !got.is_empty() && got != expected {
            let key = match key {
                "apiVersion" => "API version",
                other => other,
            };
            return Err(ApiError::bad_request(format!(
                "the {key} in the data ({got}) does not match the expected {key} ({expected})"
            )));
        }
    }
    dig::object(&mut object).insert("kind".to_owned(), json!(kind));
    check_duplicates(target, body)?;
    convert::to_storage(target.def, &mut object);
    Ok(object)
}

/// Fields that are said twice, which parsing hides, are refused where the client asks for it.
fn check_duplicates(target: &Target<'_>, body: &Bytes) -> Result<(), ApiError> {
    if target.info.query.get("fieldValidation") != Some("Strict") {
        return Ok(());
    }
    let twice = duplicate_fields(body);
    if twice.is_empty() {
        Ok(())
    } else {
        Err(crd::strictly_refused(target, &twice))
    }
}

fn duplicate_fields(body: &Bytes) -> Vec<String> {
    let paths = duplicates::find(body).into_iter();
    paths.map(|path| format!("duplicate field \"{path}\"")).collect()
}

/// What a client that does not ask for less is told of fields that it said twice.
fn duplicate_warnings(target: &Target<'_>, body: &Bytes) -> Vec<String> {
    match target.info.query.get("fieldValidation") {
        None | Some("Warn") => duplicate_fields(body),
        _ => Vec::new(),
    }
}

/// POST to a collection.
pub(crate) async fn create(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    if target.info.name.is_some() {
        return Err(ApiError::method_not_allowed());
    }
    let mut object = decode_object(target, body)?;
    let generate = dig::meta(&object, "generateName").to_owned();
    let generated = dig::meta(&object, "name").is_empty() && !generate.is_empty();
    let mut last = None;
    for _ in 0..8 {
        if generated {
            let prefix: String = generate.chars().take(58).collect();
            dig::set_meta(&mut object, "name", format!("{prefix}{}", target.server.name_suffix()));
        }
        match create_object(target, object.clone(), Intent::Update).await {
            Err(error) if generated && error.reason == "AlreadyExists" => last = Some(error),
            other => {
                return other.map(|mut answer| {
                    answer.warnings.extend(duplicate_warnings(target, body));
                    answer
                });
            }
        }
    }
    Err(last.unwrap_or_else(|| ApiError::internal("could not generate a name")))
}

/// Checks and commits a new object.
pub(crate) async fn create_object(target: &Target<'_>, mut object: Value, intent: Intent) -> Result<Answer, ApiError> {
    let def = target.def;
    if dig::meta(&object, "name").is_empty() {
        let cause = Cause::new(
            "FieldValueRequired",
            "metadata.name",
            "Required value: name or generateName is required",
        );
        return Err(ApiError::invalid(def, "", vec![cause]));
    }
    if !dig::meta(&object, "resourceVersion").is_empty() {
        return Err(ApiError::new(
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ));
    }
    check_namespace(target, &mut object)?;
    let key = Key::new(target.info.ns(), dig::meta(&object, "name"));
    let gone_status =
        dig::object(&mut object).get("status").is_some() && !prepare::keeps_new_status(def, target.version.status);
    if gone_status {
        dig::object(&mut object).remove("status");
    }
    prepare::stamp_new(target.server, def, &mut object);
    prepare::defaults(def, &mut object);
    scheduling::complete(target.server, def, &mut object);
    let mut warnings = admission::admit(target, None, &mut object).await?;
    warnings.extend(crd::admit_schema(target, None, &mut object)?);
    super::names::check(def, &object)?;
    if let Some(taken) = target.collection.get(&key) {
        return Err(if dig::is_terminating(&taken.value) {
            ApiError::still_deleted(def, &key.name)
        } else {
            ApiError::already_exists(def, &key.name)
        });
    }
    managed::record(target, None, &mut object, &intent);
    prepare::allocate(target.server, def, None, &mut object);
    let writer = Writer::new(target)?;
    if target.info.dry_run() {
        let mut answer = Answer::bytes(201, writer.value(&object));
        answer.warnings = warnings;
        return Ok(answer);
    }
    let stored = target
        .collection
        .commit(&key, None, object)
        .map_err(|_| ApiError::already_exists(def, &key.name))?;
    crd::object_written(target.server, def, &stored.value);
    let mut answer = Answer::bytes(201, writer.object(&stored));
    answer.warnings = warnings;
    Ok(answer)
}

fn check_namespace(target: &Target<'_>, object: &mut Value) -> Result<(), ApiError> {
    if !target.def.namespaced() {
        return Ok(());
    }
    let namespace = target.info.ns();
    let said = dig::meta(object, "namespace");
    if !said.is_empty() && said != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    dig::set_meta(object, "namespace", namespace);
    let Some(namespaces) = target.server.store().collection("", "namespaces") else {
        return Ok(());
    };
    let Some(found) = namespaces.get(&Key::new("", namespace)) else {
        return Err(ApiError::not_found(&namespaces.def(), namespace));
    };
    if dig::is_terminating(&found.value) {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = Cause::new(
            "NamespaceTerminating",
            "metadata.namespace",
            format!("namespace {namespace} is being terminated"),
        );
        return Err(ApiError::forbidden(target.def, dig::meta(object, "name"), &why).with_cause(cause));
    }
    Ok(())
}

/// PUT of one object.
pub(crate) async fn update(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    let sent = decode_object(target, body)?;
    let key = target.key()?;
    check_identity(&sent, key.name.as_str(), target.info.ns())?;
    if dig::meta(&sent, "resourceVersion").is_empty() && target.def.origin == super::Origin::Custom {
        let cause = Cause::new(
            "FieldValueInvalid",
            "metadata.resourceVersion",
            "Invalid value: 0x0: must be specified for an update",
        );
        return Err(ApiError::invalid(target.def, &key.name, vec![cause]));
    }
    modify(target, &key, Intent::Update, |_| Ok(sent.clone())).await
}

/// Reads, builds the next state by `build`, checks and commits it.
pub(crate) async fn modify(
    target: &Target<'_>,
    key: &Key,
    intent: Intent,
    build: impl Fn(&Value) -> Result<Value, ApiError>,
) -> Result<Answer, ApiError> {
    for _ in 0..ATTEMPTS {
        let current = target
            .collection
            .get(key)
            .ok_or_else(|| ApiError::not_found(target.def, &key.name))?;
        let sent = build(&current.value)?;
        check_preconditions(target, &current, &sent)?;
        let pinned = dig::meta(&sent, "resourceVersion") == current.revision.to_string()
            && matches!(target.info.verb, super::Verb::Update);
        let mut next = compose(target, &current.value, sent);
        match advance(target, key, &current, &mut next, &intent).await? {
            Some(answer) => return Ok(answer),
            None if pinned => return Err(ApiError::modified(target.def, &key.name)),
            None => {}
        }
    }
    Err(ApiError::modified(target.def, &key.name))
}

fn check_preconditions(target: &Target<'_>, current: &Object, sent: &Value) -> Result<(), ApiError> {
    let name = dig::meta(&current.value, "name");
    let version = dig::meta(sent, "resourceVersion");
    if !version.is_empty() && version != current.revision.to_string() {
        return Err(ApiError::modified(target.def, name));
    }
    let (uid, own) = (dig::meta(sent, "uid"), dig::meta(&current.value, "uid"));
    if !uid.is_empty() && uid != own && target.info.verb == super::Verb::Patch {
        return Err(immutable(target, name, "metadata.uid", uid));
    }
    if !uid.is_empty() && uid != own {
        let place = ["namespace", "name"]
            .map(|key| dig::meta(&current.value, key))
            .join("/");
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{}/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {own}",
            target.def.plural,
            place.trim_start_matches('/'),
        );
        return Err(ApiError::conflict(target.def, name, &why));
    }
    let deletion = dig::meta(sent, "deletionTimestamp");
    if !deletion.is_empty() && deletion != dig::meta(&current.value, "deletionTimestamp") {
        return Err(immutable(target, name, "metadata.deletionTimestamp", deletion));
    }
    Ok(())
}

fn immutable(target: &Target<'_>, name: &str, field: &str, value: &str) -> ApiError {
    let message = format!("Invalid value: \"{value}\": field is immutable");
    let cause = Cause::new("FieldValueInvalid", field, message);
    ApiError::invalid(target.def, name, vec![cause])
}

/// The next state: what was sent, less what this (sub)resource may not change.
fn compose(target: &Target<'_>, current: &Value, mut sent: Value) -> Value {
    const SERVER_SAYS: [&str; 8] = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    let is_status = target.info.subresource.as_deref() == Some("status");
    let mut next = if is_status {
        let mut next = current.clone();
        let from = dig::object(&mut sent);
        let built_in = target.def.origin == super::Origin::BuiltIn;
        match from.get("status") {
            Some(status) => dig::object(&mut next).insert("status".to_owned(), status.clone()),
            None => dig::object(&mut next).remove("status"),
        };
        if let Some(metadata) = from.get("metadata").filter(|_| built_in) {
            for key in ["labels", "annotations", "finalizers", "managedFields"] {
                match metadata.get(key) {
                    Some(value) => dig::metadata(&mut next).insert(key.to_owned(), value.clone()),
                    None => dig::metadata(&mut next).remove(key),
                };
            }
        }
        next
    } else {
        sent
    };
    let binds = target.info.subresource.as_deref() == Some("binding");
    if !is_status && !binds && target.version.status {
        match current.get("status") {
            Some(status) => dig::object(&mut next).insert("status".to_owned(), status.clone()),
            None => dig::object(&mut next).remove("status"),
        };
    }
    let metadata = dig::metadata(&mut next);
    metadata.remove("selfLink");
    for key in SERVER_SAYS {
        match dig::at(current, &["metadata", key]) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.remove(key),
        };
    }
    for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
        if metadata.get(key).is_some_and(super::dig::is_void) {
            metadata.remove(key);
        }
    }
    next
}

/// Checks the next state and commits it; none if somebody was faster.
async fn advance(
    target: &Target<'_>,
    key: &Key,
    current: &Arc<Object>,
    next: &mut Value,
    intent: &Intent,
) -> Result<Option<Answer>, ApiError> {
    let def = target.def;
    prepare::defaults(def, next);
    prepare::allocate(target.server, def, Some(&current.value), next);
    let mut warnings = admission::admit(target, Some(&current.value), next).await?;
    warnings.extend(crd::admit_schema(target, Some(&current.value), next)?);
    super::names::check(def, next)?;
    check_terminating(target, &current.value, next)?;
    if def.has_generation() && spec_changed(def, &current.value, next) {
        let generation = dig::at(&current.value, &["metadata", "generation"])
            .and_then(Value::as_i64)
            .unwrap_or(0);
        dig::set_meta(next, "generation", generation + 1);
    }
    managed::record(target, Some(&current.value), next, intent);
    let writer = Writer::new(target)?;
    let finish = |mut answer: Answer| {
        answer.warnings.clone_from(&warnings);
        Ok(Some(answer))
    };
    if same(&current.value, next) {
        return finish(Answer::bytes(200, writer.object(current)));
    }
    if target.info.dry_run() {
        return finish(Answer::bytes(200, writer.value(next)));
    }
    let last_finalizer =
        dig::is_terminating(next) && dig::finalizers(next).next().is_none() && terminating::may_go(def, next);
    if last_finalizer {
        // Watchers see it as it was; the writer sees what it wrote.
        let Ok(stored) = target.collection.remove(key, current.revision, current.value.clone()) else {
            return Ok(None);
        };
        crd::object_removed(target.server, def, &stored.value);
        return finish(Answer::bytes(200, writer.value(next)));
    }
    let committed = target
        .collection
        .commit(key, Some(current.revision), std::mem::take(next));
    let Ok(stored) = committed else {
        return Ok(None);
    };
    crd::object_written(target.server, def, &stored.value);
    finish(Answer::bytes(200, writer.object(&stored)))
}

fn check_terminating(target: &Target<'_>, current: &Value, next: &Value) -> Result<(), ApiError> {
    if !dig::is_terminating(current) {
        return Ok(());
    }
    let added: Vec<&str> = dig::finalizers(next)
        .filter(|finalizer| dig::finalizers(current).all(|old| old != *finalizer))
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
    let message = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        list.join(", ")
    );
    let cause = Cause::new("FieldValueForbidden", "metadata.finalizers", message);
    let mut error = ApiError::invalid(target.def, dig::meta(current, "name"), vec![cause.clone()]);
    // Built-in kinds check this twice; the message says it once.
    if target.def.origin == super::Origin::BuiltIn {
        error.details.causes.push(cause);
    }
    Err(error)
}

fn spec_changed(def: &super::ResourceDef, current: &Value, next: &Value) -> bool {
    let counts = |key: &str| key != "metadata" && (key != "status" || !def.has_status());
    let (Some(old), Some(new)) = (current.as_object(), next.as_object()) else {
        return true;
    };
    old.iter()
        .filter(|(key, _)| counts(key))
        .any(|(key, value)| new.get(key) != Some(value))
        || new.keys().filter(|key| counts(key)).any(|key| !old.contains_key(key))
}

/// Whether nothing changes but the times in the managers' records.
fn same(current: &Value, next: &Value) -> bool {
    let (Some(old), Some(new)) = (current.as_object(), next.as_object()) else {
        return false;
    };
    let rest = |map: &Map<String, Value>, other: &Map<String, Value>| {
        map.iter()
            .all(|(key, value)| key == "metadata" || other.get(key) == Some(value))
    };
    let inner = |object: &Value, other: &Value| {
        let map = dig::at(object, &["metadata"]).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .all(|(key, value)| key == "managedFields" || dig::at(other, &["metadata", key]) == Some(value))
    };
    rest(old, new) && rest(new, old) && inner(current, next) && inner(next, current) && same_managers(current, next)
}

fn same_managers(current: &Value, next: &Value) -> bool {
    let managers = |object| dig::items(object, &["metadata", "managedFields"]);
    let (old, new) = (managers(current), managers(next));
    let timeless = |entry: &Value, other: &Value| {
        let map = entry.as_object();
        map.into_iter()
            .flatten()
            .all(|(key, value)| key == "time" || other.get(key) == Some(value))
    };
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(old, new)| timeless(old, new) && timeless(new, old))
}
