//! Tables for `kubectl get`: columns and cells.

use serde_json::{Value, json};

use super::{
    dig,
    resource::{Column, ResourceDef, VersionDef},
};

/// The columns of a resource: `NAME`, then its own, or `AGE`.
pub(crate) fn columns(_def: &ResourceDef, version: Option<&VersionDef>) -> Vec<Column> {
    let mut columns = vec![Column { name: "Name".to_owned(), kind: "string".to_owned(), path: ".metadata.name".to_owned(), priority: 0 }];
    match version {
        Some(version) if !version.columns.is_empty() => columns.extend(version.columns.iter().cloned()),
        _ => columns.push(Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            path: ".metadata.creationTimestamp".to_owned(),
            priority: 0,
        }),
    }
    columns
}

/// `columnDefinitions`.
pub(crate) fn definitions(columns: &[Column]) -> Value {
    let list = columns.iter().enumerate().map(|(index, column)| {
        let format = if index == 0 { "name" } else { "" };
        json!({"name": column.name, "type": column.kind, "format": format, "description": "", "priority": column.priority})
    });
    Value::Array(list.collect())
}

/// The cells of one row.
pub(crate) fn cells(columns: &[Column], _def: &ResourceDef, value: &Value) -> Vec<Value> {
    columns.iter().map(|column| cell(column, value)).collect()
}

fn cell(column: &Column, value: &Value) -> Value {
    let steps: Vec<&str> = column.path.split('.').filter(|step| !step.is_empty()).collect();
    dig::at(value, &steps).cloned().unwrap_or(Value::Null)
}
