//! The four patch formats.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    apply,
    body::{check_identity, decode},
    convert, dig,
    exchange::{Answer, Target},
    managed::Intent,
    status::ApiError,
    strategic, write,
};

/// PATCH of one object.
pub(crate) async fn answer(target: &Target<'_>, body: &Bytes) -> Result<Answer, ApiError> {
    let key = target.key()?;
    let patch = Patch::parse(target, body)?;
    if let Patch::Apply { config, force } = patch {
        return apply::answer(target, &key, config, force).await;
    }
    write::modify(target, &key, Intent::Update, |current| {
        let shown = convert::from_storage(target.def, &target.version.name, current);
        let mut next = patch.apply(target, &key.name, shown)?;
        convert::to_storage(target.def, &mut next);
        Ok(next)
    })
    .await
}

/// How many operations a JSON patch may have, as in Kubernetes.
const MAX_OPERATIONS: usize = 10_000;

/// A parsed patch.
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    Apply { config: Value, force: bool },
}

impl Patch {
    /// Parses a body by its content type.
    pub(crate) fn parse(target: &Target<'_>, body: &Bytes) -> Result<Self, ApiError> {
        let value = decode(body, &target.info.content_type)?;
        match target.info.content_type.as_str() {
            "application/json-patch+json" => {
                if !value.is_array() {
                    return Err(ApiError::bad_request("error decoding patch: a JSON patch is a list"));
                }
                let patch: json_patch::Patch = serde_json::from_value(value).map_err(|_| rejected())?;
                if patch.0.len() > MAX_OPERATIONS {
                    return Err(ApiError::new(
                        413,
                        "RequestEntityTooLarge",
                        format!(
                            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                            patch.0.len()
                        ),
                    ));
                }
                Ok(Self::Json(patch))
            }
            "application/merge-patch+json" => Ok(Self::Merge(value)),
            "application/strategic-merge-patch+json" => match target.def.origin {
                super::Origin::BuiltIn => Ok(Self::Strategic(value)),
                _ => Err(ApiError::unsupported_media_type(
                    "accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                )),
            },
            "application/apply-patch+yaml" => Self::parse_apply(target, value),
            _ => Err(ApiError::new(
                415,
                "UnsupportedMediaType",
                "415: Unsupported Media Type",
            )),
        }
    }

    fn parse_apply(target: &Target<'_>, mut config: Value) -> Result<Self, ApiError> {
        let def = target.def;
        let name = target.info.name.as_deref().unwrap_or_default();
        if !config.is_object() {
            return Err(ApiError::bad_request("the applied configuration must be an object"));
        }
        let expected = def.api_version(&target.version.name);
        for (key, wanted) in [("apiVersion", expected.as_str()), ("kind", def.kind.as_str())] {
            let got = dig::text(&config, &[key]);
            if got != wanted {
                return Err(ApiError::bad_request(format!(
                    "{key} of the applied configuration is {got:?}, expected {wanted:?}"
                )));
            }
        }
        if config
            .pointer("/metadata/managedFields")
            .is_some_and(|fields| !dig::is_void(fields))
        {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        dig::metadata(&mut config).remove("managedFields");
        let namespace = target.info.ns();
        check_identity(&config, name, namespace)?;
        if !namespace.is_empty() {
            dig::set_meta(&mut config, "namespace", namespace);
        }
        convert::to_storage(def, &mut config);
        Ok(Self::Apply {
            config,
            force: target.info.query.flag("force"),
        })
    }

    /// The patched object.
    pub(crate) fn apply(&self, target: &Target<'_>, name: &str, mut object: Value) -> Result<Value, ApiError> {
        match self {
            Self::Json(patch) => {
                operate(&mut object, patch).map_err(|_| rejected())?;
            }
            Self::Merge(patch) | Self::Apply { config: patch, .. } => merge(&mut object, patch),
            Self::Strategic(patch) => strategic::merge(&mut object, patch)?,
        }
        if !object.is_object() {
            return Err(ApiError::bad_request("the patch does not leave an object"));
        }
        let own = json!({"apiVersion": target.def.api_version(&target.version.name), "kind": target.def.kind});
        for key in ["apiVersion", "kind"] {
            if object.get(key) != own.get(key) {
                let message = format!("the patch must not change {key}");
                return Err(match target.def.origin {
                    super::Origin::BuiltIn => ApiError::new(422, "Invalid", message),
                    _ => ApiError::bad_request(message),
                });
            }
        }
        check_identity(&object, name, target.info.ns())?;
        Ok(object)
    }
}

/// What is said of every JSON patch that cannot be done.
fn rejected() -> ApiError {
    ApiError::new(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    )
}

/// RFC 6902, with the two licences of Kubernetes' implementation: where a field is missing, testing for null holds and replacing adds.
pub(crate) fn operate(object: &mut Value, patch: &json_patch::Patch) -> Result<(), json_patch::PatchError> {
    for operation in &patch.0 {
        let parent = |path: &str| path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        let lacks = |path: &str| {
            object.pointer(path).is_none()
                && parent(path).is_some_and(|parent| object.pointer(&parent).is_some_and(Value::is_object))
        };
        match operation {
            json_patch::PatchOperation::Test(test) if test.value.is_null() && lacks(test.path.as_str()) => {}
            json_patch::PatchOperation::Replace(replace) if lacks(replace.path.as_str()) => {
                let add = json_patch::AddOperation {
                    path: replace.path.clone(),
                    value: replace.value.clone(),
                };
                json_patch::patch(object, &[json_patch::PatchOperation::Add(add)])?;
            }
            operation => json_patch::patch(object, std::slice::from_ref(operation))?,
        }
    }
    Ok(())
}

/// RFC 7386.
pub(crate) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        object.clone_from(patch);
        return;
    };
    let map = dig::object(object);
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
