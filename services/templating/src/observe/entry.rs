//! Instance types and preferences: what is seen of an entry.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use crate::domain::{revision::PINNED, standard};

/// An instance type or a preference.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its content, with sorted keys.
    pub spec: Value,
    /// Whether it keeps what an entry was, for revisions.
    pub is_pinned: bool,
    /// Whether it belongs to the standard catalogue.
    pub is_standard: bool,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Counts the changes of its content.
    pub generation: i64,
}

/// An instance type or a preference, of which `spec` is the content.
pub fn entry<K: Resource<DynamicType = ()>>(object: &K, spec: &impl Serialize) -> Option<Entry> {
    let has = |label: &str, value: &str| object.labels().get(label).is_some_and(|found| found == value);
    Some(Entry {
        spec: content(spec)?,
        is_pinned: object.labels().contains_key(PINNED),
        is_standard: has(standard::CATALOGUE_LABEL, standard::STANDARD),
        created: object.meta().creation_timestamp.as_ref().map(|time| time.0),
        generation: object.meta().generation.unwrap_or_default(),
    })
}

/// The content of an entry with its keys in order, so that equal contents have equal texts.
pub fn content(spec: &impl Serialize) -> Option<Value> {
    serde_json::to_value(spec).ok().map(sorted)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}
