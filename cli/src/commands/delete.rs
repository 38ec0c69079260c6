//! `delete`.

use anyhow::Context as _;
use serde_json::json;

use super::{Context, method, progress, request_id};
use crate::{args::DeleteArgs, kinds::Kind, output::out};

/// Deletes one resource, or what files name, last first: children stand below their parents.
///
/// # Errors
/// The first that is refused.
pub async fn delete(context: &Context, args: DeleteArgs) -> anyhow::Result<()> {
    let mut targets: Vec<(Kind, String)> = Vec::new();
    if let (Some(kind), Some(name)) = (&args.kind, &args.name) {
        let kind = context.kind(kind)?;
        let name = context.name(&kind, name)?;
        targets.push((kind, name));
    }
    for path in &args.filename {
        let documents = super::documents::read(path, &context.kinds)?;
        targets.extend(documents.into_iter().rev().map(|d| (d.kind, d.name)));
    }
    for (kind, name) in &targets {
        delete_one(context, kind, name, &args)
            .await
            .with_context(|| format!("{name} was not deleted"))?;
    }
    Ok(())
}

async fn delete_one(context: &Context, kind: &Kind, name: &str, args: &DeleteArgs) -> anyhow::Result<()> {
    let delete = method(kind, "deleted", kind.delete.as_ref())?;
    let mut request = json!({ "name": name });
    for (field, value) in [
        ("force", json!(args.force)),
        ("request_id", json!(request_id())),
        ("validate_only", json!(args.dry_run)),
    ] {
        if delete.input().get_field_by_name(field).is_some() {
            request[field] = value;
        }
    }
    match context.client.call(delete, request).await {
        // Asked of the server with `allow_missing`, an answer would not tell whether there was anything.
        Err(error) if args.ignore_not_found && error.is_not_found() => {
            out::line(format_args!("{name} not found, nothing to delete"))?;
            return Ok(());
        }
        deleted => deleted?,
    };
    if args.dry_run {
        out::line(format_args!("{name} can be deleted (dry run)"))?;
    } else if args.wait.wait {
        progress::wait_gone(context, kind, name, args.wait.timeout).await?;
        out::line(format_args!("{name} deleted"))?;
    } else {
        out::line(format_args!("{name} is being deleted"))?;
    }
    Ok(())
}
