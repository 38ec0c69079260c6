//! How fresh the view of one kind is, derived from what its stream has shown.
//!
//! ```text
//!             list completed                  nothing heard for `silence`, a failure
//!  SYNCING ───────────────────► LIVE ─────────────────────────────────────────────► STALE(why)
//!                                ▲                                                     │
//!                                └──── event, bookmark or completed list ──────────────┘
//! ```
//!
//! A reconnect that was accepted proves nothing: a proxy may accept and stay silent. An event, a bookmark or a completed list does.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::version::Version;

/// Why a view is not fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaleReason {
    /// Neither an event nor a bookmark came for longer than two bookmark periods.
    Silent,
    /// The API server has no such kind.
    NotInstalled,
    /// The API server forbids reading it.
    Forbidden,
    /// The API server refuses work for now (429, 5xx).
    Throttled,
    /// The version that the watch would go on from is too old.
    Expired,
    /// The connection failed or broke.
    Unreachable(String),
    /// What was read does not decode.
    Undecodable(String),
}

impl StaleReason {
    /// What an error of the API server means for a view.
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                404 | 405 => Self::NotInstalled,
                401 | 403 => Self::Forbidden,
                410 => Self::Expired,
                429 | 500..=599 => Self::Throttled,
                _ => Self::Unreachable(status.message.clone()),
            },
            kube::Error::SerdeError(error) => Self::Undecodable(error.to_string()),
            other => Self::Unreachable(other.to_string()),
        }
    }

    /// One word for labels of metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::NotInstalled => "not-installed",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Expired => "expired",
            Self::Unreachable(_) => "unreachable",
            Self::Undecodable(_) => "undecodable",
        }
    }
}

impl fmt::Display for StaleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("the watch is silent"),
            Self::NotInstalled => f.write_str("the kind is not installed"),
            Self::Forbidden => f.write_str("reading the kind is forbidden"),
            Self::Throttled => f.write_str("the API server refuses work"),
            Self::Expired => f.write_str("the watch expired"),
            Self::Unreachable(why) => write!(f, "the API server cannot be reached: {why}"),
            Self::Undecodable(why) => write!(f, "the answer does not decode: {why}"),
        }
    }
}

/// How fresh a view is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The first list is not complete.
    Syncing,
    /// The view is as new as the stream; nothing is missing from it up to `version`.
    Live {
        /// The newest version that was heard of.
        version: Version,
        /// When the stream last proved itself.
        seen_at: Instant,
    },
    /// What is known may be old, and what is missing may exist.
    Stale {
        /// Since when.
        since: Instant,
        /// Why.
        why: StaleReason,
    },
}

impl Health {
    /// Whether what is missing from the view can be said not to exist, as far as a view can.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

/// What was heard of one kind; [`Record::judge`] derives the health from it.
#[derive(Debug, Clone, Default)]
pub struct Record {
    version: Version,
    listed: bool,
    proven_at: Option<Instant>,
    failure: Option<(Instant, StaleReason)>,
}

impl Record {
    /// An event, a bookmark or a completed list arrived: the stream works up to `version`.
    pub fn proven(&mut self, version: Version, now: Instant) {
        self.version = self.version.max(version);
        self.proven_at = Some(now);
        self.failure = None;
    }

    /// The kind was listed whole.
    pub fn listed(&mut self, version: Version, now: Instant) {
        self.listed = true;
        self.proven(version, now);
    }

    /// Reading failed. The first failure dates the staleness, the last one explains it.
    pub fn failed(&mut self, why: StaleReason, now: Instant) {
        let since = self.failure.take().map_or(now, |(since, _)| since);
        self.failure = Some((since, why));
    }

    /// Whether it was listed whole once.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// The health at a moment. `silence` is the longest pause between two proofs.
    pub fn judge(&self, now: Instant, silence: Duration) -> Health {
        if let Some((since, why)) = &self.failure {
            return Health::Stale {
                since: *since,
                why: why.clone(),
            };
        }
        match self.proven_at {
            Some(seen_at) if self.listed => {
                let expiry = seen_at + silence;
                if now > expiry {
                    return Health::Stale {
                        since: expiry,
                        why: StaleReason::Silent,
                    };
                }
                Health::Live {
                    version: self.version,
                    seen_at,
                }
            }
            Some(_) | None => Health::Syncing,
        }
    }
}

/// The health of a source, readable from everywhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedHealth {
    record: Arc<RwLock<Record>>,
    silence: Duration,
}

impl SharedHealth {
    /// Nothing heard yet; `silence` is the longest pause between two proofs of a live stream.
    pub fn new(silence: Duration) -> Self {
        Self {
            record: Arc::default(),
            silence,
        }
    }

    /// The health now.
    pub fn judge(&self) -> Health {
        self.record.read().judge(Instant::now(), self.silence)
    }

    /// Whether the view is fresh now.
    pub fn is_live(&self) -> bool {
        self.judge().is_live()
    }

    /// Whether the kind was listed whole once.
    pub fn is_listed(&self) -> bool {
        self.record.read().is_listed()
    }

    /// Notes what was heard; returns the health before and after.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Record, Instant)) -> (Health, Health) {
        let now = Instant::now();
        let mut record = self.record.write();
        let before = record.judge(now, self.silence);
        change(&mut record, now);
        (before, record.judge(now, self.silence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(150);

    #[tokio::test(start_paused = true)]
    async fn live_is_what_proved_itself_lately() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut record = Record::default();
        assert_eq!(record.judge(at(0), SILENCE), Health::Syncing);
        record.listed(Version::from(5), at(1));
        assert!(record.judge(at(151), SILENCE).is_live());
        let silent = record.judge(at(152), SILENCE);
        assert_eq!(
            silent,
            Health::Stale {
                since: at(151),
                why: StaleReason::Silent
            }
        );
        record.proven(Version::from(4), at(153));
        assert_eq!(
            record.judge(at(153), SILENCE),
            Health::Live {
                version: Version::from(5),
                seen_at: at(153)
            },
            "a bookmark heals, and the version never goes back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_stale_at_once_and_keeps_its_date() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut record = Record::default();
        record.listed(Version::from(1), at(0));
        record.failed(StaleReason::Throttled, at(1));
        record.failed(StaleReason::Forbidden, at(9));
        assert_eq!(
            record.judge(at(10), SILENCE),
            Health::Stale {
                since: at(1),
                why: StaleReason::Forbidden
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_was_never_listed_is_not_live_by_an_event() {
        let mut record = Record::default();
        record.proven(Version::from(1), Instant::now());
        assert_eq!(record.judge(Instant::now(), SILENCE), Health::Syncing);
    }
}
