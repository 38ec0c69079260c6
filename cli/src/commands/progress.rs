//! Waiting for what the services do, with something to see meanwhile.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::Instant;

use super::{Context, get::found};
use crate::{
    kinds::Kind,
    output::table::{at, cell_at},
};

/// Pause between two reads: fast enough for a person, a handful of reads a second for the server.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long a failed state that the service still works on may last: it may be that of a moment ago, before the service saw the last change.
const GRACE: Duration = Duration::from_secs(10);

/// Why waiting ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The resource is in a state of failure.
    #[error("{name} is {state}: {reason}")]
    Failed {
        /// Its name.
        name: String,
        /// The state, without its prefix.
        state: String,
        /// What the resource says about it.
        reason: String,
    },
    /// It took too long.
    #[error("{name} is not {until} after {seconds}s: {last}")]
    TimedOut {
        /// Its name.
        name: String,
        /// What was waited for.
        until: String,
        /// How long it was waited for.
        seconds: u64,
        /// What it was doing last.
        last: String,
    },
}

/// Whether to wait longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What was waited for is there.
    Done,
    /// It cannot come about by itself.
    Failed,
    /// It has failed as far as can be seen, but the service still works on it.
    FailedSoFar,
    /// It may come.
    Pending,
}

/// Waits until a resource is no longer reconciling.
///
/// # Errors
/// It fails, is deleted, or takes too long.
pub async fn wait_settled(context: &Context, kind: &Kind, name: &str, limit: Duration) -> anyhow::Result<Value> {
    let settled = wait(context, kind, name, ("settled", limit), |resource| {
        resource.map_or(Verdict::Failed, settled)
    });
    settled.await.map(Option::unwrap_or_default)
}

/// Whether a resource has come to rest, and where.
fn settled(resource: &Value) -> Verdict {
    let failed = matches!(cell_at(resource, "state").as_str(), "FAILED" | "REJECTED");
    let reconciling = at(resource, "reconciling").as_bool() == Some(true);
    match (failed, reconciling) {
        (true, true) => Verdict::FailedSoFar,
        (true, false) => Verdict::Failed,
        (false, true) => Verdict::Pending,
        (false, false) => Verdict::Done,
    }
}

/// Waits until a resource is gone.
///
/// # Errors
/// It takes too long.
pub async fn wait_gone(context: &Context, kind: &Kind, name: &str, limit: Duration) -> anyhow::Result<()> {
    let gone = wait(context, kind, name, ("gone", limit), |resource| match resource {
        Some(_) => Verdict::Pending,
        None => Verdict::Done,
    });
    gone.await.map(drop)
}

/// Waits until `judge` says that the resource, or its absence, is what was waited for. `until` says what that is, for people, and how long it may
/// take.
///
/// # Errors
/// [`WaitError`], or the server refuses.
pub async fn wait(
    context: &Context,
    kind: &Kind,
    name: &str,
    (until, limit): (&str, Duration),
    judge: impl Fn(Option<&Value>) -> Verdict,
) -> anyhow::Result<Option<Value>> {
    let bar = spinner(&format!("{name}: waiting until {until}"));
    let deadline = Instant::now() + limit;
    let mut failed_since = None;
    loop {
        let last = match found(context.read(kind, name).await) {
            // A server that restarts meanwhile is no reason to give up.
            Err(error) if error.is_unavailable() && Instant::now() < deadline => error.to_string(),
            Err(error) => return Err(error.into()),
            Ok(resource) => {
                let verdict = judge(resource.as_ref());
                if verdict == Verdict::Done {
                    bar.finish_and_clear();
                    return Ok(resource);
                }
                let since = match verdict {
                    Verdict::FailedSoFar => Some(*failed_since.get_or_insert_with(Instant::now)),
                    _ => None,
                };
                failed_since = since;
                if verdict == Verdict::Failed || since.is_some_and(|since| since.elapsed() >= GRACE) {
                    bar.finish_and_clear();
                    return Err(failed(name, resource.as_ref()).into());
                }
                resource
                    .as_ref()
                    .map_or_else(|| "it does not exist".to_owned(), what_it_waits_for)
            }
        };
        bar.set_message(format!("{name}: {last}"));
        if Instant::now() >= deadline {
            bar.finish_and_clear();
            return Err(WaitError::TimedOut {
                name: name.to_owned(),
                until: until.to_owned(),
                seconds: limit.as_secs(),
                last,
            }
            .into());
        }
        tokio::time::sleep(LOOK_EVERY.min(limit)).await;
    }
}

fn failed(name: &str, resource: Option<&Value>) -> WaitError {
    let (state, reason) = match resource {
        Some(resource) => (cell_at(resource, "state"), why(resource)),
        None => ("gone".to_owned(), None),
    };
    WaitError::Failed {
        name: name.to_owned(),
        state,
        reason: reason.unwrap_or_else(|| "it gives no reason".to_owned()),
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
    match why(resource) {
        Some(message) => format!("{state}: {message}"),
        None => state,
    }
}

/// What a resource says about its state: its own words, or those of the first condition that does not hold.
fn why(resource: &Value) -> Option<String> {
    let unmet = at(resource, "conditions").as_array().and_then(|all| {
        all.iter()
            .find(|c| at(c, "status").as_str() == Some("CONDITION_STATUS_FALSE"))
    });
    let words = |value: &Value, reason: &str, message: &str| {
        let (reason, message) = (at(value, reason).as_str(), at(value, message).as_str());
        match (reason.filter(|r| !r.is_empty()), message.filter(|m| !m.is_empty())) {
            (Some(reason), Some(message)) => Some(format!("{message} ({reason})")),
            (one, other) => one.or(other).map(ToOwned::to_owned),
        }
    };
    words(resource, "stateReason", "stateMessage").or_else(|| words(unmet?, "reason", "message"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_that_has_failed_is_not_settled() {
        for (resource, verdict) in [
            (json!({"state": "STATE_READY"}), Verdict::Done),
            (json!({"state": "STATE_READY", "reconciling": true}), Verdict::Pending),
            (json!({"state": "STATE_REJECTED"}), Verdict::Failed),
            (
                json!({"state": "STATE_FAILED", "reconciling": true}),
                Verdict::FailedSoFar,
            ),
            (json!({}), Verdict::Done),
        ] {
            assert_eq!(settled(&resource), verdict, "{resource}");
        }
    }

    #[test]
    fn a_failure_says_why() {
        let pool = json!({"name": "p", "state": "STATE_REJECTED", "conditions": [
            {"type": "A", "status": "CONDITION_STATUS_TRUE", "message": "fine"},
            {"type": "Ready", "status": "CONDITION_STATUS_FALSE", "reason": "TemplateNotFound", "message": "there is none"},
        ]});
        assert_eq!(
            failed("p", Some(&pool)).to_string(),
            "p is REJECTED: there is none (TemplateNotFound)"
        );
        assert_eq!(failed("p", None).to_string(), "p is gone: it gives no reason");
    }
}
