//! How far a drain is: told to people, and kept with the machine so that another replica goes on where the last one stopped.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A drain that is over by then leaves no trace in the object: most are.
const QUICK: SignedDuration = SignedDuration::from_secs(3);
/// Least time between two writes that only count pods or word the same trouble anew.
const COUNT_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// How far a drain is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Pods that still have to leave.
    pub remaining: usize,
    /// Since when evictions are held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
    /// Since when only volumes are waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detaching_since: Option<Timestamp>,
    /// What holds it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled: Option<Stall>,
    /// When this was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Timestamp>,
}

/// What holds a drain up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// In CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Progress {
    /// The progress in the annotation of a machine, if it is of the drain that began at `started`.
    pub fn parse(text: &str, started: Timestamp) -> Option<Self> {
        let found: Self = serde_json::from_str(text).ok()?;
        found.written.is_some_and(|written| written >= started).then_some(found)
    }

    /// Whether it is worth a write, given what was written last.
    pub fn is_news(&self, stored: Option<&Self>, started: Timestamp, now: Timestamp) -> bool {
        if now.duration_since(started) < QUICK {
            return false;
        }
        let Some(stored) = stored else { return true };
        let kind = |p: &Self| {
            (
                p.held_since.is_some(),
                p.detaching_since.is_some(),
                p.stalled.as_ref().map(|s| s.reason.clone()),
            )
        };
        let rest = |p: &Self| (p.remaining, p.stalled.clone());
        let old = stored
            .written
            .is_none_or(|written| now.duration_since(written) >= COUNT_AGAIN);
        kind(self) != kind(stored) || (old && rest(self) != rest(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    #[test]
    fn what_was_written_is_read_back_unless_it_is_of_an_older_drain() {
        let progress = Progress {
            remaining: 2,
            held_since: Some(at(1)),
            written: Some(at(5)),
            ..Progress::default()
        };
        let text = serde_json::to_string(&progress).expect("text");
        assert_eq!(Progress::parse(&text, at(0)), Some(progress));
        assert_eq!(Progress::parse(&text, at(6)), None);
        assert_eq!(Progress::parse("{}", at(0)), None);
        assert_eq!(Progress::parse("nonsense", at(0)), None);
    }

    #[test]
    fn only_what_lasts_and_what_changes_is_written() {
        let seen = Progress {
            remaining: 3,
            ..Progress::default()
        };
        assert!(!seen.is_news(None, at(0), at(2)), "most drains are over by then");
        assert!(seen.is_news(None, at(0), at(4)));
        let stored = Progress {
            written: Some(at(4)),
            ..seen.clone()
        };
        assert!(!seen.is_news(Some(&stored), at(0), at(60)), "nothing new");
        let fewer = Progress {
            remaining: 2,
            ..Progress::default()
        };
        assert!(!fewer.is_news(Some(&stored), at(0), at(6)), "a count can wait");
        assert!(fewer.is_news(Some(&stored), at(0), at(14)));
        let held = Progress {
            held_since: Some(at(5)),
            ..seen
        };
        assert!(held.is_news(Some(&stored), at(0), at(5)), "trouble cannot");
    }
}
