//! What people and scripts see: tables, names, JSON, YAML.

pub mod columns;
pub mod describe;
pub mod format;
pub mod out;
pub mod table;

use serde_json::Value;

pub use format::{Format, name_of};

use crate::kinds::Kind;

/// Prints resources of one kind.
///
/// # Errors
/// When a resource cannot be written.
pub fn print_resources(kind: &Kind, resources: &[Value], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Table | Format::Wide => out::line(table::render(kind, resources, format))?,
        _ => print_documents(resources.iter().map(|resource| (kind, resource)), format)?,
    }
    Ok(())
}

/// Prints one resource; as JSON it is an object, not a list of one.
///
/// # Errors
/// As [`print_resources`].
pub fn print_resource(kind: &Kind, resource: &Value, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => out::line(serde_json::to_string_pretty(&as_document(kind, resource))?)?,
        _ => print_resources(kind, std::slice::from_ref(resource), format)?,
    }
    Ok(())
}

/// Prints resources of any kinds for programs, in a form that `apply` takes: one JSON list, or YAML documents.
///
/// # Errors
/// As [`print_resources`].
pub fn print_documents<'r>(
    resources: impl IntoIterator<Item = (&'r Kind, &'r Value)>,
    format: Format,
) -> anyhow::Result<()> {
    let resources = resources.into_iter();
    match format {
        Format::Table | Format::Wide | Format::Name => {
            for (_, resource) in resources {
                out::line(name_of(resource))?;
            }
        }
        Format::Json => {
            let documents: Vec<Value> = resources.map(|(kind, resource)| as_document(kind, resource)).collect();
            out::line(serde_json::to_string_pretty(&documents)?)?;
        }
        Format::Yaml => {
            for (kind, resource) in resources {
                let text = serde_saphyr::to_string(&as_document(kind, resource))?;
                out::line(format_args!("---\n{}", text.trim_end()))?;
            }
        }
    }
    Ok(())
}

/// Prints any value: YAML for people, JSON for scripts.
///
/// # Errors
/// When the value cannot be written.
pub fn print_value(value: &Value, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => out::line(serde_json::to_string_pretty(value)?)?,
        _ => out::line(serde_saphyr::to_string(value)?.trim_end())?,
    }
    Ok(())
}

/// A resource in the form that `apply` takes: its kind first.
fn as_document(kind: &Kind, resource: &Value) -> Value {
    let mut document = serde_json::Map::from_iter([("kind".to_owned(), Value::from(kind.name.clone()))]);
    if let Value::Object(fields) = resource {
        document.extend(fields.clone());
    }
    Value::Object(document)
}
