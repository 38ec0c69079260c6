//! Versions of one resource: objects are stored in one and rewritten for the others.
//!
//! Versions differ in `apiVersion` alone (as CRDs with conversion strategy `None`), except events: `events.k8s.io` shows the same objects as
//! the core group with other field names.

use serde_json::{Value, json};

use super::{dig, resource::ResourceDef};

/// Whether other than `apiVersion` must change.
pub(crate) fn needs_conversion(def: &ResourceDef) -> bool {
    is_new_events(def)
}

fn is_new_events(def: &ResourceDef) -> bool {
    def.group == "events.k8s.io" && def.plural == "events"
}

/// A stored object in a served version.
pub(crate) fn from_storage(def: &ResourceDef, version: &str, value: &Value) -> Value {
    let mut value = value.clone();
    let api_version = def.api_version(version);
    let map = dig::object(&mut value);
    map.insert("apiVersion".to_owned(), json!(api_version));
    if is_new_events(def) {
        for (old, new) in RENAMED {
            if let Some(field) = map.remove(*old) {
                map.insert((*new).to_owned(), field);
            }
        }
        for key in ["reportingController", "reportingInstance"] {
            if map.get(key).and_then(Value::as_str) == Some("") {
                map.remove(key);
            }
        }
    }
    value
}

/// A received object as it is stored.
pub(crate) fn to_storage(def: &ResourceDef, value: &mut Value) {
    let api_version = if is_new_events(def) {
        "v1".to_owned()
    } else {
        def.api_version(&def.storage)
    };
    let map = dig::object(value);
    map.insert("apiVersion".to_owned(), json!(api_version));
    if is_new_events(def) {
        for (old, new) in RENAMED {
            if let Some(field) = map.remove(*new) {
                map.insert((*old).to_owned(), field);
            }
        }
    }
}

/// Core name, `events.k8s.io` name.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
