//! The queue of keys: each once, with pauses and backoff.

use std::{
    collections::{HashMap, HashSet},
    future::poll_fn,
    task::Poll,
    time::Duration,
};

use rand::RngExt;
use tokio_util::time::{DelayQueue, delay_queue};

use super::{Key, Outcome};

/// Pause after a first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Keys that wait, keys that are worked on, and how often they failed.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: DelayQueue<Key>,
    entries: HashMap<Key, delay_queue::Key>,
    working: HashSet<Key>,
    /// Keys that were added while being worked on.
    again: HashSet<Key>,
    failures: HashMap<Key, u32>,
}

impl Queue {
    /// Adds a key; if it waits already, the earlier time holds.
    pub fn add(&mut self, key: Key, pause: Duration) {
        if self.working.contains(&key) {
            self.again.insert(key);
            return;
        }
        let when = tokio::time::Instant::now() + pause;
        if let Some(entry) = self.entries.get(&key) {
            if self.waiting.deadline(entry) > when {
                self.waiting.reset_at(entry, when);
            }
            return;
        }
        let entry = self.waiting.insert_at(key.clone(), when);
        self.entries.insert(key, entry);
    }

    /// The next key whose time has come; waits forever if there is none.
    pub async fn next(&mut self) -> Option<Key> {
        let key = poll_fn(|cx| match self.waiting.poll_expired(cx) {
            Poll::Ready(Some(expired)) => Poll::Ready(expired.into_inner()),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await;
        self.entries.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }

    /// A key was worked on.
    pub fn done(&mut self, key: Key, outcome: Outcome) {
        self.failures.remove(&key);
        self.finish(
            key,
            match outcome {
                Outcome::Settled => None,
                Outcome::Again(pause) => Some(pause),
            },
        );
    }

    /// A key could not be worked on; `most` bounds the pause.
    pub fn failed(&mut self, key: Key, most: Duration) {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << (*failures).min(10)).min(most);
        let jitter = rand::rng().random_range(0.8..1.2);
        self.finish(key, Some(pause.mul_f64(jitter)));
    }

    fn finish(&mut self, key: Key, pause: Option<Duration>) {
        self.working.remove(&key);
        if self.again.remove(&key) {
            self.add(key.clone(), pause.unwrap_or_default().min(FIRST_PAUSE));
        }
        if let Some(pause) = pause {
            self.add(key, pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::Cluster(name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_changes_while_it_is_worked_on_comes_again() {
        let mut queue = Queue::default();
        queue.add(key("a"), Duration::ZERO);
        queue.add(key("a"), Duration::from_secs(5));
        assert_eq!(queue.next().await, Some(key("a")));
        queue.add(key("a"), Duration::ZERO);
        assert!(
            tokio::time::timeout(Duration::from_secs(60), queue.next())
                .await
                .is_err(),
            "never twice at a time"
        );
        queue.done(key("a"), Outcome::Settled);
        assert_eq!(queue.next().await, Some(key("a")));
        queue.done(key("a"), Outcome::Settled);
        assert!(
            tokio::time::timeout(Duration::from_secs(60), queue.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_up_to_the_bound() {
        let mut queue = Queue::default();
        queue.add(key("a"), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let before = tokio::time::Instant::now();
            let key = queue.next().await.expect("a key");
            pauses.push(before.elapsed());
            queue.failed(key, Duration::from_secs(2));
        }
        assert!(
            pauses[1] < pauses[3] && pauses[7] < Duration::from_millis(2500),
            "{pauses:?}"
        );
    }
}
