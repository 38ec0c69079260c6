//! Deletion: preconditions, grace, finalizers, propagation.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    PodDeletion, admission,
    body::decode,
    crd, dig,
    exchange::{Answer, Target},
    output::Writer,
    read,
    resource::ResourceDef,
    status::{self, ApiError, Cause},
    store::{Key, Object},
    terminating::is_namespace,
};

const ATTEMPTS: usize = 32;

struct Options {
    uid: Option<String>,
    revision: Option<String>,
    grace: Option<i64>,
    propagation: Option<String>,
    dry_run: bool,
}

impl Options {
    fn parse(target: &Target<'_>, body: &Bytes) -> Result<Self, ApiError> {
        let body = decode(body, &target.info.content_type)?;
        let text = |path: &[&str]| Some(dig::text(&body, path).to_owned()).filter(|text| !text.is_empty());
        let query = &target.info.query;
        let grace = dig::at(&body, &["gracePeriodSeconds"]).and_then(Value::as_i64);
        let grace = grace.or_else(|| query.get("gracePeriodSeconds").and_then(|text| text.parse().ok()));
        let propagation = text(&["propagationPolicy"])
            .or_else(|| query.get("propagationPolicy").map(str::to_owned))
            .or_else(|| {
                let orphan = dig::at(&body, &["orphanDependents"]).and_then(Value::as_bool)?;
                Some(if orphan { "Orphan" } else { "Background" }.to_owned())
            });
        let kind = dig::text(&body, &["kind"]);
        if !matches!(kind, "" | "DeleteOptions") {
            return Err(ApiError::bad_request(format!(
                "no kind {kind:?} is registered for version \"v1\" in scheme \"pkg/runtime/scheme.go:111\""
            )));
        }
        check_propagation(&body, propagation.as_deref())?;
        Ok(Self {
            uid: text(&["preconditions", "uid"]),
            revision: text(&["preconditions", "resourceVersion"]),
            grace,
            propagation,
            dry_run: target.info.dry_run() || dig::items(&body, &["dryRun"]).iter().any(|said| said == "All"),
        })
    }
}

fn check_propagation(body: &Value, policy: Option<&str>) -> Result<(), ApiError> {
    let refuse = |reason: &str, message: String| {
        Err(ApiError::invalid_options(
            "DeleteOptions",
            Cause::new(reason, "propagationPolicy", message),
        ))
    };
    let both = [["propagationPolicy"], ["orphanDependents"]].map(|path| dig::at(body, &path).is_some());
    match policy {
        Some(policy) if both == [true, true] => refuse(
            "FieldValueInvalid",
            format!("Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"),
        ),
        None | Some("Background" | "Foreground" | "Orphan") => Ok(()),
        Some(policy) => refuse(
            "FieldValueNotSupported",
            format!(
                "Unsupported value: {policy:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            ),
        ),
    }
}

/// DELETE of one object.
pub(crate) async fn one(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    let key = target.key()?;
    let options = Options::parse(target, body)?;
    delete(target, &key, &options).await
}

/// DELETE of all objects that match.
pub(crate) async fn collection(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    let options = Options::parse(target, body)?;
    let selection = read::selection(target)?;
    let (objects, revision) = target.collection.list(target.info.ns());
    let mut gone = Vec::new();
    for object in objects.into_iter().filter(|object| selection.matches(&object.value)) {
        let key = Key::new(dig::meta(&object.value, "namespace"), dig::meta(&object.value, "name"));
        match delete(target, &key, &options).await {
            Ok(_) => gone.push(object),
            Err(error) if error.reason == "NotFound" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Writer::new(target)?.list(&gone, &json!({"resourceVersion": revision.to_string()})))
}

async fn delete(target: &Target<'_>, key: &Key, options: &Options) -> Result<Answer, ApiError> {
    for _ in 0..ATTEMPTS {
        let current = target
            .collection
            .get(key)
            .ok_or_else(|| ApiError::not_found(target.def, &key.name))?;
        check(target, &current, options)?;
        if is_namespace(target.def) && matches!(key.name.as_str(), "default" | "kube-system" | "kube-public") {
            return Err(ApiError::forbidden(
                target.def,
                &key.name,
                "this namespace may not be deleted",
            ));
        }
        let mut seen = current.value.clone();
        admission::admit(target, Some(&current.value), &mut seen).await?;
        let mut next = current.value.clone();
        let stays = mark(target, &mut next, options);
        let writer = Writer::new(target)?;
        if stays && (options.dry_run || next == current.value) {
            return Ok(Answer::bytes(200, writer.value(&next)));
        }
        if options.dry_run {
            return Ok(gone(target, key, &next, || writer.value(&next)));
        }
        if stays {
            if let Ok(stored) = target.collection.commit(key, Some(current.revision), next) {
                crd::object_written(target.server, target.def, &stored.value);
                return Ok(Answer::bytes(200, writer.object(&stored)));
            }
        } else if let Ok(stored) = target.collection.remove(key, current.revision, next) {
            crd::object_removed(target.server, target.def, &stored.value);
            return Ok(gone(target, key, &stored.value, || writer.object(&stored)));
        }
        if options.revision.is_some() {
            return Err(ApiError::modified(target.def, &key.name));
        }
    }
    Err(ApiError::modified(target.def, &key.name))
}

/// What is answered once an object is gone: few kinds give the object, most a status.
fn gone(target: &Target<'_>, key: &Key, last: &Value, object: impl FnOnce() -> Bytes) -> Answer {
    const OBJECTS: [&str; 4] = ["pods", "services", "persistentvolumeclaims", "serviceaccounts"];
    if target.def.group.is_empty() && OBJECTS.contains(&target.def.plural.as_str()) {
        return Answer::bytes(200, object());
    }
    let uid = dig::meta(last, "uid");
    Answer::json(200, &status::deleted(target.def, &key.name, uid))
}

/// 409 for a precondition that does not hold, which names the kind where other conflicts name the resource.
fn unmet(def: &ResourceDef, name: &str, why: &str) -> ApiError {
    let kind = match def.group.as_str() {
        "" => def.kind.clone(),
        group => format!("{}.{group}", def.kind),
    };
    let message = format!("Operation cannot be fulfilled on {kind} \"{name}\": {why}");
    let mut error = ApiError::new(409, "Conflict", message);
    error.details.group.clone_from(&def.group);
    error.details.kind.clone_from(&def.kind);
    name.clone_into(&mut error.details.name);
    error
}

fn check(target: &Target<'_>, current: &Object, options: &Options) -> Result<(), ApiError> {
    let name = dig::meta(&current.value, "name");
    let own = dig::meta(&current.value, "uid");
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != own) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({own}). The object might have been deleted and then recreated"
        );
        return Err(unmet(target.def, name, &why));
    }
    if let Some(revision) = options
        .revision
        .as_deref()
        .filter(|revision| *revision != current.revision.to_string())
    {
        let why = format!(
            "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({}). The object might have been modified",
            current.revision
        );
        return Err(unmet(target.def, name, &why));
    }
    Ok(())
}

