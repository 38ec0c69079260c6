//! `watch`: the changes of a collection, a line each, resumed when the stream ends.

use std::time::Duration;

use anyhow::anyhow;
use futures::StreamExt;
use serde_json::{Value, json};

use super::{Context, method};
use crate::{
    args::WatchArgs,
    client::CallError,
    kinds::Kind,
    output::{Format, columns, name_of, out, table},
};

/// First pause before a stream is taken up again; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause: a person at a terminal wants to see the server come back.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Follows a collection until Ctrl-C.
///
/// # Errors
/// A kind without a watch, or a refusal that trying again cannot mend.
pub async fn watch(context: &Context, args: WatchArgs) -> anyhow::Result<()> {
    let kind = context.kind(&args.kind)?;
    let parent = kind
        .complete_parent(args.parent.as_deref(), &context.global.scope())
        .map_err(|message| anyhow!(message))?;
    let watch = method(&kind, "watched", kind.watch.as_ref())?;
    let field = kind
        .resource_field(&watch.output())
        .ok_or_else(|| anyhow!("the watch carries no resource"))?;
    let json_field = watch
        .output()
        .get_field_by_name(&field)
        .map_or(field, |f| f.json_name().to_owned());
    let mut token = String::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let mut request = json!({ "resumeToken": token });
        for (key, value) in [("parent", Some(parent.as_str())), ("filter", args.filter.as_deref())] {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                request[key] = Value::from(value);
            }
        }
        match follow(context, &kind, watch, &json_field, request, &mut token).await {
            Ok(()) => {}
            Err(error) => match error.downcast::<CallError>()? {
                error if error.is_unavailable() => out::note(&format!("watch interrupted, trying again: {error}")),
                CallError::Rpc(status) if status.code() == tonic::Code::OutOfRange => token.clear(),
                error => return Err(error.into()),
            },
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn follow(
    context: &Context,
    kind: &Kind,
    watch: &prost_reflect::MethodDescriptor,
    field: &str,
    request: Value,
    token: &mut String,
) -> anyhow::Result<()> {
    let mut stream = Box::pin(context.client.stream(watch, request).await?);
    while let Some(event) = stream.next().await {
        let event = event?;
        if let Some(next) = event.get("resumeToken").and_then(Value::as_str) {
            next.clone_into(token);
        }
        print_event(context, kind, &event, field)?;
    }
    Ok(())
}

fn print_event(context: &Context, kind: &Kind, event: &Value, field: &str) -> anyhow::Result<()> {
    let word = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let word = word.strip_prefix("WATCH_EVENT_TYPE_").unwrap_or(word);
    let resource = event.get(field).unwrap_or(&Value::Null);
    match context.format() {
        Format::Json | Format::Yaml => out::line(event)?,
        Format::Name => out::line(format_args!("{word} {}", name_of(resource)))?,
        Format::Table | Format::Wide if resource.is_null() => out::line(word)?,
        Format::Table | Format::Wide => {
            let message = kind.get.output();
            let cells: Vec<String> = columns::of_kind(&kind.name)
                .iter()
                .filter(|c| !c.wide || context.format() == Format::Wide)
                .map(|c| {
                    format!(
                        "{}={}",
                        c.heading.to_lowercase().replace(' ', "-"),
                        table::cell_of(&message, resource, c.path)
                    )
                })
                .collect();
            let state = table::cell_at(resource, "state");
            out::line(format_args!(
                "{word:<9} {}  {state}  {}",
                name_of(resource),
                cells.join(" ")
            ))?;
        }
    }
    Ok(())
}
