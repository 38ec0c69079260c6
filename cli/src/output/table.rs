//! Tables: one row a resource, cells read by path from its JSON.

use comfy_table::{ContentArrangement, Table, presets};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

use super::{
    columns,
    format::{Format, name_of},
};
use crate::kinds::{self, id_of};

/// The table of `resources`.
pub fn render(kind: &kinds::Kind, resources: &[Value], format: Format) -> String {
    let columns: Vec<_> = columns::of_kind(&kind.name)
        .iter()
        .filter(|c| format == Format::Wide || !c.wide)
        .copied()
        .collect();
    let mut table = plain_table();
    let headings = ["NAME"]
        .into_iter()
        .chain(columns.iter().map(|c| c.heading))
        .chain(["STATE", "AGE"]);
    table.set_header(headings);
    let now = now();
    let message = kind.get.output();
    for resource in resources {
        let mut row = vec![match format {
            Format::Wide => name_of(resource).to_owned(),
            _ => id_of(name_of(resource)).to_owned(),
        }];
        row.extend(columns.iter().map(|c| cell_of(&message, resource, c.path)));
        row.push(state(resource));
        row.push(age(resource, now));
        table.add_row(row);
    }
    if resources.is_empty() {
        format!("no {} found", kind.collection)
    } else {
        trimmed(&table)
    }
}

/// A table without lines, in the manner of the ecosystem's tools.
pub fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// The table's text without the blanks at the ends of its lines.
pub fn trimmed(table: &Table) -> String {
    table
        .to_string()
        .lines()
        .map(|l| l.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The value at a dotted path.
pub fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.')
        .try_fold(value, |v, key| v.get(key))
        .unwrap_or(&Value::Null)
}

/// A value in one cell.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        // A full name is long; its id is enough beside the row's own parents.
        Value::String(text) if text.contains('/') && !text.contains("://") => id_of(text).to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        // Addresses say more than their number does.
        Value::Array(items) if items.iter().any(|i| i.get("ip").is_some()) => items
            .iter()
            .filter_map(|i| i.get("ip")?.as_str())
            .collect::<Vec<_>>()
            .join(","),
        Value::Array(items) => items.len().to_string(),
        Value::Object(pairs) => pairs
            .iter()
            .map(|(k, v)| format!("{k}={}", cell(v)))
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// The cell of a dotted path; an enum value loses the prefix that repeats its field's name.
pub fn cell_at(resource: &Value, path: &str) -> String {
    let field = path.rsplit('.').next().unwrap_or(path).to_ascii_uppercase();
    let text = cell(at(resource, path));
    match text.split_once(&format!("{field}_")) {
        Some((_, value))
            if text
                .chars()
                .all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit()) =>
        {
            value.to_owned()
        }
        _ => text,
    }
}

/// The cell of a dotted path in a resource of that type; values of enumerations lose the prefix that repeats their type.
pub fn cell_of(message: &MessageDescriptor, resource: &Value, path: &str) -> String {
    let value = at(resource, path);
    let zero = match field_at(message, path).map(|field| field.kind()) {
        Some(Kind::Enum(of)) => of.get_value(0),
        _ => None,
    };
    let prefix = zero.as_ref().and_then(|zero| zero.name().strip_suffix("UNSPECIFIED"));
    match (prefix, value) {
        (Some(prefix), Value::String(text)) => text.strip_prefix(prefix).unwrap_or(text).to_owned(),
        (Some(prefix), Value::Array(items)) => {
            let names = items.iter().filter_map(Value::as_str);
            let names = names.map(|name| name.strip_prefix(prefix).unwrap_or(name));
            names.collect::<Vec<_>>().join(",")
        }
        // What is not set is left out on the wire; of a flag and a number that is known to mean this.
        (None, Value::Null) => match field_at(message, path)
            .filter(|field| !field.supports_presence() && !field.is_list())
            .map(|field| field.kind())
        {
            Some(Kind::Bool) => "no".to_owned(),
            Some(Kind::Int32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64) => "0".to_owned(),
            _ => cell(value),
        },
        _ => cell(value),
    }
}

/// The field that a dotted path of JSON names leads to.
pub fn field_at(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let mut keys = path.split('.').peekable();
    let mut message = message.clone();
    loop {
        let field = message.get_field_by_json_name(keys.next()?)?;
        if keys.peek().is_none() {
            return Some(field);
        }
        message = field.kind().as_message()?.clone();
    }
}

/// The state, marked while the service still works on it.
fn state(resource: &Value) -> String {
    let state = cell_at(resource, "state");
    let deleting = resource.get("deleteTime").is_some();
    match (deleting, at(resource, "reconciling").as_bool() == Some(true)) {
        (true, _) => format!("{state} (deleting)"),
        (_, true) => format!("{state} (reconciling)"),
        _ => state,
    }
}

fn age(resource: &Value, now: jiff::Timestamp) -> String {
    let created = at(resource, "createTime")
        .as_str()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok());
    created.map_or_else(
        || "-".to_owned(),
        |created| short_duration(now.duration_since(created).as_secs()),
    )
}

/// Seconds in the largest unit that leaves at least two, as the ecosystem's tools print ages.
pub fn short_duration(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

fn now() -> jiff::Timestamp {
    steading_runtime::clock::Clock::system().now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_short() {
        assert_eq!(cell(&json!("projects/p/machineTemplates/base")), "base");
        assert_eq!(cell(&json!("https://images/x.qcow2")), "https://images/x.qcow2");
        assert_eq!(cell(&json!(["10.0.0.1", "fd00::1"])), "10.0.0.1,fd00::1");
        assert_eq!(cell(at(&json!({"a": {"b": 3}}), "a.b")), "3");
        assert_eq!(cell(&Value::Null), "-");
        assert_eq!(cell_at(&json!({"state": "STATE_RUNNING"}), "state"), "RUNNING");
        assert_eq!(
            cell_at(&json!({"origin": "CATALOGUE_ORIGIN_STEADING"}), "origin"),
            "STEADING"
        );
    }

    #[test]
    fn ages_have_one_unit() {
        assert_eq!(
            [5, 119, 120, 7_199, 7_200, 200_000].map(short_duration),
            ["5s", "119s", "2m", "119m", "2h", "2d"].map(ToOwned::to_owned)
        );
    }
}
