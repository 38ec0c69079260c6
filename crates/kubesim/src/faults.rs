//! Faults on demand: what an API server does wrong, when, and to whom.
//!
//! A [`Rule`] says which requests it strikes and what happens to them. Rules are tried in the order in which they were added; delays add
//! up, the first other effect decides. Open watches are cut, expired or silenced with [`Faults::cut_watches`]; [`Faults::go_away`] makes the
//! whole server unreachable, [`Faults::stop_answering`] lets it accept connections and never answer.
//!
//! Whatever hangs is released by removing its rule, [`Faults::clear`] or [`Faults::come_back`]: its connection then breaks, as that of a
//! server that was restarted.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use crate::{
    apiserver::{ApiError, RequestInfo, Verb},
    time::SimTime,
};

/// How many watches may be open at once; far more than 1,000 tenants' need, far less than what would exhaust memory.
const MAX_WATCHES: usize = 16_384;

/// What happens to a request that a rule strikes.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Refused with this status.
    Refuse(ApiError),
    /// 403 in the words of RBAC. Access reviews about such requests are denied, too.
    Forbid,
    /// 409, as if somebody else had written first.
    Conflict,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds until the client may come back.
        retry_after: u64,
    },
    /// 500.
    InternalError,
    /// 503.
    Unavailable,
    /// Answered only after this much simulated time.
    Delay(Duration),
    /// The connection breaks before the request is carried out.
    DropConnection,
    /// The request is carried out, then the connection breaks before the answer.
    DropAnswer,
    /// The connection is accepted and no answer ever comes.
    Hang,
    /// A watch is answered and then stays silent: no events, no bookmarks, no end. Other requests hang.
    SilentWatch,
}

/// What happens to an open watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The connection breaks.
    Drop,
    /// An event says that the resourceVersion has expired (410).
    Expire,
    /// It stays open and says nothing more: no events, no bookmarks, not even its end. Another cut may follow.
    Silence,
}

/// Which requests are meant; an empty matcher means all.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Only these verbs; empty for any.
    pub verbs: Vec<Verb>,
    /// Only this plural.
    pub resource: Option<String>,
    /// Only this group.
    pub group: Option<String>,
    /// Only this subresource.
    pub subresource: Option<String>,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this object.
    pub name: Option<String>,
    /// Only user agents with this prefix.
    pub user_agent: Option<String>,
}

impl Matcher {
    /// All requests.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests with one of these verbs on a plural.
    pub fn on(resource: &str, verbs: &[Verb]) -> Self {
        Self {
            verbs: verbs.to_vec(),
            resource: Some(resource.to_owned()),
            ..Self::default()
        }
    }

    /// Requests on a group's resources, with whatever verb.
    pub fn group(group: &str) -> Self {
        Self {
            group: Some(group.to_owned()),
            ..Self::default()
        }
    }

    /// Only on one subresource, such as `status`.
    #[must_use]
    pub fn on_subresource(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.to_owned());
        self
    }

    /// Only on one object.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only in one namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only from user agents with this prefix.
    #[must_use]
    pub fn from_agent(mut self, user_agent: &str) -> Self {
        self.user_agent = Some(user_agent.to_owned());
        self
    }

    /// Whether the request is meant.
    pub fn matches(&self, info: &RequestInfo) -> bool {
        let same =
            |wanted: &Option<String>, got: Option<&str>| wanted.as_deref().is_none_or(|wanted| got == Some(wanted));
        (self.verbs.is_empty() || self.verbs.contains(&info.verb))
            && same(&self.resource, Some(&info.resource))
            && same(&self.group, Some(&info.group))
            && same(&self.subresource, info.subresource.as_deref())
            && same(&self.namespace, info.namespace.as_deref())
            && same(&self.name, info.name.as_deref())
            && self
                .user_agent
                .as_deref()
                .is_none_or(|agent| info.user_agent.starts_with(agent))
    }
}

/// When a rule strikes, and with what.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whom.
    pub matcher: Matcher,
    /// With what.
    pub effect: Effect,
    /// How often at most; `None` for no limit.
    pub times: Option<u64>,
    /// For how much simulated time from when it is added; `None` for no limit.
    pub lasts: Option<Duration>,
    /// How many matching requests go free first.
    pub skip: u64,
    /// How likely each time, 0 to 1.
    pub probability: f64,
}

