//! Rate limits: what one caller may ask for, and what all may together.
//!
//! The gateway authenticates nobody, so a caller is whoever a credential says it is: limits by caller keep honest
//! clients from each other's way; limits over all callers protect the services from the others.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::scope::is_within;

/// Callers that one limit remembers. Beyond it callers share [`SHARED`] places, until some have been quiet.
const CALLERS: usize = 100_000;
const SHARED: u64 = 1024;
/// Calls after which it is looked whether callers can be forgotten.
const SWEEP: u32 = 4096;

/// So many calls in a time, and so many at once after a quiet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls in each period.
    pub calls: NonZeroU32,
    /// The period.
    pub period: Duration,
    /// Calls at once.
    pub burst: NonZeroU32,
}

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Each caller's for itself.
    Caller,
    /// All callers'.
    Everybody,
}

/// One limit. Of several that fit a method the one with the longest scope holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// `pkg.Service/Method`, `pkg.Service`, a package, or empty for all.
    pub scope: String,
    /// Whose calls it counts.
    pub whose: Whose,
    /// How many are fine.
    pub rate: Rate,
}

impl FromStr for Rate {
    type Err = String;

    /// `COUNT/UNIT[:BURST]` with the units s, m and h; the burst is the count if it is not given.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: must be COUNT/UNIT[:BURST], such as 50/s:100; units are s, m and h");
        let (rate, burst) = text
            .split_once(':')
            .map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (calls, unit) = rate.split_once('/').ok_or_else(wrong)?;
        let calls: NonZeroU32 = calls.parse().map_err(|_| wrong())?;
        let period = Duration::from_secs(match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        });
        let burst = burst.map_or(Ok(calls), |burst| burst.parse().map_err(|_| wrong()))?;
        Ok(Self { calls, period, burst })
    }
}

impl RateLimit {
    /// Reads `[SCOPE=]COUNT/UNIT[:BURST]`.
    ///
    /// # Errors
    /// What it should look like.
    pub fn parse(whose: Whose, text: &str) -> Result<Self, String> {
        let (scope, rate) = text.split_once('=').unwrap_or(("", text));
        Ok(Self {
            scope: scope.trim_start_matches('.').to_owned(),
            whose,
            rate: rate.parse()?,
        })
    }
}

impl Rate {
    fn quota(self) -> Quota {
        let interval = (self.period / self.calls.get()).max(Duration::from_nanos(1));
        // Only a period of zero has no quota.
        Quota::with_period(interval)
            .unwrap_or(Quota::per_second(self.calls))
            .allow_burst(self.burst)
    }
}

type Keyed = RateLimiter<u64, DefaultKeyedStateStore<u64>, DefaultClock, StateInformationMiddleware>;
type Single = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

enum Counter {
    Caller(Box<Callers>),
    Everybody(Box<Single>),
}

struct Callers {
    states: Keyed,
    calls: AtomicU32,
    full: AtomicBool,
}

impl Callers {
    /// The place of a caller, after forgetting those who have been quiet if it is time.
    fn place(&self, caller: u64) -> u64 {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP) {
            if self.states.len() >= CALLERS / 2 {
                self.states.retain_recent();
            }
            self.full.store(self.states.len() >= CALLERS, Ordering::Relaxed);
        }
        if self.full.load(Ordering::Relaxed) {
            caller % SHARED
        } else {
            caller
        }
    }
}

/// What a limit says to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What the limit is about.
    pub(crate) scope: String,
    /// Calls at once.
    burst: u32,
    /// Calls that may follow at once.
    remaining: u32,
    /// Until the burst is whole again.
    reset: Duration,
    /// The time for a whole burst to come back.
    window: Duration,
    /// How long a refused call has to wait.
    pub(crate) wait: Option<Duration>,
}

