//! Whether a lease may be taken: pure, of what has been seen and when.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

/// The lease as last seen, and since when it has looked like that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Observed(Option<Seen>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    holder: String,
    /// Changes with every write, also of a holder whose clock stands still.
    version: Option<String>,
    /// How long the holder said that it would hold.
    held_for: Option<Duration>,
    since: Instant,
}

/// Whether the holder can still act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nothing says that it cannot.
    MayLive,
    /// Its process is gone.
    Dead,
}

/// What to do with the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Write it in our name.
    Take,
    /// Somebody else has it.
    Wait,
}

impl Observed {
    /// Who holds it, as far as was seen.
    pub(super) fn holder(&self) -> Option<&str> {
        self.0.as_ref().map(|seen| seen.holder.as_str())
    }

    /// The version that was seen last.
    pub(super) fn version(&self) -> Option<&str> {
        self.0.as_ref()?.version.as_deref()
    }

    /// Notes what was read at `now`; the same version again is as old as it was.
    pub(super) fn see(&mut self, lease: Option<&Lease>, now: Instant) {
        let Some(lease) = lease else {
            self.0 = None;
            return;
        };
        let version = lease.metadata.resource_version.clone();
        if self.0.as_ref().is_some_and(|seen| seen.version == version) {
            return;
        }
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let held_for = seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        self.0 = Some(Seen {
            holder,
            version,
            held_for,
            since: now,
        });
    }
}

/// Whether the lease may be taken at `now`. A holder's own word on how long it holds goes before our `duration`.
pub(super) fn step(observed: &Observed, identity: &str, holder: Holder, duration: Duration, now: Instant) -> Step {
    match &observed.0 {
        Some(_) if holder == Holder::Dead => Step::Take,
        None => Step::Take,
        Some(seen) if seen.holder.is_empty() || seen.holder == identity => Step::Take,
        Some(seen) if now.saturating_duration_since(seen.since) > seen.held_for.unwrap_or(duration) => Step::Take,
        Some(_) => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use kube::api::ObjectMeta;

    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn mk_lease(holder: &str, version: &str, seconds: Option<i32>) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }),
        }
    }

    fn decide(leases: &[(Option<Lease>, u64)]) -> Step {
        let start = Instant::now();
        let (mut observed, mut now) = (Observed::default(), start);
        for (lease, at) in leases {
            now = start + Duration::from_secs(*at);
            observed.see(lease.as_ref(), now);
        }
        step(&observed, "me", Holder::MayLive, DURATION, now)
    }

    #[test]
    fn a_dead_holders_lease_is_taken_at_once() {
        let mut observed = Observed::default();
        let now = Instant::now();
        observed.see(Some(&mk_lease("other", "1", None)), now);
        assert_eq!(step(&observed, "me", Holder::Dead, DURATION, now), Step::Take);
        assert_eq!(step(&observed, "me", Holder::MayLive, DURATION, now), Step::Wait);
    }

    #[test]
    fn a_lease_is_taken_when_nobody_can_believe_to_hold_it() {
        let theirs = || Some(mk_lease("other", "1", None));
        let renewed = || Some(mk_lease("other", "2", None));
        let long = || Some(mk_lease("other", "1", Some(60)));
        for (seen, step, why) in [
            (vec![(None, 0)], Step::Take, "there is none"),
            (vec![(Some(mk_lease("", "1", None)), 0)], Step::Take, "it was released"),
            (vec![(Some(mk_lease("me", "1", None)), 0)], Step::Take, "it is ours"),
            (
                vec![(theirs(), 0)],
                Step::Wait,
                "seen for the first time, however old it says it is",
            ),
            (vec![(theirs(), 0), (theirs(), 15)], Step::Wait, "not yet expired"),
            (vec![(theirs(), 0), (theirs(), 16)], Step::Take, "expired"),
            (
                vec![(theirs(), 0), (renewed(), 14), (renewed(), 16)],
                Step::Wait,
                "renewed meanwhile",
            ),
            (vec![(long(), 0), (long(), 30)], Step::Wait, "its holder said 60 s"),
        ] {
            assert_eq!(decide(&seen), step, "{why}");
        }
    }
}
