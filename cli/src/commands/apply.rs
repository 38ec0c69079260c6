//! `apply`: create what is not there, update what differs in what the file states.

use anyhow::Context as _;
use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value, json};

use super::{Context, documents::Document, get::found, method, progress, request_id};
use crate::{
    args::ApplyArgs,
    kinds::{id_of, parent_of},
    output::{self, Format},
};

/// What applying a document came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Applies every document of the files, in their order.
///
/// # Errors
/// The first document that cannot be read or is refused; those before it have been applied.
pub async fn apply(context: &Context, args: ApplyArgs) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for path in &args.filename {
        documents.extend(super::documents::read(path, &context.kinds)?);
    }
    for document in &documents {
        let (outcome, resource) = apply_one(context, document, args.dry_run)
            .await
            .with_context(|| format!("{} {} was not applied", document.kind.name, document.name))?;
        match context.format() {
            Format::Table | Format::Wide => {
                let dry = if args.dry_run { " (dry run)" } else { "" };
                println!("{} {}{dry}", document.name, outcome.word());
            }
            other => output::print_resource(&document.kind, &resource, other)?,
        }
    }
    if args.wait && !args.dry_run {
        for document in &documents {
            progress::wait_settled(context, &document.kind, &document.name).await?;
        }
    }
    Ok(())
}

async fn apply_one(context: &Context, document: &Document, dry_run: bool) -> anyhow::Result<(Outcome, Value)> {
    let kind = &document.kind;
    match found(context.read(kind, &document.name).await)? {
        None => Ok((Outcome::Created, create(context, document, dry_run).await?)),
        Some(present) => {
            let changed = changed_fields(&kind.get.output(), &document.fields, &present);
            if changed.is_empty() {
                return Ok((Outcome::Unchanged, present));
            }
            Ok((Outcome::Configured, update(context, document, &changed, dry_run).await?))
        }
    }
}

async fn create(context: &Context, document: &Document, dry_run: bool) -> anyhow::Result<Value> {
    let kind = &document.kind;
    let create = method(kind, "created", kind.create.as_ref())?;
    let field = kind
        .resource_field(&create.input())
        .context("the create request carries no resource")?;
    let mut request = json!({
        format!("{field}_id"): id_of(&document.name),
        field: document.fields,
        "request_id": request_id(),
        "validate_only": dry_run,
    });
    let parent = parent_of(&document.name);
    if !parent.is_empty() {
        request["parent"] = Value::from(parent);
    }
    Ok(context.client.call(create, request).await?)
}

async fn update(context: &Context, document: &Document, changed: &[String], dry_run: bool) -> anyhow::Result<Value> {
    let kind = &document.kind;
    let update = method(kind, "updated", kind.update.as_ref())?;
    let field = kind
        .resource_field(&update.input())
        .context("the update request carries no resource")?;
    let mut resource = document.fields.clone();
    resource.insert("name".to_owned(), Value::from(document.name.clone()));
    let request = json!({
        field: resource,
        "update_mask": changed.join(","),
        "request_id": request_id(),
        "validate_only": dry_run,
    });
    Ok(context.client.call(update, request).await?)
}

/// The fields, by JSON name, that the file states otherwise than the server has them. An etag is a lock, not a change.
fn changed_fields(resource: &MessageDescriptor, wanted: &Map<String, Value>, present: &Value) -> Vec<String> {
    let mut changed = Vec::new();
    for (key, value) in wanted {
        let field = resource
            .get_field_by_json_name(key)
            .or_else(|| resource.get_field_by_name(key));
        let json_name = field.map_or_else(|| key.clone(), |f| f.json_name().to_owned());
        if json_name != "etag" && !covers(present.get(&json_name).unwrap_or(&Value::Null), value) {
            changed.push(json_name);
        }
    }
    changed
}

/// Whether what is there says everything that is wanted. Unset and default are the same in proto3.
fn covers(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            wanted
                .iter()
                .all(|(key, value)| covers(present.get(key).unwrap_or(&Value::Null), value))
                && present
                    .keys()
                    .all(|key| wanted.contains_key(key) || is_default(&present[key]))
        }
        (Value::Array(present), Value::Array(wanted)) => {
            present.len() == wanted.len() && present.iter().zip(wanted).all(|(p, w)| covers(p, w))
        }
        (Value::Null, wanted) => is_default(wanted),
        (Value::String(text), Value::Number(number)) | (Value::Number(number), Value::String(text)) => {
            *text == number.to_string()
        }
        (present, wanted) => present == wanted,
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
    use super::*;

    #[test]
    fn what_is_there_covers_what_is_wanted() {
        assert!(covers(&json!({"a": 1, "b": ""}), &json!({"a": 1})));
        assert!(!covers(&json!({"a": 1, "b": "x"}), &json!({"a": 1})));
        assert!(covers(&Value::Null, &json!(0)));
        assert!(covers(&json!("42"), &json!(42)));
        assert!(!covers(&json!([1, 2]), &json!([2, 1])));
    }
}
