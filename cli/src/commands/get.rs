//! `get`, `describe` and `kinds`.

use anyhow::anyhow;
use serde_json::{Value, json};

use super::{Context, method};
use crate::{
    args::{GetArgs, NameArgs},
    client::CallError,
    kinds::Kind,
    output::{self, Format, describe, out, table},
};

/// Resources asked for in one page: the most that the services give.
const PAGE_SIZE: i32 = 500;
/// Pages read at most: a list of more than this is a mistake in the filter, or a case for the API.
const MAX_PAGES: usize = 200;

/// Shows one resource or a list.
///
/// # Errors
/// A name that does not fit, or what the server says.
pub async fn get(context: &Context, args: GetArgs) -> anyhow::Result<()> {
    let kind = context.kind(&args.kind)?;
    if args.name.is_some() || kind.is_singleton() {
        let name = context.name_or_singleton(&kind, args.name.as_deref())?;
        let resource = context.read(&kind, &name).await?;
        return match context.format() {
            // A table of one row that stays the only one says less than the long form.
            Format::Table | Format::Wide if kind.is_singleton() => {
                out::line(describe::render(&kind.get.output(), &resource))?;
                Ok(())
            }
            format => output::print_resource(&kind, &resource, format),
        };
    }
    let parent = kind
        .complete_parent(args.parent.as_deref(), &context.global.scope())
        .map_err(|message| anyhow!(message))?;
    let resources = list(
        context,
        &kind,
        &parent,
        args.filter.as_deref(),
        args.order_by.as_deref(),
    )
    .await?;
    output::print_resources(&kind, &resources, context.format())
}

/// Reads a whole collection, page by page.
///
/// # Errors
/// A kind without a list, or what the server says.
pub async fn list(
    context: &Context,
    kind: &Kind,
    parent: &str,
    filter: Option<&str>,
    order_by: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let list = method(kind, "listed", kind.list.as_ref())?;
    let field = list
        .output()
        .fields()
        .find(|f| f.is_list())
        .map(|f| f.json_name().to_owned())
        .ok_or_else(|| anyhow!("{} has no list of resources", list.output().full_name()))?;
    let mut resources = Vec::new();
    let mut token = Value::Null;
    for _ in 0..MAX_PAGES {
        let mut request = json!({ "pageSize": PAGE_SIZE, "pageToken": token });
        for (key, value) in [("parent", Some(parent)), ("filter", filter), ("orderBy", order_by)] {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                request[key] = Value::from(value);
            }
        }
        let mut page = context.client.call(list, request).await?;
        if let Some(Value::Array(items)) = page.get_mut(&field).map(Value::take) {
            resources.extend(items);
        }
        token = page.get_mut("nextPageToken").map(Value::take).unwrap_or_default();
        if token.as_str().unwrap_or_default().is_empty() {
            return Ok(resources);
        }
    }
    Err(anyhow!(
        "more than {} {}: narrow the list with --filter",
        resources.len(),
        kind.collection
    ))
}

/// Shows one resource at length.
///
/// # Errors
/// As [`get`].
pub async fn describe(context: &Context, args: NameArgs) -> anyhow::Result<()> {
    let kind = context.kind(&args.kind)?;
    let name = context.name_or_singleton(&kind, args.name.as_deref())?;
    let resource = context.read(&kind, &name).await?;
    match context.format() {
        Format::Table | Format::Wide => out::line(describe::render(&kind.get.output(), &resource))?,
        other => output::print_resource(&kind, &resource, other)?,
    }
    Ok(())
}

/// Lists the kinds.
///
/// # Errors
/// When the result cannot be written.
pub fn kinds(context: &Context) -> anyhow::Result<()> {
    let rows: Vec<(String, Vec<&str>, String)> = context
        .kinds
        .iter()
        .map(|kind| {
            let can = [
                ("list", kind.list.is_some()),
                ("create", kind.create.is_some()),
                ("update", kind.update.is_some()),
                ("delete", kind.delete.is_some()),
                ("watch", kind.watch.is_some()),
            ];
            let verbs = std::iter::once("get").chain(can.iter().filter(|(_, has)| *has).map(|(verb, _)| *verb));
            (kind.name.clone(), verbs.collect(), kind.patterns.join(", "))
        })
        .collect();
    match context.format() {
        Format::Table | Format::Wide => {
            let mut table = table::plain_table();
            table.set_header(["KIND", "VERBS", "NAMES"]);
            for (name, verbs, patterns) in rows {
                table.add_row([name, verbs.join(","), patterns]);
            }
            out::line(table::trimmed(&table))?;
        }
        Format::Name => {
            for (name, ..) in rows {
                out::line(name)?;
            }
        }
        other => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(n, v, p)| json!({ "kind": n, "verbs": v, "names": p }))
                .collect();
            output::print_value(&Value::from(rows), other)?;
        }
    }
    Ok(())
}

/// Whether a resource exists; any other failure is passed on.
pub(crate) fn found(result: Result<Value, CallError>) -> Result<Option<Value>, CallError> {
    match result {
        Ok(resource) => Ok(Some(resource)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