/// Marks an object that cannot go at once and says whether that is so.
fn mark(target: &Target<'_>, next: &mut Value, options: &Options) -> bool {
    set_propagation(next, options.propagation.as_deref());
    let grace = grace_period(target, next, options);
    let namespace = is_namespace(target.def) && !dig::items(next, &["spec", "finalizers"]).is_empty();
    let stays = dig::finalizers(next).next().is_some() || grace > 0 || namespace;
    if !stays {
        if is_pod(target.def) {
            dig::set_meta(next, "deletionTimestamp", target.server.deletion_timestamp(0));
            dig::set_meta(next, "deletionGracePeriodSeconds", 0);
        }
        return false;
    }
    let had = dig::is_terminating(next);
    let timestamp = target.server.deletion_timestamp(grace);
    let old_grace = dig::at(next, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    if !had || old_grace.is_some_and(|old| grace < old) {
        dig::set_meta(next, "deletionTimestamp", timestamp);
        dig::set_meta(next, "deletionGracePeriodSeconds", grace);
    }
    if !had && let Some(generation) = dig::at(next, &["metadata", "generation"]).and_then(Value::as_i64) {
        dig::set_meta(next, "generation", generation + 1);
    }
    if namespace {
        dig::object_at(next, &["status"]).insert("phase".to_owned(), json!("Terminating"));
    }
    true
}

fn set_propagation(next: &mut Value, policy: Option<&str>) {
    let wanted = match policy {
        Some("Orphan") => Some("orphan"),
        Some("Foreground") => Some("foregroundDeletion"),
        Some(_) => None,
        None => return,
    };
    let mut finalizers: Vec<Value> = dig::finalizers(next)
        .filter(|finalizer| !matches!(*finalizer, "orphan" | "foregroundDeletion"))
        .map(|finalizer| json!(finalizer))
        .collect();
    finalizers.extend(wanted.map(|finalizer| json!(finalizer)));
    if finalizers.is_empty() {
        dig::metadata(next).remove("finalizers");
    } else {
        dig::set_meta(next, "finalizers", finalizers);
    }
}

/// Seconds that a pod has left; 0 for all else.
fn grace_period(target: &Target<'_>, object: &Value, options: &Options) -> i64 {
    let finished = matches!(dig::text(object, &["status", "phase"]), "Succeeded" | "Failed");
    let unscheduled = dig::text(object, &["spec", "nodeName"]).is_empty();
    if !is_pod(target.def) || finished || unscheduled || target.server.config().pod_deletion == PodDeletion::Immediate {
        return 0;
    }
    let own = dig::at(object, &["spec", "terminationGracePeriodSeconds"])
        .and_then(Value::as_i64)
        .unwrap_or(30);
    let asked = options.grace.unwrap_or(own).max(0);
    match dig::at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64) {
        Some(left) if dig::is_terminating(object) => asked.min(left),
        _ => asked,
    }
}

fn is_pod(def: &ResourceDef) -> bool {
    def.group.is_empty() && def.plural == "pods"
}
