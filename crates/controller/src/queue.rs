//! Keys that are due at some time: deduplicated, delayed, backed off, and shared fairly between tenants.
//!
//! A key names what to look at, never what changed. It stands in the queue once, at its earliest time. While it is worked on it is
//! *busy*: asked for again, it comes again afterwards, and never twice at once. The queue is as long as there are objects at most.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::outcome::{Outcome, Retry};

/// What a queue must know of its keys.
pub trait Keyed: Clone + Ord + Hash + Send + Sync + std::fmt::Debug + 'static {
    /// Whose share of the slots the key takes, such as the tenant cluster; `None` for the operator's own work.
    fn tenant(&self) -> Option<&str> {
        None
    }
}

impl Keyed for String {}
impl Keyed for &'static str {}
impl Keyed for crate::object::ObjectRef {}

/// Limits of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Keys that are worked on at once.
    pub slots: usize,
    /// Pause after the first failure in a row; doubled with each.
    pub first_pause: Duration,
    /// Longest pause after failures.
    pub last_pause: Duration,
}

impl Default for QueueConfig {
    /// 32 slots keep an infra API server busy without flooding it; pauses as in controller-runtime's rate limiter, but with a bound
    /// that a person waits for.
    fn default() -> Self {
        Self {
            slots: 32,
            first_pause: Duration::from_millis(200),
            last_pause: Duration::from_secs(60),
        }
    }
}

impl QueueConfig {
    /// Slots that one tenant may take: a quarter, whatever its API server does, and at least one.
    fn share(&self) -> usize {
        (self.slots / 4).max(1)
    }
}

#[derive(Debug)]
struct State<K> {
    due: BTreeSet<(Instant, K)>,
    times: BTreeMap<K, Instant>,
    /// Due keys of tenants that use their whole share.
    parked: HashMap<String, BTreeSet<(Instant, K)>>,
    /// Keys that are worked on, with the time at which they are due again.
    busy: BTreeMap<K, Option<Instant>>,
    shares: HashMap<String, usize>,
    failures: BTreeMap<K, u32>,
}

/// The queue; see the module.
#[derive(Debug)]
pub struct Queue<K> {
    config: QueueConfig,
    state: Mutex<State<K>>,
    changed: Notify,
}

impl<K: Keyed> Default for Queue<K> {
    fn default() -> Self {
        Self::new(QueueConfig::default())
    }
}

/// How long a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Keys that wait for their time or a slot.
    pub waiting: usize,
    /// Keys that are worked on.
    pub busy: usize,
    /// For how long the oldest key that is due has waited for a slot.
    pub oldest: Duration,
}

impl<K: Keyed> Queue<K> {
    /// An empty queue.
    pub fn new(config: QueueConfig) -> Self {
        Self {
            config,
            state: Mutex::new(State {
                due: BTreeSet::new(),
                times: BTreeMap::new(),
                parked: HashMap::new(),
                busy: BTreeMap::new(),
                shares: HashMap::new(),
                failures: BTreeMap::new(),
            }),
            changed: Notify::new(),
        }
    }

    /// Asks for a key as soon as there is a slot.
    pub fn add(&self, key: K) {
        self.add_at(key, Instant::now());
    }

    /// Asks for a key after a pause; an earlier wish stands.
    pub fn add_after(&self, key: K, pause: Duration) {
        self.add_at(key, Instant::now() + pause);
    }

    fn add_at(&self, key: K, at: Instant) {
        self.state.lock().push(key, at);
        self.changed.notify_one();
    }

