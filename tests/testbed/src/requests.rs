//! Requests that the real API server has answered, counted from its audit log.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;

/// What requests are counted under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The client's user agent, up to its version.
    pub agent: String,
    /// `get`, `list`, `create`, `patch`, …
    pub verb: String,
    /// Resource and, behind a slash, subresource.
    pub resource: String,
}

/// A place in an audit log, from which requests are counted.
#[derive(Debug, Clone)]
pub struct Mark {
    log: PathBuf,
    offset: u64,
}

/// As much of an audit event as is counted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Object>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

impl Mark {
    /// The end of the log as it is now.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn now(log: &Path) -> anyhow::Result<Self> {
        let offset = std::fs::metadata(log)
            .with_context(|| format!("cannot read {}", log.display()))?
            .len();
        Ok(Self {
            log: log.to_owned(),
            offset,
        })
    }

    /// The requests of resources since then, by client, verb and resource. Watches are left out: they are recorded when they end.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn count(&self) -> anyhow::Result<BTreeMap<Key, u64>> {
        let mut file = File::open(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        // A log that was rotated meanwhile is shorter: then all of the new one counts.
        if file.metadata()?.len() >= self.offset {
            file.seek(SeekFrom::Start(self.offset))?;
        }
        let mut counts = BTreeMap::new();
        for line in BufReader::new(file).lines() {
            if let Some(key) = key_of(&line?) {
                *counts.entry(key).or_default() += 1;
            }
        }
        Ok(counts)
    }
}

/// What a line counts under; `None` for what is not counted, and for a line that is still being written.
fn key_of(line: &str) -> Option<Key> {
    let event: Event = serde_json::from_str(line).ok()?;
    let object = event.object_ref?;
    if event.verb == "watch" || object.resource.is_empty() {
        return None;
    }
    let resource = if object.subresource.is_empty() {
        object.resource
    } else {
        format!("{}/{}", object.resource, object.subresource)
    };
    Some(Key {
        agent: event.user_agent.split('/').next().unwrap_or_default().to_owned(),
        verb: event.verb,
        resource,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn requests_since_a_mark_are_counted() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        let event = |verb: &str| {
            format!(
                r#"{{"verb":"{verb}","userAgent":"steading-lifecycle/0.1","objectRef":{{"resource":"pods","subresource":"eviction"}}}}"#
            )
        };
        writeln!(log, "{}", event("create")).unwrap();
        let mark = Mark::now(log.path()).unwrap();
        writeln!(
            log,
            "{}\n{}\n{{\"verb\":\"get\"}}\nunfinished",
            event("create"),
            event("watch")
        )
        .unwrap();
        let key = Key {
            agent: "steading-lifecycle".to_owned(),
            verb: "create".to_owned(),
            resource: "pods/eviction".to_owned(),
        };
        assert_eq!(mark.count().unwrap(), [(key, 1)].into());
    }
}
