//! One resource at length: its fields as an indented list, conditions as a table.

use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};
use serde_json::Value;

use super::table::{at, cell, plain_table, trimmed};

/// Fields that say nothing to a reader of the long form.
const LEFT_OUT: &[&str] = &["conditions", "etag", "uid", "name"];

/// The long form of a resource of that type.
pub fn render(message: &MessageDescriptor, resource: &Value) -> String {
    let mut text = format!("{}  {}\n", message.name(), super::format::name_of(resource));
    if let Value::Object(fields) = resource {
        for (key, value) in fields.iter().filter(|(k, _)| !LEFT_OUT.contains(&k.as_str())) {
            let field = message.get_field_by_json_name(key);
            push_field(&mut text, Label::Field(key), value, field.as_ref(), 1);
        }
    }
    if let Some(conditions) = at(resource, "conditions").as_array().filter(|c| !c.is_empty()) {
        text.push_str("\nConditions\n");
        let mut table = plain_table();
        table.set_header(["  TYPE", "STATUS", "REASON", "MESSAGE"]);
        for condition in conditions {
            let status = cell(at(condition, "status"));
            table.add_row([
                format!("  {}", cell(at(condition, "type"))),
                status.strip_prefix("CONDITION_STATUS_").unwrap_or(&status).to_owned(),
                cell(at(condition, "reason")),
                at(condition, "message").as_str().unwrap_or("-").to_owned(),
            ]);
        }
        text.push_str(&trimmed(&table));
    }
    text.trim_end().to_owned()
}

/// What a line begins with.
#[derive(Clone, Copy)]
enum Label<'k> {
    /// The name of a field, which reads better as words.
    Field(&'k str),
    /// What a user chose, or the position in a list: shown as it is.
    Verbatim(&'k str),
}

impl std::fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field(name) => f.write_str(&words(name)),
            Self::Verbatim(key) => f.write_str(key),
        }
    }
}

/// A field with what is in it. What the contract does not know is shown without its help.
fn push_field(text: &mut String, label: Label<'_>, value: &Value, field: Option<&FieldDescriptor>, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push_str(&format!("{indent}{label}:\n"));
            push_fields(text, fields, (label, field), depth + 1);
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            text.push_str(&format!("{indent}{label}:\n"));
            for (index, item) in items.iter().enumerate() {
                push_field(
                    text,
                    Label::Verbatim(&format!("#{}", index + 1)),
                    item,
                    field,
                    depth + 1,
                );
            }
        }
        Value::String(line) => text.push_str(&format!("{indent}{label}: {}\n", plain(field, line))),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items
                .iter()
                .filter_map(Value::as_str)
                .map(|item| plain(field, item))
                .collect();
            text.push_str(&format!("{indent}{label}: {}\n", items.join(",")));
        }
        other => text.push_str(&format!("{indent}{label}: {}\n", cell(other))),
    }
}

fn push_fields(
    text: &mut String,
    fields: &serde_json::Map<String, Value>,
    (label, parent): (Label<'_>, Option<&FieldDescriptor>),
    depth: usize,
) {
    // An item of a list has its list's field; the value of a map's key is the map's second field.
    let message = parent.and_then(|f| f.kind().as_message().cloned());
    let (of_map, message) = match (parent.is_some_and(FieldDescriptor::is_map), message) {
        (true, Some(entry)) if matches!(label, Label::Field(_)) => (Some(entry), None),
        (true, _) => (None, None),
        (false, message) => (None, message),
    };
    let value_of_map = of_map.as_ref().map(MessageDescriptor::map_entry_value_field);
    for (key, value) in fields {
        let field = message.as_ref().and_then(|m| m.get_field_by_json_name(key));
        match (&value_of_map, &field) {
            (Some(of), _) => push_field(text, Label::Verbatim(key), value, Some(of), depth),
            (None, Some(field)) => push_field(text, Label::Field(key), value, Some(field), depth),
            // In a Struct, or unknown to this build.
            (None, None) => push_field(text, Label::Verbatim(key), value, None, depth),
        }
    }
}

/// A value of an enumeration without the prefix that repeats its type; any other text as it is.
fn plain<'t>(field: Option<&FieldDescriptor>, text: &'t str) -> &'t str {
    let Some(FieldKind::Enum(of)) = field.map(FieldDescriptor::kind) else {
        return text;
    };
    // Every enumeration has `<PREFIX>_UNSPECIFIED` as its zero.
    of.get_value(0)
        .and_then(|zero| text.strip_prefix(zero.name().strip_suffix("UNSPECIFIED")?))
        .unwrap_or(text)
}

/// `readyReplicas` → `Ready replicas`.
fn words(key: &str) -> String {
    let mut words = String::new();
    for (index, c) in key.chars().enumerate() {
        match c {
            c if index == 0 => words.extend(c.to_uppercase()),
            c if c.is_uppercase() => {
                words.push(' ');
                words.extend(c.to_lowercase());
            }
            c => words.push(c),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::contracts;
    use serde_json::json;

    fn mk_message(name: &str) -> MessageDescriptor {
        contracts().unwrap().get_message_by_name(name).unwrap()
    }

    #[test]
    fn the_long_form_has_fields_and_conditions() {
        let text = render(
            &mk_message("steading.lifecycle.v1.MachinePool"),
            &json!({
                "name": "projects/p/clusters/c/machinePools/w", "etag": "7", "readyReplicas": 2,
                "conditions": [{"type": "Ready", "status": "CONDITION_STATUS_TRUE", "reason": "AllReady", "message": "2 of 2"}],
            }),
        );
        assert_eq!(
            text,
            "MachinePool  projects/p/clusters/c/machinePools/w\n  Ready replicas: 2\n\nConditions\n   TYPE   STATUS  REASON    MESSAGE\n   Ready  TRUE    AllReady  2 of 2"
        );
    }

    #[test]
    fn enumerations_lose_their_prefix_at_any_depth() {
        let text = render(
            &mk_message("steading.scheduling.v1.InfraCluster"),
            &json!({
                "name": "infraCluster", "state": "STATE_DEGRADED", "loadBalancers": "PRESENCE_UNKNOWN",
                "storageClasses": [{"infraStorageClass": "fast", "profilePresence": "PRESENCE_ABSENT"}],
            }),
        );
        assert_eq!(
            text,
            "InfraCluster  infraCluster\n  State: DEGRADED\n  Load balancers: UNKNOWN\n  Storage classes:\n    #1:\n      Infra storage class: fast\n      Profile presence: ABSENT"
        );
    }

    #[test]
    fn keys_of_users_are_shown_as_they_are() {
        let text = render(
            &mk_message("steading.lifecycle.v1.MachinePool"),
            &json!({
                "name": "projects/p/clusters/c/machinePools/w",
                "labels": {"myTeam_x": "a", "app.kubernetes.io/Name": "b"},
                "nodeLabels": {"someKey": "c"},
            }),
        );
        assert_eq!(
            text,
            "MachinePool  projects/p/clusters/c/machinePools/w\n  Labels:\n    myTeam_x: a\n    app.kubernetes.io/Name: b\n  Node labels:\n    someKey: c"
        );
    }
}
