//! `apply`: create what is not there, update what differs in what the file states.

mod compare;

use anyhow::Context as _;
use serde_json::{Value, json};

use self::compare::changed_fields;
use super::{Context, documents::Document, get::found, method, progress, request_id};
use crate::{
    args::ApplyArgs,
    kinds::{id_of, parent_of},
    output::{self, Format, out},
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

/// Applies every document of the files, in their order. All are read and checked against the contract before the first is applied.
///
/// # Errors
/// A document that cannot be read, before anything is applied; or the first that is refused, and those before it have been applied.
pub async fn apply(context: &Context, args: ApplyArgs) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for path in &args.filename {
        documents.extend(super::documents::read(path, &context.kinds)?);
    }
    for document in &documents {
        method(&document.kind, "created", document.kind.create.as_ref())
            .or_else(|_| method(&document.kind, "applied", document.kind.update.as_ref()))
            .with_context(|| format!("{} {}", document.kind.name, document.name))?;
    }
    let mut applied = Vec::new();
    let mut refused = None;
    for document in &documents {
        let outcome = apply_one(context, document, args.dry_run)
            .await
            .with_context(|| format!("{} {} was not applied", document.kind.name, document.name));
        let (outcome, resource) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                refused = Some(error);
                break;
            }
        };
        if matches!(context.format(), Format::Table | Format::Wide) {
            let dry = if args.dry_run { " (dry run)" } else { "" };
            out::line(format_args!("{} {}{dry}", document.name, outcome.word()))?;
        }
        applied.push((&document.kind, resource));
    }
    if !matches!(context.format(), Format::Table | Format::Wide) {
        let resources = applied.iter().map(|(kind, resource)| (*kind, resource));
        output::print_documents(resources, context.format())?;
    }
    if let Some(error) = refused {
        return Err(error);
    }
    if args.wait.wait && !args.dry_run {
        for document in &documents {
            progress::wait_settled(context, &document.kind, &document.name, args.wait.timeout).await?;
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
