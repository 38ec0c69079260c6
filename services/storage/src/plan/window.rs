//! When a machine's plan is carried out: now, or together with what is about to come.
//!
//! KubeVirt holds all hot-plugged volumes of a machine by one attachment pod, and each change of the set replaces that pod
//! by one that holds them all. Twenty volumes added one by one are twenty pods in a row, seconds each. So the first change of
//! a quiet machine is made at once, and what arrives while it is under way waits until it has arrived and is then made
//! together. Volumes that are about to be filled are waited for, too. Each wait has a limit, so that one slow volume never
//! holds up the others for long.

use std::time::Duration;

use super::machine::MachinePlan;

/// Longest wait for volumes that are still being filled. An empty volume takes about a second.
pub const PROVISIONING_HOLD: Duration = Duration::from_millis(1500);
/// Longest wait for an earlier batch to arrive in the guest: one attachment pod takes a second or two.
pub const IN_FLIGHT_HOLD: Duration = Duration::from_secs(5);

/// What a plan may be waiting for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// An earlier change has not arrived in the guest yet.
    pub in_flight: bool,
    /// Wanted volumes are about to be filled.
    pub more_to_come: bool,
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

/// When to carry out a plan that has had something to do for `waiting`.
pub fn decide(plan: &MachinePlan, pending: Pending, waiting: Duration) -> Timing {
    if plan.is_empty() {
        return Timing::Idle;
    }
    // Records change nothing in the guest, and others may wait for one to be cleared.
    if !plan.changes_machine() || !plan.clear.is_empty() {
        return Timing::Now;
    }
    let limit = if pending.in_flight {
        IN_FLIGHT_HOLD
    } else if pending.more_to_come {
        PROVISIONING_HOLD
    } else {
        return Timing::Now;
    };
    match limit.checked_sub(waiting).filter(|left| !left.is_zero()) {
        Some(left) => Timing::After(left),
        None => Timing::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::machine::Detach, *};

    const IN_FLIGHT: Pending = Pending {
        in_flight: true,
        more_to_come: false,
    };
    const FILLING: Pending = Pending {
        in_flight: false,
        more_to_come: true,
    };

    fn mk_plan(detach: usize) -> MachinePlan {
        MachinePlan {
            detach: (0..detach)
                .map(|i| Detach {
                    disk: format!("vol-{i}"),
                    volume: i.to_string(),
                })
                .collect(),
            ..MachinePlan::default()
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_change_of_a_quiet_machine_is_made_at_once() {
        assert_eq!(decide(&mk_plan(0), Pending::default(), millis(0)), Timing::Idle);
        assert_eq!(decide(&mk_plan(1), Pending::default(), millis(0)), Timing::Now);
    }

    #[test]
    fn what_comes_meanwhile_waits_for_the_batch_before_and_for_volumes_that_are_filled() {
        assert_eq!(
            decide(&mk_plan(1), IN_FLIGHT, millis(1000)),
            Timing::After(millis(4000))
        );
        assert_eq!(decide(&mk_plan(1), FILLING, millis(500)), Timing::After(millis(1000)));
    }

    #[test]
    fn no_wait_is_longer_than_its_limit() {
        assert_eq!(decide(&mk_plan(1), IN_FLIGHT, millis(5000)), Timing::Now);
        assert_eq!(decide(&mk_plan(1), FILLING, millis(1500)), Timing::Now);
    }

    #[test]
    fn records_wait_for_nothing() {
        let plan = MachinePlan {
            clear: vec!["data".into()],
            ..MachinePlan::default()
        };
        assert_eq!(decide(&plan, IN_FLIGHT, millis(0)), Timing::Now);
    }
}