    /// Waits for the next key that is due and has a slot, and gives it out; it is busy until [`Self::done`]. Safe to be dropped while
    /// waiting. To be called by one task.
    pub async fn next(&self) -> K {
        loop {
            let wake = {
                let mut state = self.state.lock();
                match state.take(Instant::now(), &self.config) {
                    Ok(key) => return key,
                    Err(wake) => wake,
                }
            };
            match wake {
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// Says how the work on a key ended, which decides when it comes again. What was asked for meanwhile comes at once.
    pub fn done(&self, key: &K, outcome: Outcome) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let asked = state.busy.remove(key).flatten();
        state.give_back(key);
        let again = match outcome {
            Outcome::Settled => {
                state.failures.remove(key);
                None
            }
            Outcome::Again(pause) => {
                state.failures.remove(key);
                Some(now + pause)
            }
            Outcome::Failed(retry) => {
                let failures = state.failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                let backoff = self.backoff(*failures);
                match retry {
                    Retry::OnChange => None,
                    Retry::Backoff => Some(now + backoff),
                    Retry::After(pause) => Some(now + pause.max(backoff)),
                }
            }
        };
        let failed = matches!(outcome, Outcome::Failed(_));
        let asked = asked.map(|at| {
            if failed {
                at.max(now + self.config.first_pause)
            } else {
                at
            }
        });
        if let Some(at) = [asked, again].into_iter().flatten().min() {
            state.push(key.clone(), at);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets a key that no longer exists: its failures and its wish to come again.
    pub fn forget(&self, key: &K) {
        let mut state = self.state.lock();
        state.failures.remove(key);
        if let Some(at) = state.times.remove(key) {
            state.due.remove(&(at, key.clone()));
            if let Some(tenant) = key.tenant()
                && let Some(parked) = state.parked.get_mut(tenant)
            {
                parked.remove(&(at, key.clone()));
            }
        }
    }

    /// How long the queue is now.
    pub fn depth(&self) -> Depth {
        let state = self.state.lock();
        let now = Instant::now();
        let parked = state.parked.values().filter_map(BTreeSet::first);
        let oldest = state.due.first().into_iter().chain(parked).map(|(at, _)| *at).min();
        Depth {
            waiting: state.times.len(),
            busy: state.busy.len(),
            oldest: oldest.map(|at| now.saturating_duration_since(at)).unwrap_or_default(),
        }
    }

    /// Exponential with jitter, so that what failed together does not come together.
    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self
            .config
            .first_pause
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled
            .min(self.config.last_pause)
            .mul_f64(rand::random_range(0.8..1.2))
    }
}

impl<K: Keyed> State<K> {
    fn push(&mut self, key: K, at: Instant) {
        if let Some(again) = self.busy.get_mut(&key) {
            *again = Some(again.map_or(at, |time| time.min(at)));
            return;
        }
        if let Some(present) = self.times.get(&key).copied() {
            if present <= at {
                return;
            }
            let place = (present, key.clone());
            self.due.remove(&place);
            if let Some(tenant) = key.tenant()
                && let Some(parked) = self.parked.get_mut(tenant)
            {
                parked.remove(&place);
            }
        }
        self.times.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    /// The next key, or when to look again; `None` for when something changes.
    fn take(&mut self, now: Instant, config: &QueueConfig) -> Result<K, Option<Instant>> {
        if self.busy.len() >= config.slots {
            return Err(None);
        }
        loop {
            match self.due.first() {
                Some((at, _)) if *at <= now => {}
                Some((at, _)) => return Err(Some(*at)),
                None => return Err(None),
            }
            let Some((at, key)) = self.due.pop_first() else {
                return Err(None);
            };
            if let Some(tenant) = key.tenant() {
                let taken = self.shares.get(tenant).copied().unwrap_or_default();
                if taken >= config.share() {
                    self.parked.entry(tenant.to_owned()).or_default().insert((at, key));
                    continue;
                }
                self.shares.insert(tenant.to_owned(), taken + 1);
            }
            self.times.remove(&key);
            self.busy.insert(key.clone(), None);
            return Ok(key);
        }
    }

    fn give_back(&mut self, key: &K) {
        let Some(tenant) = key.tenant() else { return };
        if let Some(taken) = self.shares.get_mut(tenant) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                self.shares.remove(tenant);
            }
        }
        if let Some(parked) = self.parked.remove(tenant) {
            self.due.extend(parked);
        }
    }
}

#[cfg(test)]
mod tests;
