//! What a document states otherwise than the server has it: by value, not by how it is written.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};
use steading_model::quantity::Quantity;

use crate::kinds::texts::{self, Text};

/// The fields, by JSON name, that the document states otherwise than the server has them. An etag is a lock, not a change.
pub(super) fn changed_fields(
    resource: &MessageDescriptor,
    wanted: &Map<String, Value>,
    present: &Value,
) -> Vec<String> {
    let mut changed = Vec::new();
    for (key, value) in wanted {
        let field = field_of(resource, key);
        let json_name = field.as_ref().map_or(key.as_str(), FieldDescriptor::json_name);
        let present = present.get(json_name).unwrap_or(&Value::Null);
        if json_name != "etag" && !covers(field.as_ref(), present, value) {
            changed.push(json_name.to_owned());
        }
    }
    changed
}

fn field_of(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_json_name(key)
        .or_else(|| message.get_field_by_name(key))
}

/// Whether what is there says everything that is wanted. Unset and default are the same in proto3.
fn covers(field: Option<&FieldDescriptor>, present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            let names: Vec<(String, Option<FieldDescriptor>, &Value)> = wanted
                .iter()
                .map(|(key, value)| {
                    let member = member(field, key);
                    let name = match (&member, field.is_some_and(FieldDescriptor::is_map)) {
                        (Some(member), false) => member.json_name().to_owned(),
                        _ => key.clone(),
                    };
                    (name, member, value)
                })
                .collect();
            names
                .iter()
                .all(|(name, member, value)| covers(member.as_ref(), present.get(name).unwrap_or(&Value::Null), value))
                && present
                    .iter()
                    .all(|(key, value)| names.iter().any(|(name, ..)| name == key) || is_default(value))
        }
        (Value::Array(present), Value::Array(wanted)) => {
            present.len() == wanted.len() && present.iter().zip(wanted).all(|(p, w)| covers(field, p, w))
        }
        (Value::Null, wanted) => is_default(wanted),
        (Value::String(_) | Value::Number(_), Value::String(_) | Value::Number(_)) => {
            same_scalar(field, &as_text(present), &as_text(wanted))
        }
        (present, wanted) => present == wanted,
    }
}

/// The field of a key below `field`: a member of its message, or the values of its map.
fn member(field: Option<&FieldDescriptor>, key: &str) -> Option<FieldDescriptor> {
    let field = field?;
    let kind = field.kind();
    let message = kind.as_message()?;
    if field.is_map() {
        Some(message.map_entry_value_field())
    } else {
        field_of(message, key)
    }
}

fn same_scalar(field: Option<&FieldDescriptor>, present: &str, wanted: &str) -> bool {
    if present == wanted {
        return true;
    }
    let Some(field) = field else { return false };
    if texts::of(field) == Some(Text::Quantity) {
        let amount = |text: &str| text.parse::<Quantity>().ok();
        return amount(present).is_some_and(|present| amount(wanted) == Some(present));
    }
    match field.kind() {
        Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => {
            let seconds = |text: &str| text.strip_suffix('s').and_then(|text| text.parse::<f64>().ok());
            seconds(present).is_some_and(|present| seconds(wanted) == Some(present))
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
            time(present).is_some_and(|present| time(wanted) == Some(present))
        }
        Kind::Float | Kind::Double => present
            .parse::<f64>()
            .is_ok_and(|present| wanted.parse() == Ok(present)),
        _ => false,
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_default),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::contracts;

    fn changed(message: &str, wanted: Value, present: Value) -> Vec<String> {
        let message = contracts().unwrap().get_message_by_name(message).unwrap();
        let Value::Object(wanted) = wanted else {
            unreachable!("an object")
        };
        changed_fields(&message, &wanted, &present)
    }

    #[test]
    fn what_is_there_covers_what_is_wanted() {
        assert!(covers(None, &json!({"a": 1, "b": ""}), &json!({"a": 1})));
        assert!(!covers(None, &json!({"a": 1, "b": "x"}), &json!({"a": 1})));
        assert!(covers(None, &Value::Null, &json!(0)));
        assert!(covers(None, &json!("42"), &json!(42)));
        assert!(!covers(None, &json!([1, 2]), &json!([2, 1])));
    }

    #[test]
    fn a_quantity_written_another_way_is_no_change() {
        let volume = "steading.storage.v1.Volume";
        assert!(changed(volume, json!({"size": "1.5Gi"}), json!({"size": "1536Mi"})).is_empty());
        assert_eq!(
            changed(volume, json!({"size": "2Gi"}), json!({"size": "1536Mi"})),
            ["size"]
        );
        let project = "steading.lifecycle.v1.Project";
        let quota = |memory: &str| json!({"quota": {"memory": memory}});
        assert!(changed(project, quota("1Ti"), quota("1024Gi")).is_empty());
        // A version is not an amount.
        let pool = "steading.lifecycle.v1.MachinePool";
        let version = |text: &str| json!({"kubernetesVersion": text});
        assert_eq!(changed(pool, version("1.30"), version("1.3")), ["kubernetesVersion"]);
    }

    #[test]
    fn both_spellings_of_a_field_and_of_a_duration_are_the_same() {
        let pool = "steading.lifecycle.v1.MachinePool";
        let present = json!({"health": {"joinTimeout": "60s"}, "rollout": {"maxSurge": "1"}});
        let wanted = json!({"health": {"join_timeout": "60.0s"}, "rollout": {"max_surge": "1"}});
        assert!(changed(pool, wanted, present).is_empty());
    }
}
