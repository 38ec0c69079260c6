//! One resource at length: its fields as an indented list, conditions as a table.

use serde_json::Value;

use super::table::{at, cell, plain_table, trimmed};

/// Fields that say nothing to a reader of the long form.
const LEFT_OUT: &[&str] = &["conditions", "etag", "uid", "name"];

/// The long form of a resource.
pub fn render(kind: &str, resource: &Value) -> String {
    let mut text = format!("{kind}  {}\n", super::name_of(resource));
    if let Value::Object(fields) = resource {
        for (key, value) in fields.iter().filter(|(k, _)| !LEFT_OUT.contains(&k.as_str())) {
            push_field(&mut text, key, value, 1);
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

fn push_field(text: &mut String, key: &str, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push_str(&format!("{indent}{}:\n", words(key)));
            for (key, value) in fields {
                push_field(text, key, value, depth + 1);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            text.push_str(&format!("{indent}{}:\n", words(key)));
            for (index, item) in items.iter().enumerate() {
                push_field(text, &format!("#{}", index + 1), item, depth + 1);
            }
        }
        Value::String(line) => text.push_str(&format!("{indent}{}: {line}\n", words(key))),
        other => text.push_str(&format!("{indent}{}: {}\n", words(key), cell(other))),
    }
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
    use serde_json::json;

    #[test]
    fn the_long_form_has_fields_and_conditions() {
        let text = render(
            "MachinePool",
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
}
