//! Keys that are due at some time. A key stands in the queue once, at its earliest time; while it is worked on, it waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    hash::Hash,
};

use tokio::time::{Instant, sleep_until};

/// The queue; see the module.
#[derive(Debug)]
pub(super) struct Queue<K> {
    due: BTreeSet<(Instant, K)>,
    times: BTreeMap<K, Instant>,
    /// Keys that are worked on, with the time at which they are due again.
    busy: BTreeMap<K, Option<Instant>>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            due: BTreeSet::new(),
            times: BTreeMap::new(),
            busy: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// Asks for a key at a time; an earlier wish stands.
    pub(super) fn push(&mut self, key: K, at: Instant) {
        if let Some(again) = self.busy.get_mut(&key) {
            *again = Some(again.map_or(at, |time| time.min(at)));
            return;
        }
        if let Some(present) = self.times.get(&key).copied() {
            if present <= at {
                return;
            }
            self.due.remove(&(present, key.clone()));
        }
        self.times.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    /// Waits for the next key and gives it out; it is busy until [`Self::done`]. Safe to be dropped while waiting.
    pub(super) async fn next(&mut self) -> K {
        let Some((at, _)) = self.due.first() else {
            return pending().await;
        };
        sleep_until(*at).await;
        let Some((_, key)) = self.due.pop_first() else {
            return pending().await;
        };
        self.times.remove(&key);
        self.busy.insert(key.clone(), None);
        key
    }

    /// Says that a key is no longer worked on.
    pub(super) fn done(&mut self, key: &K) {
        if let Some(Some(at)) = self.busy.remove(key) {
            self.push(key.clone(), at);
        }
    }

    /// Keys that wait.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_comes_once_at_its_earliest_time() {
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.push("a", start + Duration::from_secs(9));
        queue.push("b", start + Duration::from_secs(2));
        queue.push("a", start + Duration::from_secs(1));
        queue.push("a", start + Duration::from_secs(5));
        assert_eq!((queue.next().await, start.elapsed().as_secs()), ("a", 1));
        assert_eq!((queue.next().await, start.elapsed().as_secs()), ("b", 2));
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_key_waits_and_comes_again() {
        let mut queue = Queue::default();
        queue.push("a", Instant::now());
        assert_eq!(queue.next().await, "a");
        queue.push("a", Instant::now());
        assert_eq!(queue.len(), 0, "not while it is worked on");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert_eq!(queue.len(), 0);
    }
}
