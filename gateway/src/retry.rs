//! When a call is made again, and when an upstream is left alone: decisions without a clock or a connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::code::Code;

/// Calls after the first.
pub(crate) const MOST: u32 = 2;
/// Before the first repetition; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an upstream that could not be reached is left alone; doubled with each failure in a row.
const REST: Duration = Duration::from_millis(20);
/// The longest rest: a service that is back is noticed within this time.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Whether a failed call may be made again: it is marked idempotent, the failure says that the service did not do it, and the service
/// does not ask for more patience than the gateway has (gRFC A6).
pub(crate) fn is_worthwhile(idempotent: bool, code: Code, asked_to_wait: bool, repeated: u32) -> bool {
    idempotent && code == Code::Unavailable && !asked_to_wait && repeated < MOST
}

/// Time before repetition number `repeated`, counted from 0. `chance` from 0 to 1 keeps clients that failed together from coming back
/// together.
pub(crate) fn pause(repeated: u32, chance: f64) -> Duration {
    let longest = PAUSE * 2_u32.saturating_pow(repeated);
    longest.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// How long nobody tries to connect after so many failures in a row.
pub(crate) fn rest(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    REST.saturating_mul(doubled).min(LONGEST_REST)
}

/// A share of calls that may be repetitions, so that services in trouble do not get thrice the load: each call earns a tenth of a
/// repetition, up to a hundred.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Tenths of a repetition.
    tenths: AtomicU32,
}

impl Budget {
    const COST: u32 = 10;
    const MOST: u32 = 100 * Self::COST;

    /// A call was made.
    pub(crate) fn earn(&self) {
        let more = |tenths: u32| (tenths < Self::MOST).then(|| tenths + 1);
        // Nothing to add to a full one.
        let _ = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes one repetition, if there is one.
    pub(crate) fn spend(&self) -> bool {
        let less = |tenths: u32| tenths.checked_sub(Self::COST);
        self.tenths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

impl Default for Budget {
    /// Enough for ten repetitions, so that the first calls of a quiet gateway may be repeated.
    fn default() -> Self {
        Self {
            tenths: AtomicU32::new(10 * Self::COST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_calls_that_were_not_done_are_repeated() {
        assert!(is_worthwhile(true, Code::Unavailable, false, 0));
        assert!(!is_worthwhile(false, Code::Unavailable, false, 0));
        assert!(!is_worthwhile(true, Code::Internal, false, 0));
        assert!(!is_worthwhile(true, Code::Unavailable, true, 0));
        assert!(!is_worthwhile(true, Code::Unavailable, false, MOST));
    }

    #[test]
    fn pauses_grow_and_vary_and_outlast_the_rest_of_an_upstream() {
        for repeated in 0..MOST {
            assert!(pause(repeated, 0.0) >= rest(repeated + 1));
            assert_eq!(pause(repeated, 1.0), pause(repeated, 0.0) * 2);
        }
        assert_eq!(pause(1, 1.0), Duration::from_millis(100));
    }

    #[test]
    fn an_upstream_is_tried_again_within_a_second() {
        assert_eq!(rest(1), Duration::from_millis(20));
        assert_eq!(rest(2), Duration::from_millis(40));
        assert_eq!(rest(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn repetitions_are_a_tenth_of_all_calls_after_the_first_few() {
        let budget = Budget::default();
        let spent = (0..100).filter(|_| budget.spend()).count();
        assert_eq!(spent, 10);
        for _ in 0..100 {
            budget.earn();
        }
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10);
        for _ in 0..100_000 {
            budget.earn();
        }
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 100);
    }
}
