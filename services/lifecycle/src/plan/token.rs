//! The life of a machine's bootstrap token: kept alive while the machine has not joined, revoked once it has.

use jiff::{SignedDuration, Timestamp};

/// What is known of the machine's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// There is a Node: its kubelet has credentials of its own.
    Yes,
    /// There is none.
    No,
    /// The tenant cannot be asked.
    Unknown,
}

/// What to do about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStep {
    /// Nothing: there is none, or nothing can be said.
    Leave,
    /// Nothing before this time has passed.
    After(SignedDuration),
    /// Move its end.
    Renew,
    /// Delete it.
    Revoke,
}

/// Decides about a token that ends at `expires`; `None` if there is none. It is renewed in its last third, so that two attempts may
/// fail.
pub fn plan_token(expires: Option<Timestamp>, joined: Joined, lifetime: SignedDuration, now: Timestamp) -> TokenStep {
    let Some(expires) = expires else {
        return TokenStep::Leave;
    };
    match joined {
        Joined::Yes => TokenStep::Revoke,
        Joined::Unknown => TokenStep::Leave,
        Joined::No => {
            let left = expires.duration_since(now);
            let due = left - lifetime / 3;
            if due.is_positive() {
                TokenStep::After(due)
            } else {
                TokenStep::Renew
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).unwrap()
    }

    #[test]
    fn a_machine_that_joins_late_finds_a_token_that_still_holds() {
        let step = |now| plan_token(Some(at(60)), Joined::No, HOUR, at(now));
        assert_eq!(step(0), TokenStep::After(SignedDuration::from_mins(40)));
        assert_eq!(step(40), TokenStep::Renew);
        assert_eq!(step(500), TokenStep::Renew, "also after it ended");
    }

    #[test]
    fn the_token_of_a_machine_that_has_joined_is_revoked_ready_or_not() {
        assert_eq!(plan_token(Some(at(60)), Joined::Yes, HOUR, at(1)), TokenStep::Revoke);
        assert_eq!(
            plan_token(None, Joined::Yes, HOUR, at(1)),
            TokenStep::Leave,
            "none is known to be there"
        );
        assert_eq!(
            plan_token(Some(at(60)), Joined::Unknown, HOUR, at(50)),
            TokenStep::Leave
        );
    }

    proptest! {
        #[test]
        fn a_machine_that_waits_is_never_without_a_token_if_it_is_looked_at_when_asked(waits in 1_i64..5000) {
            let (mut now, mut expires) = (at(0), at(60));
            let until = at(waits);
            while now < until {
                prop_assert!(now < expires);
                match plan_token(Some(expires), Joined::No, HOUR, now) {
                    TokenStep::After(pause) => now += pause,
                    TokenStep::Renew => expires = now + HOUR,
                    TokenStep::Leave | TokenStep::Revoke => prop_assert!(false, "a machine that waits needs its token"),
                }
            }
        }
    }
}
