//! One resource at length: its fields as an indented list, conditions as a table.

use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};
use serde_json::Value;

use super::table::{at, cell, plain_table, trimmed};

/// Fields that say nothing to a reader of the long form.
const LEFT_OUT: &[&str] = &["conditions", "etag", "uid", "name"];

/// The long form of a resource of that type.
pub fn render(message: &MessageDescriptor, resource: &Value) -> String {
    let mut text = format!("{}  {}\n", message.name(), super::name_of(resource));
    if let Value::Object(fields) = resource {
        for (key, value) in fields.iter().filter(|(k, _)| !LEFT_OUT.contains(&k.as_str())) {
            let field = message.get_field_by_json_name(key);
            push_field(&mut text, key, value, field.as_ref(), 1);
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

/// A field with what is in it. What the contract does not know is told without its help.
fn push_field(text: &mut String, key: &str, value: &Value, field: Option<&FieldDescriptor>, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push_str(&format!("{indent}{}:\n", words(key)));
            push_fields(text, fields, field, depth + 1);
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            text.push_str(&format!("{indent}{}:\n", words(key)));
            for (index, item) in items.iter().enumerate() {
                push_field(text, &format!("#{}", index + 1), item, field, depth + 1);
            }
        }
        Value::String(line) => text.push_str(&format!("{indent}{}: {}\n", words(key), plain(field, line))),
        other => text.push_str(&format!("{indent}{}: {}\n", words(key), cell(other))),
    }
}

fn push_fields(
    text: &mut String,
    fields: &serde_json::Map<String, Value>,
    parent: Option<&FieldDescriptor>,
    depth: usize,
) {
    // The keys of a map are the user's, not names of fields.
    let inner = parent
        .filter(|f| !f.is_map())
        .and_then(|f| f.kind().as_message().cloned());
    for (key, value) in fields {
        let field = inner.as_ref().and_then(|m| m.get_field_by_json_name(key));
        push_field(text, key, value, field.as_ref(), depth);
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
}