impl Verdict {
    /// Tells the client; the fields are those of draft-ietf-httpapi-ratelimit-headers-07, which clients know.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let policy = format!("{};w={}", self.burst, seconds(self.window).max(1));
        for (name, value) in [
            ("ratelimit-limit", HeaderValue::from(self.burst)),
            ("ratelimit-remaining", HeaderValue::from(self.remaining)),
            ("ratelimit-reset", HeaderValue::from(seconds(self.reset))),
        ] {
            headers.insert(name, value);
        }
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert("ratelimit-policy", policy);
        }
    }

    fn is_stricter_than(&self, other: &Self) -> bool {
        let share = |verdict: &Self| u64::from(verdict.remaining) * 1000 / u64::from(verdict.burst.max(1));
        self.wait.is_some() || share(self) < share(other)
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// All limits of a gateway.
pub(crate) struct RateLimits {
    /// Longest scope first.
    limits: Vec<(RateLimit, Counter)>,
    clock: DefaultClock,
    hasher: ahash::RandomState,
}

impl RateLimits {
    pub(crate) fn new(limits: &[RateLimit]) -> Self {
        let mut limits: Vec<(RateLimit, Counter)> =
            limits.iter().map(|limit| (limit.clone(), counter(limit))).collect();
        limits.sort_by_key(|(limit, _)| std::cmp::Reverse(limit.scope.len()));
        Self {
            limits,
            clock: DefaultClock::default(),
            hasher: ahash::RandomState::new(),
        }
    }

    /// Counts a call of `method` (`pkg.Service/Method`); `None` if nothing limits it. What refuses it is the verdict, else what is nearest
    /// to refusing.
    pub(crate) fn check(&self, method: &str, caller: &Caller<'_>) -> Option<Verdict> {
        let mut strictest: Option<Verdict> = None;
        // A caller's own limit first: who is over it takes nothing from the others.
        for whose in [Whose::Caller, Whose::Everybody] {
            let fits = |(limit, _): &&(RateLimit, Counter)| limit.whose == whose && is_within(method, &limit.scope);
            let Some((limit, counter)) = self.limits.iter().find(fits) else {
                continue;
            };
            let verdict = self.count(limit, counter, caller);
            let refused = verdict.wait.is_some();
            if strictest.as_ref().is_none_or(|other| verdict.is_stricter_than(other)) {
                strictest = Some(verdict);
            }
            if refused {
                break;
            }
        }
        strictest
    }

    fn count(&self, limit: &RateLimit, counter: &Counter, caller: &Caller<'_>) -> Verdict {
        let counted = match counter {
            Counter::Everybody(state) => state.check(),
            Counter::Caller(callers) => callers.states.check_key(&callers.place(self.hasher.hash_one(caller))),
        };
        let quota = limit.rate.quota();
        let burst = quota.burst_size().get();
        let (remaining, wait) = match counted {
            Ok(snapshot) => (snapshot.remaining_burst_capacity(), None),
            Err(refused) => (0, Some(refused.wait_time_from(self.clock.now()))),
        };
        Verdict {
            scope: limit.scope.clone(),
            burst,
            remaining,
            reset: quota.replenish_interval() * (burst - remaining.min(burst)),
            window: quota.replenish_interval() * burst,
            wait,
        }
    }
}

fn counter(limit: &RateLimit) -> Counter {
    let quota = limit.rate.quota();
    match limit.whose {
        Whose::Everybody => Counter::Everybody(Box::new(RateLimiter::direct(quota).with_middleware())),
        Whose::Caller => Counter::Caller(Box::new(Callers {
            states: RateLimiter::keyed(quota).with_middleware(),
            calls: AtomicU32::new(0),
            full: AtomicBool::new(false),
        })),
    }
}

/// Who calls: what a proxy in front says if it is trusted to, else the credential, else the address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Caller<'h> {
    Named(&'h [u8]),
    Credential(&'h [u8]),
    Address(IpAddr),
}

impl<'h> Caller<'h> {
    pub(crate) fn of(headers: &'h HeaderMap, named_by: Option<&HeaderName>, address: IpAddr) -> Self {
        let value = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
        if let Some(name) = named_by.and_then(value) {
            return Self::Named(name);
        }
        value(&http::header::AUTHORIZATION).map_or(Self::Address(address), Self::Credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(limits: &[(Whose, &str)]) -> RateLimits {
        let limits: Vec<RateLimit> = limits
            .iter()
            .map(|(whose, text)| RateLimit::parse(*whose, text).unwrap())
            .collect();
        RateLimits::new(&limits)
    }

    fn address(last: u8) -> Caller<'static> {
        Caller::Address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn limits_are_read() {
        let limit = RateLimit::parse(Whose::Caller, "shop.v1.Cart/Get=60/m:5").unwrap();
        assert_eq!(limit.scope, "shop.v1.Cart/Get");
        assert_eq!(
            (
                limit.rate.calls.get(),
                limit.rate.period.as_secs(),
                limit.rate.burst.get()
            ),
            (60, 60, 5)
        );
        assert_eq!("7/h".parse::<Rate>().unwrap().burst.get(), 7);
        for wrong in ["", "5", "5/d", "0/s", "5/s:0", "-1/s", "5/s:x", "5/s:", "/s"] {
            assert!(wrong.parse::<Rate>().unwrap_err().contains("COUNT/UNIT"), "{wrong}");
        }
    }

    #[test]
    fn each_caller_has_its_own_count_and_everybody_a_common_one() {
        let limits = limits(&[(Whose::Caller, "2/h"), (Whose::Everybody, "3/h")]);
        let check = |last| limits.check("a.B/C", &address(last)).unwrap();
        assert_eq!((check(1).wait, check(1).wait), (None, None));
        let refused = check(1);
        assert!(refused.wait.unwrap() > Duration::from_secs(1700));
        assert_eq!(check(2).wait, None, "another caller is not held up");
        // The third call that everybody has, the first of this caller.
        let refused = check(3);
        assert_eq!((refused.burst, refused.remaining), (3, 0));
        assert!(refused.wait.is_some());
    }

    #[test]
    fn the_longest_scope_holds() {
        let limits = limits(&[
            (Whose::Caller, "1/h"),
            (Whose::Caller, "a.B=5/h"),
            (Whose::Caller, "a.B/C=9/h"),
        ]);
        let burst = |method| limits.check(method, &address(1)).unwrap().burst;
        assert_eq!(
            (burst("a.B/C"), burst("a.B/D"), burst("a.Bc/D"), burst("x.Y/Z")),
            (9, 5, 1, 1)
        );
    }

    #[test]
    fn the_client_is_told() {
        let limits = limits(&[(Whose::Caller, "10/h:4")]);
        let mut headers = HeaderMap::new();
        limits.check("a.B/C", &address(1)).unwrap().tell(&mut headers);
        let text = |name| headers.get(name).unwrap().to_str().unwrap();
        assert_eq!((text("ratelimit-limit"), text("ratelimit-remaining")), ("4", "3"));
        assert_eq!((text("ratelimit-reset"), text("ratelimit-policy")), ("360", "4;w=1440"));
        assert_eq!(super::RateLimits::new(&[]).check("a.B/C", &address(1)), None);
    }

    #[test]
    fn a_caller_is_a_name_or_a_credential_or_an_address() {
        let mut headers = HeaderMap::new();
        let (named_by, address) = (HeaderName::from_static("x-user"), IpAddr::from([1, 2, 3, 4]));
        assert_eq!(Caller::of(&headers, Some(&named_by), address), Caller::Address(address));
        headers.insert("authorization", HeaderValue::from_static("Bearer a"));
        assert_eq!(
            Caller::of(&headers, Some(&named_by), address),
            Caller::Credential(b"Bearer a")
        );
        headers.insert("x-user", HeaderValue::from_static("eve"));
        assert_eq!(Caller::of(&headers, Some(&named_by), address), Caller::Named(b"eve"));
        assert_eq!(Caller::of(&headers, None, address), Caller::Credential(b"Bearer a"));
    }
}
