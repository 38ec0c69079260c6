//! A watch's events, one after the other.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// How long a case waits for what must happen. The real control plane needs some seconds where many cases run at once.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// An open watch.
pub struct Watch {
    body: Body,
    partial: Vec<u8>,
    ready: VecDeque<Value>,
}

impl Watch {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            partial: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// The next event; none when the watch ended or none came within `wait`.
    ///
    /// # Errors
    /// When the stream breaks or is no JSON.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Value>> {
        let end = Instant::now() + wait;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Ok(frame) = timeout_at(end, self.body.frame()).await else {
                return Ok(None);
            };
            let Some(frame) = frame else {
                return Ok(None);
            };
            if let Ok(data) = frame.context("a watch")?.into_data() {
                self.partial.extend_from_slice(&data);
                self.split()?;
            }
        }
    }

    fn split(&mut self) -> Result<()> {
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                self.ready
                    .push_back(serde_json::from_slice(&line).context("an event of a watch")?);
            }
        }
        Ok(())
    }

    /// The next event that is no bookmark, within [`DEADLINE`].
    ///
    /// # Errors
    /// When none comes.
    pub async fn change(&mut self, what: &str) -> Result<Value> {
        let end = Instant::now() + DEADLINE;
        while let Some(event) = self.next(end.saturating_duration_since(Instant::now())).await? {
            if at(&event, "type").and_then(Value::as_str) != Some("BOOKMARK") {
                return Ok(event);
            }
        }
        bail!("{what}: no event within {DEADLINE:?}")
    }

    /// All events until the last one is as wanted, within [`DEADLINE`].
    ///
    /// # Errors
    /// When none is, with the type and object of what came last.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while let Some(event) = self.next(end.saturating_duration_since(Instant::now())).await? {
            let found = wanted(&event);
            seen.push(event);
            if found {
                return Ok(seen);
            }
        }
        let last = seen.last().map(Value::to_string).unwrap_or_default();
        bail!("{what}: not within {DEADLINE:?}, {} events; last: {last}", seen.len())
    }

    /// Whether the server ended it within `wait`; events that come first are left out.
    ///
    /// # Errors
    /// When the stream breaks or is no JSON.
    pub async fn ends(&mut self, wait: Duration) -> Result<bool> {
        let end = Instant::now() + wait;
        loop {
            let Ok(frame) = timeout_at(end, self.body.frame()).await else {
                return Ok(false);
            };
            match frame {
                None => return Ok(true),
                Some(frame) => drop(frame.context("a watch")?),
            }
        }
    }

    /// Ends it.
    pub fn close(self) {
        drop(self);
    }
}

/// The value at a path of names and indices divided by `/`; a `~1` in a name stands for a slash.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    path.split('/').try_fold(value, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        Value::Object(map) => map.get(&name.replace("~1", "/")),
        _ => None,
    })
}
