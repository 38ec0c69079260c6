//! What names, labels, annotations, owners and the keys of plain data may look like, with the messages of Kubernetes.

use serde_json::Value;

use super::{
    dig,
    resource::{Origin, ResourceDef},
    status::{ApiError, Cause},
};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const DATA_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// The checks that hold for the metadata of every object, and those for the keys of config maps and secrets.
///
/// # Errors
///
/// 422 with every cause.
pub(crate) fn check(def: &ResourceDef, object: &Value) -> Result<(), ApiError> {
    let name = dig::meta(object, "name");
    let mut causes: Vec<Cause> = name_faults(def, name)
        .into_iter()
        .map(|why| invalid("metadata.name", name, &why))
        .collect();
    if let Some(labels) = dig::at(object, &["metadata", "labels"]).and_then(Value::as_object) {
        for (key, value) in labels {
            causes.extend(key_faults(key).iter().map(|why| invalid("metadata.labels", key, why)));
            let text = value.as_str().unwrap_or_default();
            causes.extend(label_fault(text).map(|why| invalid("metadata.labels", text, &why)));
        }
    }
    if let Some(annotations) = dig::at(object, &["metadata", "annotations"]).and_then(Value::as_object) {
        for key in annotations.keys() {
            let faults = key_faults(&key.to_ascii_lowercase());
            causes.extend(faults.iter().map(|why| invalid("metadata.annotations", key, why)));
        }
    }
    finalizers(def, object, &mut causes);
    owners(object, &mut causes);
    if def.group.is_empty() && matches!(def.plural.as_str(), "configmaps" | "secrets") {
        data(object, &mut causes);
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(def, name, causes))
    }
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    Cause::new("FieldValueInvalid", field, format!("Invalid value: \"{value}\": {why}"))
}

fn finalizers(def: &ResourceDef, object: &Value, causes: &mut Vec<Cause>) {
    for (index, finalizer) in dig::finalizers(object).enumerate() {
        let standard = matches!(finalizer, "foregroundDeletion" | "kubernetes" | "orphan");
        if finalizer.is_empty() || (def.origin == Origin::BuiltIn && !finalizer.contains('/') && !standard) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(invalid(&format!("metadata.finalizers[{index}]"), finalizer, why));
        }
    }
}

fn owners(object: &Value, causes: &mut Vec<Cause>) {
    let owners = dig::items(object, &["metadata", "ownerReferences"]);
    for owner in owners {
        let version = dig::text(owner, &["apiVersion"]);
        if version.is_empty() || version.matches('/').count() > 1 || version.ends_with('/') {
            let field = "metadata.ownerReferences.apiVersion";
            causes.push(invalid(field, version, "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if dig::text(owner, &[key]).is_empty() {
                let field = format!("metadata.ownerReferences.{key}");
                causes.push(invalid(&field, "", "must not be empty"));
            }
        }
        if version == "v1" && dig::text(owner, &["kind"]) == "Event" {
            let message = format!("Invalid value: {owner}: /v1, Kind=Event is disallowed from being an owner");
            causes.push(Cause::new("FieldValueInvalid", "metadata.ownerReferences", message));
        }
    }
    let mut controllers = owners
        .iter()
        .filter(|owner| owner.get("controller") == Some(&Value::Bool(true)))
        .map(|owner| format!("{}/{}", dig::text(owner, &["kind"]), dig::text(owner, &["name"])));
    if let (Some(one), Some(other)) = (controllers.next(), controllers.next()) {
        let list = Value::Array(owners.to_vec());
        let message = format!(
            "Invalid value: {list}: Only one reference can have Controller set to true. Found \"true\" in references for {one} and {other}"
        );
        causes.push(Cause::new("FieldValueInvalid", "metadata.ownerReferences", message));
    }
}

fn data(object: &Value, causes: &mut Vec<Cause>) {
    let keys = |field: &str| object.get(field).and_then(Value::as_object);
    for field in ["data", "binaryData"] {
        for key in keys(field).into_iter().flat_map(serde_json::Map::keys) {
            let place = format!("{field}[{key}]");
            if let Some(why) = data_key_fault(key) {
                causes.push(invalid(&place, key, why));
            }
            if field == "data" && keys("binaryData").is_some_and(|other| other.contains_key(key)) {
                causes.push(invalid(&place, key, "duplicate of key present in binaryData"));
            }
        }
    }
}

fn data_key_fault(key: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match key {
        "." => Some("must not be '.'"),
        ".." => Some("must not be '..'"),
        key if key.starts_with("..") => Some("must not start with '..'"),
        key if key.is_empty() || !key.bytes().all(plain) => Some(DATA_KEY),
        _ => None,
    }
}

fn name_faults(def: &ResourceDef, name: &str) -> Vec<String> {
    if def.group == "rbac.authorization.k8s.io" {
        let bad = name.contains(['/', '%']) || name == "." || name == "..";
        return bad
            .then(|| "may not be '.' or '..' or contain '/' or '%'".to_owned())
            .into_iter()
            .collect();
    }
    let mut faults = Vec::new();
    if name.len() > 253 {
        faults.push("must be no more than 253 characters".to_owned());
    }
    if !is_subdomain(name) {
        faults.push(SUBDOMAIN.to_owned());
    } else if def.group.is_empty() && matches!(def.plural.as_str(), "namespaces" | "services") && name.contains('.') {
        faults.push("must not contain dots".to_owned());
    }
    faults
}

fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split('.').all(|part| {
        let bytes = part.as_bytes();
        bytes.first().copied().is_some_and(inner)
            && bytes.last().copied().is_some_and(inner)
            && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
    })
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(inner) && text.ends_with(inner) && text.chars().all(|c| inner(c) || "-_.".contains(c))
}

/// What is wrong with the key of a label or an annotation.
pub(crate) fn key_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else if !is_subdomain(prefix) {
                faults.push(format!("prefix part {SUBDOMAIN}"));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        faults.push(format!("name part {QUALIFIED}"));
    }
    faults
}

/// What is wrong with the value of a label.
pub(crate) fn label_fault(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some("must be no more than 63 bytes".to_owned());
    }
    (!text.is_empty() && !is_name(text)).then(|| LABEL.to_owned())
}
