//! `delete`.

use anyhow::Context as _;
use serde_json::json;

use super::{Context, method, progress, request_id};
use crate::{args::DeleteArgs, kinds::Kind};

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
        ("allow_missing", json!(args.ignore_not_found)),
        ("force", json!(args.force)),
        ("request_id", json!(request_id())),
        ("validate_only", json!(args.dry_run)),
    ] {
        if delete.input().get_field_by_name(field).is_some() {
            request[field] = value;
        }
    }
    context.client.call(delete, request).await?;
    if args.wait && !args.dry_run {
        progress::wait_gone(context, kind, name).await?;
        println!("{name} deleted");
    } else {
        println!(
            "{name} {}",
            if args.dry_run {
                "can be deleted (dry run)"
            } else {
                "deletion begun"
            }
        );
    }
    Ok(())
}
