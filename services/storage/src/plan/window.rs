//! When a machine's plan is carried out: now, or a moment later together with what is about to come.
//!
//! KubeVirt holds all hot-plugged volumes of a machine by one attachment pod, and each change of the set replaces that pod
//! by one that holds them all. Twenty volumes added one by one are twenty pods in a row, seconds each. So changes are
//! gathered: until nothing new came for a moment, until the other volumes for the machine are filled, until what was
//! added before has arrived; each with a limit, so that one slow volume never holds up the others for long.

use std::time::Duration;

use super::machine::{HoldReason, MachinePlan};

/// Silence after which a batch counts as complete. Calls made at once by one client arrive within some tens of
/// milliseconds; a person does not notice a tenth of a second.
pub const QUIET: Duration = Duration::from_millis(100);
/// Longest wait for volumes that are still being filled. An empty volume takes about a second.
pub const PROVISIONING_HOLD: Duration = Duration::from_millis(1500);
/// Longest wait for an earlier batch to arrive in the guest: one attachment pod takes a second or two.
pub const IN_FLIGHT_HOLD: Duration = Duration::from_secs(5);

/// How long a machine's plan has been waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Since there is something to do.
    pub oldest: Duration,
    /// Since the plan last changed.
    pub quiet: Duration,
}

/// When to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// There is nothing to do.
    Idle,
    /// At once.
    Now,
    /// Look again after this long, or when something changes.
    After(Duration),
}

/// When to carry out a plan. `in_flight` is whether disks added before have not arrived yet.
pub fn decide(plan: &MachinePlan, in_flight: bool, waiting: Waiting) -> Timing {
    if plan.is_empty() {
        return Timing::Idle;
    }
    if waiting.quiet < QUIET && waiting.oldest < IN_FLIGHT_HOLD {
        return Timing::After(QUIET.saturating_sub(waiting.quiet));
    }
    let limit = if in_flight {
        IN_FLIGHT_HOLD
    } else if plan.held_for(HoldReason::Provisioning) > 0 {
        PROVISIONING_HOLD
    } else {
        return Timing::Now;
    };
    match limit.checked_sub(waiting.oldest).filter(|left| !left.is_zero()) {
        Some(left) => Timing::After(left),
        None => Timing::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_plan(detach: usize, provisioning: usize) -> MachinePlan {
        MachinePlan {
            detach: (0..detach).map(|i| format!("vol-{i}")).collect(),
            held: (0..provisioning)
                .map(|i| (format!("p{i}"), HoldReason::Provisioning))
                .collect(),
            ..MachinePlan::default()
        }
    }

    fn after(oldest: u64, quiet: u64) -> Waiting {
        Waiting {
            oldest: Duration::from_millis(oldest),
            quiet: Duration::from_millis(quiet),
        }
    }

    #[test]
    fn a_batch_waits_for_silence() {
        assert_eq!(decide(&mk_plan(0, 3), false, after(0, 0)), Timing::Idle);
        assert_eq!(decide(&mk_plan(1, 0), false, after(0, 0)), Timing::After(QUIET));
        assert_eq!(
            decide(&mk_plan(1, 0), false, after(150, 40)),
            Timing::After(Duration::from_millis(60))
        );
        assert_eq!(decide(&mk_plan(1, 0), false, after(150, 100)), Timing::Now);
    }

    #[test]
    fn a_batch_waits_for_volumes_that_come_and_for_the_batch_before() {
        assert_eq!(
            decide(&mk_plan(1, 2), false, after(500, 500)),
            Timing::After(Duration::from_secs(1))
        );
        assert_eq!(decide(&mk_plan(1, 2), false, after(1500, 500)), Timing::Now);
        assert_eq!(
            decide(&mk_plan(1, 0), true, after(1000, 500)),
            Timing::After(Duration::from_secs(4))
        );
    }

    #[test]
    fn no_wait_is_longer_than_its_limit() {
        assert_eq!(decide(&mk_plan(1, 9), true, after(5000, 0)), Timing::Now);
    }
}
