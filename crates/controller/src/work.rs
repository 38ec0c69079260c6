//! The one loop of all reconcilers: take a key, work on it within a deadline, note how it ended.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::ReconcilerMetrics,
    outcome::{Outcome, Retry},
    queue::{Keyed, Queue},
};

/// How a loop works.
#[derive(Debug, Clone)]
pub struct WorkConfig {
    /// Longest time for one key: a neighbour that hangs must not hold a slot for ever.
    pub deadline: Duration,
    /// Where runs are counted.
    pub metrics: ReconcilerMetrics,
}

impl WorkConfig {
    /// Two minutes a key: several requests at their own deadlines fit, and a stuck one is seen soon.
    pub fn new(metrics: ReconcilerMetrics) -> Self {
        Self {
            deadline: Duration::from_secs(120),
            metrics,
        }
    }
}

/// How often the depth of the queue is written to the metrics.
const SAMPLE: Duration = Duration::from_secs(5);

/// Works through a queue until `token` is cancelled; what is under way then is dropped, so that nothing acts after its term.
///
/// A panic in the work on one key is counted, told and tried again like a failure: it ends nothing else.
pub async fn work<K, F, Fut>(queue: Arc<Queue<K>>, config: WorkConfig, token: CancellationToken, work: F)
where
    K: Keyed,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let mut under_way = FuturesUnordered::new();
    let mut sample = tokio::time::interval(SAMPLE);
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            Some((key, outcome)) = under_way.next(), if !under_way.is_empty() => queue.done(&key, outcome),
            key = queue.next() => under_way.push(attempt(key, &work, &config)),
            _ = sample.tick() => config.metrics.depth(queue.depth()),
        }
    }
}

/// Works as [`work`] while `feed` fills the queue; both end with the token.
pub async fn work_fed<K, F, Fut>(
    queue: Arc<Queue<K>>,
    feed: impl Future<Output = ()>,
    config: WorkConfig,
    token: CancellationToken,
    handle: F,
) where
    K: Keyed,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let over = token.clone();
    let feed = async {
        tokio::select! {
            () = over.cancelled() => {}
            () = feed => {}
        }
    };
    tokio::join!(feed, work(queue, config, token, handle));
}

async fn attempt<K, F, Fut>(key: K, work: &F, config: &WorkConfig) -> (K, Outcome)
where
    K: Keyed,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Outcome>,
{
    let began = Instant::now();
    let run = AssertUnwindSafe(async { work(key.clone()).await }).catch_unwind();
    let (outcome, word) = match tokio::time::timeout(config.deadline, run).await {
        Ok(Ok(outcome)) => (outcome, outcome.word()),
        Ok(Err(panic)) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(?key, message, "reconciliation panicked");
            (Outcome::Failed(Retry::Backoff), "panicked")
        }
        Err(_) => {
            tracing::warn!(?key, deadline = ?config.deadline, "reconciliation exceeded its deadline");
            (Outcome::Failed(Retry::Backoff), "timed-out")
        }
    };
    config.metrics.ran(word, began.elapsed());
    (key, outcome)
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Again(_) => "again",
            Self::Failed(_) => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::metrics::ControllerMetrics;

    async fn run(
        keys: &[&'static str],
        limit: Duration,
        handle: impl Fn(&'static str, usize) -> Outcome,
    ) -> Vec<&'static str> {
        let queue = Arc::new(Queue::default());
        for key in keys {
            queue.add(*key);
        }
        let metrics = ControllerMetrics::default().reconciler("test", "test");
        let seen = Mutex::new(Vec::new());
        let token = CancellationToken::new();
        let working = work(queue, WorkConfig::new(metrics), token, |key| {
            let count = {
                let mut seen = seen.lock();
                seen.push(key);
                seen.iter().filter(|k| **k == key).count()
            };
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| handle(key, count)));
            async move {
                match outcome {
                    Ok(outcome) => outcome,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        assert!(tokio::time::timeout(limit, working).await.is_err(), "it goes on");
        seen.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_on_one_key_is_a_failure_of_that_key() {
        let seen = run(&["bad", "good"], Duration::from_secs(1), |key, count| {
            assert!(key != "bad" || count > 1, "boom");
            Outcome::Settled
        })
        .await;
        assert_eq!(seen.iter().filter(|key| **key == "bad").count(), 2, "tried again");
        assert!(seen.contains(&"good"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_hangs_is_given_up_and_tried_again() {
        let queue = Arc::new(Queue::default());
        queue.add("hangs");
        let config = WorkConfig::new(ControllerMetrics::default().reconciler("test", "test"));
        let runs = Mutex::new(0);
        let working = work(queue, config, CancellationToken::new(), |_| {
            *runs.lock() += 1;
            std::future::pending::<Outcome>()
        });
        let _ = tokio::time::timeout(Duration::from_secs(300), working).await;
        assert_eq!(runs.into_inner(), 3);
    }

    #[tokio::test]
    async fn nothing_acts_after_the_term() {
        let token = CancellationToken::new();
        token.cancel();
        let queue = Arc::new(Queue::default());
        queue.add("a");
        let config = WorkConfig::new(ControllerMetrics::default().reconciler("test", "test"));
        work(queue, config, token, |_| async { unreachable!("the term is over") }).await;
    }
}
