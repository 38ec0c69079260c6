//! Tables for `kubectl get`: columns and cells.
//!
//! A column's path is a JSONPath as in `additionalPrinterColumns`, or `@name` for a cell that must be worked out ([`computed`]).

mod columns;
mod computed;
mod path;

use serde_json::{Value, json};

use super::resource::{Column, ResourceDef, VersionDef};

pub(crate) use self::columns::built_in;

/// The columns of a resource: `NAME`, then its own, or `AGE`.
pub(crate) fn columns(_def: &ResourceDef, version: Option<&VersionDef>) -> Vec<Column> {
    let column = |name: &str, kind: &str, path: &str| Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        path: path.to_owned(),
        priority: 0,
    };
    let mut columns = vec![column("Name", "string", ".metadata.name")];
    match version {
        Some(version) if !version.columns.is_empty() => columns.extend(version.columns.iter().cloned()),
        _ => columns.push(column("Age", "date", ".metadata.creationTimestamp")),
    }
    columns
}

/// `columnDefinitions`; only custom kinds tell the types of their columns.
pub(crate) fn definitions(columns: &[Column], custom: bool) -> Value {
    let list = columns.iter().enumerate().map(|(index, column)| {
        let format = if index == 0 { "name" } else { "" };
        let kind = if custom { column.kind.as_str() } else { "string" };
        json!({"name": column.name, "type": kind, "format": format, "description": "", "priority": column.priority})
    });
    Value::Array(list.collect())
}

/// The cells of one row.
pub(crate) fn cells(columns: &[Column], now: jiff::Timestamp, value: &Value, custom: bool) -> Vec<Value> {
    let cell = |column| {
        if custom {
            custom_cell(column, now, value)
        } else {
            cell(column, now, value)
        }
    };
    columns.iter().map(cell).collect()
}

/// Custom kinds show the first of what a path finds, and nothing where it finds nothing.
fn custom_cell(column: &Column, now: jiff::Timestamp, value: &Value) -> Value {
    match path::find(value, &column.path).first() {
        None | Some(Value::Null) => Value::Null,
        Some(Value::String(_)) if column.kind == "date" => cell(column, now, value),
        Some(found) if column.kind != "string" => (*found).clone(),
        Some(Value::String(text)) => json!(text),
        Some(other) => json!(other.to_string()),
    }
}

fn cell(column: &Column, now: jiff::Timestamp, value: &Value) -> Value {
    if let Some(name) = column.path.strip_prefix('@') {
        let text = computed::cell(name, value);
        return match text.parse::<u64>() {
            Ok(count) if name == "data" => json!(count),
            _ => json!(text),
        };
    }
    let mut found = path::find(value, &column.path);
    found.retain(|value| !value.is_null());
    match (column.kind.as_str(), found.as_slice()) {
        (_, []) => match column.kind.as_str() {
            "date" => json!("<unknown>"),
            _ => json!(""),
        },
        ("date", [Value::String(text), ..]) => json!(
            text.parse()
                .map_or_else(|_| "<invalid>".to_owned(), |then| age(now, then))
        ),
        ("integer" | "number" | "boolean", [one]) => (*one).clone(),
        (_, many) => {
            let texts: Vec<String> = many
                .iter()
                .map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .collect();
            json!(texts.join(","))
        }
    }
}

/// A duration as kubectl shows ages: `5s`, `3m2s`, `47h`, `12d`.
fn age(now: jiff::Timestamp, then: jiff::Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        let start = jiff::Timestamp::UNIX_EPOCH;
        for (seconds, expected) in [
            (5, "5s"),
            (119, "119s"),
            (182, "3m2s"),
            (180, "3m"),
            (3600, "60m"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ] {
            assert_eq!(age(start + jiff::SignedDuration::from_secs(seconds), start), expected);
        }
    }

    #[test]
    fn a_pod_row_tells_readiness_and_status() {
        let def = ResourceDef::built_in("", "v1", "pods", "Pod", super::super::resource::Scope::Namespaced);
        let mut version = def.versions.first().unwrap().clone();
        version.columns = built_in("", "pods");
        let pod = json!({
            "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"containers": [{}, {}], "nodeName": "n"},
            "status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 2}, {"ready": false}]},
        });
        let columns = columns(&def, Some(&version));
        let now = "1970-01-01T00:01:00Z".parse().unwrap();
        let row = cells(&columns, now, &pod, false);
        assert_eq!(
            row.get(..5).unwrap(),
            [json!("a"), json!("1/2"), json!("Running"), json!("2"), json!("60s")]
        );
    }
}
