//! Waiting for what the services do, with something to see meanwhile.

use std::{io::IsTerminal, time::Duration};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{Context, get::found};
use crate::{
    kinds::Kind,
    output::table::{at, cell_at},
};

/// Pause between two looks: fast enough for a person, a handful of reads a second for the server.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long a wait may last before it is given up with an error; work on real machines takes minutes.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30 * 60);

/// Waits until a resource is no longer reconciling.
///
/// # Errors
/// When it fails, vanishes or takes too long.
pub async fn wait_settled(context: &Context, kind: &Kind, name: &str) -> anyhow::Result<Value> {
    wait(context, kind, name, "settled", |resource| match resource {
        Some(resource) => at(resource, "reconciling").as_bool() != Some(true),
        None => false,
    })
    .await
    .map(Option::unwrap_or_default)
}

/// Waits until a resource is gone.
///
/// # Errors
/// When it takes too long.
pub async fn wait_gone(context: &Context, kind: &Kind, name: &str) -> anyhow::Result<()> {
    wait(context, kind, name, "gone", |resource| resource.is_none())
        .await
        .map(|_| ())
}

/// Waits until `done` holds of the resource, or of its absence.
///
/// # Errors
/// When the server refuses, or after half an hour.
pub async fn wait(
    context: &Context,
    kind: &Kind,
    name: &str,
    until: &str,
    done: impl Fn(Option<&Value>) -> bool,
) -> anyhow::Result<Option<Value>> {
    let bar = spinner(&format!("{name}: waiting until {until}"));
    let deadline = tokio::time::Instant::now() + GIVE_UP_AFTER;
    loop {
        let resource = match found(context.read(kind, name).await) {
            // A server that restarts meanwhile is no reason to give up.
            Err(error) if error.is_unavailable() && tokio::time::Instant::now() < deadline => {
                bar.set_message(format!("{name}: {error}"));
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            other => other?,
        };
        if done(resource.as_ref()) {
            bar.finish_and_clear();
            return Ok(resource);
        }
        if let Some(resource) = &resource {
            bar.set_message(format!("{name}: {}", what_it_waits_for(resource)));
        }
        if tokio::time::Instant::now() >= deadline {
            bail!(
                "{name} is not {until} after {} minutes; see `steading describe {} {name}`",
                GIVE_UP_AFTER.as_secs() / 60,
                kind.name
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A spinner on a terminal, nothing elsewhere.
pub fn spinner(message: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// The state, and the message of the first condition that does not hold.
fn what_it_waits_for(resource: &Value) -> String {
    let state = cell_at(resource, "state");
    let unmet = at(resource, "conditions")
        .as_array()
        .and_then(|all| {
            all.iter()
                .find(|c| at(c, "status").as_str() == Some("CONDITION_STATUS_FALSE"))
        })
        .and_then(|c| at(c, "message").as_str());
    match unmet {
        Some(message) => format!("{state}: {message}"),
        None => state,
    }
}
