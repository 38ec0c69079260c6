//! What people and scripts see: tables, names, JSON, YAML.

pub mod columns;
pub mod describe;
pub mod table;

use clap::ValueEnum;
use serde_json::Value;

use crate::kinds::Kind;

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document a resource.
    Yaml,
    /// Full resource names, one a line.
    Name,
}

/// Prints resources of one kind.
///
/// # Errors
/// When a resource cannot be written as YAML.
pub fn print_resources(kind: &Kind, resources: &[Value], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Table | Format::Wide => println!("{}", table::render(kind, resources, format)),
        Format::Name => resources.iter().for_each(|r| println!("{}", name_of(r))),
        Format::Json => println!("{}", serde_json::to_string_pretty(resources)?),
        Format::Yaml => {
            for resource in resources {
                println!(
                    "---\n{}",
                    serde_saphyr::to_string(&as_document(kind, resource))?.trim_end()
                );
            }
        }
    }
    Ok(())
}

/// Prints one resource; as JSON it is an object, not a list of one.
///
/// # Errors
/// As [`print_resources`].
pub fn print_resource(kind: &Kind, resource: &Value, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(resource)?),
        _ => print_resources(kind, std::slice::from_ref(resource), format)?,
    }
    Ok(())
}

/// Prints any value: YAML for people, JSON for scripts.
///
/// # Errors
/// When the value cannot be written as YAML.
pub fn print_value(value: &Value, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(value)?),
        _ => println!("{}", serde_saphyr::to_string(value)?.trim_end()),
    }
    Ok(())
}

/// The resource's full name, empty if it has none.
pub fn name_of(resource: &Value) -> &str {
    resource.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// A resource in the form that `apply` takes: its kind first.
fn as_document(kind: &Kind, resource: &Value) -> Value {
    let mut document = serde_json::Map::from_iter([("kind".to_owned(), Value::from(kind.name.clone()))]);
    if let Value::Object(fields) = resource {
        document.extend(fields.clone());
    }
    Value::Object(document)
}
