//! The one home of the wall clock.
//!
//! Whoever needs the time of day takes a [`Clock`]; tests and the simulation hand in one of their own. Waiting
//! is not part of it: timers are tokio's.

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Tells the time of day. Clones of a manual clock share its time.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<Mutex<Timestamp>>),
    Custom(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until it is advanced.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Mutex::new(start))))
    }

    /// A clock that asks `now`, such as a simulation's.
    pub fn custom(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Source::Custom(Arc::new(now)))
    }

    /// The time now.
    #[allow(clippy::disallowed_methods, reason = "the clock is the home of the wall clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(now) => *now.lock(),
            Source::Custom(now) => now(),
        }
    }

    /// Moves a manual clock on, at most to the end of time; the others go their own way.
    pub fn advance(&self, by: SignedDuration) {
        if let Source::Manual(now) = &self.0 {
            let mut now = now.lock();
            *now = now.saturating_add(by).unwrap_or(*now);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.0 {
            Source::System => "system",
            Source::Manual(_) => "manual",
            Source::Custom(_) => "custom",
        };
        f.debug_tuple("Clock").field(&source).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_for_all_its_clones() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let other = clock.clone();
        assert_eq!(other.now(), Timestamp::UNIX_EPOCH);
        clock.advance(SignedDuration::from_secs(5));
        assert_eq!(other.now().as_second(), 5);
    }

    #[test]
    fn a_custom_clock_is_asked() {
        assert_eq!(Clock::custom(|| Timestamp::MAX).now(), Timestamp::MAX);
    }
}