impl Rule {
    /// Strikes every matching request until it is removed.
    pub fn always(matcher: Matcher, effect: Effect) -> Self {
        Self {
            matcher,
            effect,
            times: None,
            lasts: None,
            skip: 0,
            probability: 1.0,
        }
    }

    /// Strikes the next `times` matching requests.
    pub fn times(times: u64, matcher: Matcher, effect: Effect) -> Self {
        Self {
            times: Some(times),
            ..Self::always(matcher, effect)
        }
    }

    /// Strikes every matching request for this much simulated time, such as an overloaded server that answers 429 for a minute.
    pub fn lasting(lasts: Duration, matcher: Matcher, effect: Effect) -> Self {
        Self {
            lasts: Some(lasts),
            ..Self::always(matcher, effect)
        }
    }

    /// Strikes the one matching request that comes after `skip` others.
    pub fn nth(skip: u64, matcher: Matcher, effect: Effect) -> Self {
        Self {
            skip,
            times: Some(1),
            ..Self::always(matcher, effect)
        }
    }

    /// Strikes each matching request with this likelihood.
    pub fn sometimes(probability: f64, matcher: Matcher, effect: Effect) -> Self {
        Self {
            probability: probability.clamp(0.0, 1.0),
            ..Self::always(matcher, effect)
        }
    }
}

/// Names a rule, to remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(u64);

/// What was decided about one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) delay: Duration,
    pub(crate) effect: Option<Effect>,
    /// How many releases there had been.
    released: u64,
}

struct OpenWatch {
    id: u64,
    info: RequestInfo,
    cut: watch::Sender<Option<Cut>>,
}

/// A rule in force.
#[derive(Debug)]
struct Standing {
    id: RuleId,
    rule: Rule,
    /// When it ends, on the simulation's clock.
    until: Option<Duration>,
    /// The requests that it struck.
    struck: u64,
}

impl Standing {
    fn is_over(&self, now: Duration) -> bool {
        self.rule.times == Some(0) || self.until.is_some_and(|until| until <= now)
    }
}

/// How the server as a whole is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Normal,
    /// Connections break.
    Away,
    /// Connections are accepted, nothing is answered.
    Mute,
}

struct State {
    rng: StdRng,
    next_id: u64,
    rules: Vec<Standing>,
    struck: u64,
    reach: Reach,
    watches: Vec<OpenWatch>,
}

/// The faults of one API server; clones share them.
#[derive(Clone)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    time: SimTime,
    /// Counts releases of what hangs.
    released: Arc<watch::Sender<u64>>,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Faults")
            .field("rules", &state.rules)
            .field("reach", &state.reach)
            .finish_non_exhaustive()
    }
}

