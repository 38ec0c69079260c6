//! The simulation's clock.
//!
//! Two modes. *Automatic* follows tokio's clock, faster or slower by a factor, so it also works under a paused runtime (tokio then jumps to
//! the next timer by itself). *Explicit* stands still until a test says [`SimTime::advance`]. This file is the one home of the wall clock
//! in this crate: it is read once, to give objects plausible creation times.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How many times other tasks get to run after each timer that an explicit advance fires. Chains of controller → API server → watcher → next
/// controller need a few dozen polls to settle; more costs nothing when everybody is idle.
const YIELDS_PER_STEP: usize = 64;

/// The clock of a simulation; clones share it.
#[derive(Clone, Debug)]
pub struct SimTime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    start: Timestamp,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Automatic { origin: tokio::time::Instant, speed: f64 },
    Explicit(Mutex<Explicit>),
}

#[derive(Debug, Default)]
struct Explicit {
    elapsed: Duration,
    next_id: u64,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
}

impl SimTime {
    /// Time that passes by itself, `speed` times as fast as tokio's clock, beginning at the wall clock's time.
    ///
    /// A speed that is not a positive finite number counts as 1.
    pub fn automatic(speed: f64) -> Self {
        Self::automatic_from(wall_clock(), speed)
    }

    /// As [`SimTime::automatic`], beginning at `start`.
    pub fn automatic_from(start: Timestamp, speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 1.0 };
        let origin = tokio::time::Instant::now();
        Self {
            inner: Arc::new(Inner {
                start,
                mode: Mode::Automatic { origin, speed },
            }),
        }
    }

    /// Time that stands at `start` until it is advanced.
    pub fn explicit(start: Timestamp) -> Self {
        Self {
            inner: Arc::new(Inner {
                start,
                mode: Mode::Explicit(Mutex::default()),
            }),
        }
    }

    /// The simulated time now.
    pub fn now(&self) -> Timestamp {
        let elapsed = self.elapsed();
        SignedDuration::try_from(elapsed)
            .ok()
            .and_then(|elapsed| self.inner.start.checked_add(elapsed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// How much simulated time has passed since the clock was made.
    pub fn elapsed(&self) -> Duration {
        match &self.inner.mode {
            Mode::Automatic { origin, speed } => origin.elapsed().mul_f64(*speed),
            Mode::Explicit(state) => state.lock().elapsed,
        }
    }

    /// Whether time moves only by [`SimTime::advance`].
    pub fn is_explicit(&self) -> bool {
        matches!(self.inner.mode, Mode::Explicit(_))
    }

    /// Returns after `duration` of simulated time.
    pub async fn sleep(&self, duration: Duration) {
        match &self.inner.mode {
            Mode::Automatic { speed, .. } => tokio::time::sleep(duration.div_f64(*speed)).await,
            Mode::Explicit(state) => {
                if duration.is_zero() {
                    return;
                }
                let fired = {
                    let mut state = state.lock();
                    let (send, fired) = oneshot::channel();
                    let id = state.next_id;
                    state.next_id += 1;
                    let due = state.elapsed.saturating_add(duration);
                    state.sleepers.retain(|_, sleeper| !sleeper.is_closed());
                    state.sleepers.insert((due, id), send);
                    fired
                };
                // The sender lives in the clock that `self` keeps alive, so this cannot end early.
                let _ = fired.await;
            }
        }
    }

    /// Returns at `deadline`, at once if it has passed.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        let left = deadline.duration_since(self.now());
        self.sleep(Duration::try_from(left).unwrap_or_default()).await;
    }

    /// Moves explicit time on, stopping at each sleeper's moment to let it (and what it sets off) run. Automatic time sleeps instead.
    pub async fn advance(&self, by: Duration) {
        let Mode::Explicit(state) = &self.inner.mode else {
            self.sleep(by).await;
            return;
        };
        let target = state.lock().elapsed.saturating_add(by);
        settle().await;
        while Self::step(state, target) {
            settle().await;
        }
        settle().await;
    }

    /// Fires the earliest sleeper that is due by `target`; without one, moves to `target` and says false.
    fn step(state: &Mutex<Explicit>, target: Duration) -> bool {
        let mut state = state.lock();
        match state.sleepers.first_key_value() {
            Some(((due, _), _)) if *due <= target => {}
            _ => {
                state.elapsed = state.elapsed.max(target);
                return false;
            }
        }
        if let Some(((due, _), sleeper)) = state.sleepers.pop_first() {
            state.elapsed = state.elapsed.max(due);
            let _ = sleeper.send(());
        }
        true
    }
}

async fn settle() {
    for _ in 0..YIELDS_PER_STEP {
        tokio::task::yield_now().await;
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the simulation's clock is the home of time in this crate"
)]
fn wall_clock() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[allow(clippy::disallowed_methods, reason = "a test's task ends with the test")]
    async fn explicit_time_stands_until_it_is_advanced() {
        let time = SimTime::explicit(Timestamp::UNIX_EPOCH);
        let sleeper = tokio::task::spawn({
            let time = time.clone();
            async move {
                time.sleep(Duration::from_secs(5)).await;
                time.sleep(Duration::from_secs(5)).await;
                time.now()
            }
        });
        time.advance(Duration::from_secs(9)).await;
        assert!(!sleeper.is_finished());
        time.advance(Duration::from_secs(3)).await;
        let woke = sleeper.await.unwrap();
        assert_eq!(woke.as_second(), 10, "chained sleeps fire at their own moments");
        assert_eq!(time.now().as_second(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn automatic_time_follows_a_paused_runtime_and_its_speed() {
        let time = SimTime::automatic_from(Timestamp::UNIX_EPOCH, 60.0);
        time.sleep(Duration::from_hours(1)).await;
        assert!((3600..3602).contains(&time.now().as_second()));
    }
}
