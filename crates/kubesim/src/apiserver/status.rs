//! Errors as Kubernetes says them: a `Status` object with code, reason, message, details and causes.

use serde_json::{Value, json};

pub use super::cause::Cause;
use super::{request::RequestInfo, resource::ResourceDef};

/// A refused request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// Kubernetes' reason, as `NotFound`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: Box<ErrorDetails>,
}

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorDetails {
    /// Group of the object in question.
    pub group: String,
    /// Plural or kind of the object in question.
    pub kind: String,
    /// Name of the object in question.
    pub name: String,
    /// What exactly is wrong.
    pub causes: Vec<Cause>,
    /// When to come back; also sent as the header `Retry-After`.
    pub retry_after_seconds: Option<u64>,
}

impl ApiError {
    /// An error without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: Box::default(),
        }
    }

    /// 403 as RBAC says it.
    pub fn not_authorized(user: &str, info: &RequestInfo) -> Self {
        let (group, verb) = (&info.group, info.verb.as_str());
        let resource = match &info.subresource {
            Some(subresource) => format!("{}/{subresource}", info.resource),
            None => info.resource.clone(),
        };
        let qualified = if group.is_empty() {
            info.resource.clone()
        } else {
            format!("{}.{group}", info.resource)
        };
        let name = info.name.as_deref().unwrap_or_default();
        let shown = if name.is_empty() {
            qualified
        } else {
            format!("{qualified} \"{name}\"")
        };
        let place = match info.namespace.as_deref() {
            Some(namespace) if !namespace.is_empty() => format!("in the namespace \"{namespace}\""),
            _ => "at the cluster scope".to_owned(),
        };
        let mut error = Self::new(
            403,
            "Forbidden",
            format!(
                "{shown} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}"
            ),
        );
        error.details.group.clone_from(group);
        error.details.kind.clone_from(&info.resource);
        name.clone_into(&mut error.details.name);
        error
    }

    fn about(mut self, def: &ResourceDef, name: &str) -> Self {
        self.details.group.clone_from(&def.group);
        self.details.kind.clone_from(&def.plural);
        name.clone_into(&mut self.details.name);
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.details.retry_after_seconds = Some(seconds);
        self
    }

    /// With one more cause.
    #[must_use]
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.details.causes.push(cause);
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 for an object.
    pub fn forbidden(def: &ResourceDef, name: &str, why: &str) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!("{} \"{name}\" is forbidden: {why}", def.qualified()),
        )
        .about(def, name)
    }

    /// 404 for an object.
    pub fn not_found(def: &ResourceDef, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", def.qualified())).about(def, name)
    }

    /// 404 for a path that nothing serves.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 404 for a path below a group that is not known, which has no `Status` on the wire.
    pub fn no_such_page() -> Self {
        Self::new(404, "", "404 page not found\n")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 409 for a name that is taken.
    pub fn already_exists(def: &ResourceDef, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", def.qualified()),
        )
        .about(def, name)
    }

    /// 409 for a name whose last holder is not gone yet.
    pub fn still_deleted(def: &ResourceDef, name: &str) -> Self {
        let mut error = Self::already_exists(def, name);
        error.message = format!("object is being deleted: {}", error.message);
        error
    }

    /// 409 for a write that lost a race.
    pub fn conflict(def: &ResourceDef, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", def.qualified());
        Self::new(409, "Conflict", message).about(def, name)
    }

    /// 409 for a stale resourceVersion.
    pub fn modified(def: &ResourceDef, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(def, name, why)
    }

    /// 410 for a resourceVersion or continue token that is no longer known.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("limit is {limit}"))
    }

    /// 415.
    pub fn unsupported_media_type(what: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - {what}"),
        )
    }

    /// 422 with its causes.
    pub fn invalid(def: &ResourceDef, name: &str, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let text = match list.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let kind = if def.group.is_empty() {
            def.kind.clone()
        } else {
            format!("{}.{}", def.kind, def.group)
        };
        let mut error = Self::new(422, "Invalid", format!("{kind} \"{name}\" is invalid: {text}")).about(def, name);
        error.details.kind.clone_from(&def.kind);
        error.details.causes = causes;
        error
    }

    /// 422 for options of a request, as `DeleteOptions`.
    pub fn invalid_options(kind: &str, cause: Cause) -> Self {
        let def = ResourceDef::built_in("meta.k8s.io", "v1", "", kind, super::resource::Scope::Cluster);
        Self::invalid(&def, "", vec![cause])
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {}", message.into()),
        )
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504 for a resourceVersion from the future.
    pub fn version_too_large(asked: u64, current: u64) -> Self {
        Self::new(
            504,
            "Timeout",
            format!("Too large resource version: {asked}, current: {current}"),
        )
        .retry_after(1)
        .with_cause(Cause::new("ResourceVersionTooLarge", "", "Too large resource version"))
    }

    /// Whether the request as such is refused, before any object comes into view: such a `Status` has details without content.
    fn is_generic(&self) -> bool {
        match (self.code, self.reason.as_str()) {
            (404, "NotFound") | (405, "MethodNotAllowed") | (406, "NotAcceptable") => true,
            (415, _) => self.message.starts_with("415"),
            (422, _) => self.message.starts_with("the server rejected our request"),
            _ => false,
        }
    }

    /// The `Status` object.
    pub fn body(&self) -> Value {
        let mut details = serde_json::Map::new();
        for (key, text) in [
            ("name", &self.details.name),
            ("group", &self.details.group),
            ("kind", &self.details.kind),
        ] {
            if !text.is_empty() {
                details.insert(key.to_owned(), json!(text));
            }
        }
        if !self.details.causes.is_empty() {
            let causes: Vec<Value> = self
                .details
                .causes
                .iter()
                .map(|cause| {
                    let parts = [
                        ("reason", &cause.reason),
                        ("message", &cause.message),
                        ("field", &cause.field),
                    ];
                    let said = parts.iter().filter(|(_, text)| !text.is_empty());
                    said.map(|(key, text)| ((*key).to_owned(), json!(text))).collect()
                })
                .collect();
            details.insert("causes".to_owned(), Value::Array(causes));
        }
        if let Some(seconds) = self.details.retry_after_seconds {
            details.insert("retryAfterSeconds".to_owned(), json!(seconds));
        }
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
        });
        if let Some(body) = body.as_object_mut() {
            // Webhooks that refuse with a message alone give no reason.
            if !self.reason.is_empty() {
                body.insert("reason".to_owned(), json!(self.reason));
            }
            if !details.is_empty() || self.is_generic() {
                body.insert("details".to_owned(), Value::Object(details));
            }
            body.insert("code".to_owned(), json!(self.code));
        }
        body
    }
}

/// The `Status` object that a finished deletion is answered with.
pub(crate) fn deleted(def: &ResourceDef, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": def.plural, "uid": uid});
    if !def.group.is_empty() {
        super::dig::object(&mut details).insert("group".to_owned(), json!(def.group));
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