impl Faults {
    /// No faults; probabilities will be drawn from `seed`, rules that last are timed by `time`.
    pub fn new(seed: u64, time: SimTime) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            next_id: 0,
            rules: Vec::new(),
            struck: 0,
            reach: Reach::Normal,
            watches: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            time,
            released: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut state = self.state.lock();
        state.next_id += 1;
        let id = RuleId(state.next_id);
        let until = rule.lasts.map(|lasts| self.time.elapsed().saturating_add(lasts));
        state.rules.push(Standing {
            id,
            rule,
            until,
            struck: 0,
        });
        id
    }

    /// Removes a rule and releases what hangs.
    pub fn remove(&self, id: RuleId) {
        self.state.lock().rules.retain(|standing| standing.id != id);
        self.release();
    }

    /// Removes all rules, makes the server reachable and releases what hangs. Silent watches break.
    pub fn clear(&self) {
        self.state.lock().rules.clear();
        self.come_back();
    }

    /// How many requests have been struck.
    pub fn struck(&self) -> u64 {
        self.state.lock().struck
    }

    /// How many requests a rule has struck; 0 once it is removed or over.
    pub fn struck_by(&self, id: RuleId) -> u64 {
        let state = self.state.lock();
        let standing = state.rules.iter().find(|standing| standing.id == id);
        standing.map_or(0, |standing| standing.struck)
    }

    /// Makes the server unreachable: open watches break, no request gets an answer until [`Faults::come_back`].
    pub fn go_away(&self) {
        self.state.lock().reach = Reach::Away;
        self.cut_watches(&Matcher::any(), Cut::Drop);
    }

    /// Lets the server accept connections and answer nothing, open watches included, until [`Faults::come_back`].
    pub fn stop_answering(&self) {
        self.state.lock().reach = Reach::Mute;
        self.cut_watches(&Matcher::any(), Cut::Silence);
    }

    /// Ends [`Faults::go_away`] and [`Faults::stop_answering`]: whatever hangs and every silent watch breaks.
    pub fn come_back(&self) {
        self.state.lock().reach = Reach::Normal;
        let silent = |open: &OpenWatch| *open.cut.borrow() == Some(Cut::Silence);
        self.cut(silent, Cut::Drop);
        self.release();
    }

    /// Whether the server is unreachable now.
    pub fn is_away(&self) -> bool {
        self.state.lock().reach == Reach::Away
    }

    /// Cuts, expires or silences the open watches that match; says how many.
    pub fn cut_watches(&self, matcher: &Matcher, cut: Cut) -> usize {
        self.cut(|open| matcher.matches(&open.info), cut)
    }

    fn cut(&self, which: impl Fn(&OpenWatch) -> bool, cut: Cut) -> usize {
        let state = self.state.lock();
        let mut count = 0;
        for open in state.watches.iter().filter(|open| which(open)) {
            open.cut.send_replace(Some(cut));
            count += 1;
        }
        count
    }

    /// The number of open watches that match.
    pub fn open_watches(&self, matcher: &Matcher) -> usize {
        self.state
            .lock()
            .watches
            .iter()
            .filter(|open| matcher.matches(&open.info))
            .count()
    }

    /// Whether a rule forbids such requests; nothing is counted.
    pub(crate) fn forbids(&self, info: &RequestInfo) -> bool {
        let now = self.time.elapsed();
        let state = self.state.lock();
        let mut standing = state.rules.iter().filter(|standing| !standing.is_over(now));
        standing.any(|standing| matches!(standing.rule.effect, Effect::Forbid) && standing.rule.matcher.matches(info))
    }

    /// Returns when what was judged so is released.
    pub(crate) async fn hang(&self, verdict: &Verdict) {
        let mut released = self.released.subscribe();
        // The sender lives in `self`, so this cannot end early.
        let _ = released.wait_for(|count| *count != verdict.released).await;
    }

    fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    pub(crate) fn judge(&self, info: &RequestInfo) -> Verdict {
        let now = self.time.elapsed();
        let mut state = self.state.lock();
        let whole = match state.reach {
            Reach::Normal => None,
            Reach::Away => Some(Effect::DropConnection),
            Reach::Mute => Some(Effect::Hang),
        };
        if whole.is_some() {
            return Verdict {
                delay: Duration::ZERO,
                effect: whole,
                released: *self.released.borrow(),
            };
        }
        let State { rng, rules, struck, .. } = &mut *state;
        rules.retain(|standing| !standing.is_over(now));
        let mut verdict = Verdict {
            released: *self.released.borrow(),
            ..Verdict::default()
        };
        for standing in rules.iter_mut() {
            let rule = &mut standing.rule;
            if !rule.matcher.matches(info) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if rule.probability < 1.0 && !rng.random_bool(rule.probability.max(0.0)) {
                continue;
            }
            if let Some(times) = rule.times.as_mut() {
                *times -= 1;
            }
            *struck += 1;
            standing.struck += 1;
            match &rule.effect {
                Effect::Delay(delay) => verdict.delay += *delay,
                effect => {
                    verdict.effect = Some(effect.clone());
                    break;
                }
            }
        }
        rules.retain(|standing| !standing.is_over(now));
        verdict
    }

    /// Takes an open watch into the list, cut from the start or not; none when there are too many.
    pub(crate) fn opened(&self, info: &RequestInfo, cut: Option<Cut>) -> Option<WatchGuard> {
        let (cut, signal) = watch::channel(cut);
        let mut state = self.state.lock();
        if state.watches.len() >= MAX_WATCHES {
            return None;
        }
        state.next_id += 1;
        let id = state.next_id;
        state.watches.push(OpenWatch {
            id,
            info: info.clone(),
            cut,
        });
        Some(WatchGuard {
            faults: self.clone(),
            id,
            signal,
        })
    }
}

/// An open watch; dropping it takes it off the list.
pub(crate) struct WatchGuard {
    faults: Faults,
    id: u64,
    pub(crate) signal: watch::Receiver<Option<Cut>>,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.faults.state.lock().watches.retain(|open| open.id != self.id);
    }
}
