//! Reading and writing inside JSON objects of unknown shape, without panics.

use serde_json::{Map, Value};

/// The value at `path`, if every step is there.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(*key))
}

/// The text at `path`, empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// `value` as an object, made one if it is something else.
pub(crate) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// The object at `path`, made where missing.
pub(crate) fn object_at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    path.iter().fold(object(value), |map, key| {
        object(map.entry((*key).to_owned()).or_insert(Value::Null))
    })
}

/// `metadata`, made if missing.
pub(crate) fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    object_at(value, &["metadata"])
}

/// Sets `metadata.<key>`.
pub(crate) fn set_meta(value: &mut Value, key: &str, to: impl Into<Value>) {
    metadata(value).insert(key.to_owned(), to.into());
}

/// `metadata.<key>` as text.
pub(crate) fn meta<'a>(value: &'a Value, key: &str) -> &'a str {
    text(value, &["metadata", key])
}

/// Whether the object is being deleted.
pub(crate) fn is_terminating(value: &Value) -> bool {
    !meta(value, "deletionTimestamp").is_empty()
}

/// `metadata.finalizers`.
pub(crate) fn finalizers(value: &Value) -> impl Iterator<Item = &str> {
    at(value, &["metadata", "finalizers"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// A shallow list of entries of a JSON array at `path`.
pub(crate) fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Null, an empty object or an empty list.
pub(crate) fn is_void(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}
