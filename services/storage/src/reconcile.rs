//! Looks at what changed, decides, writes, and looks again. Runs only while this replica holds the lease.
//!
//! Work is keyed by machine and by volume. A key has at most one step under way; what changes meanwhile is looked at
//! afterwards. Everything is looked at when leadership begins, when the log of changes was not long enough, and every
//! few minutes.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::Client;
use steading_infra::error::{InfraError, Retry};
use steading_runtime::{CancellationToken, tasks::Chain};
use tokio::time::Instant;

use crate::{
    apply::{apply_machine, apply_volume},
    domain::attachment::DiskStatus,
    metrics::StorageMetrics,
    observe::{Change, SharedIndex, Since},
    plan::{
        machine::{self, MachinePlan},
        volume,
        window::{Timing, Waiting, decide},
    },
};
use queue::Queue;

pub(crate) mod classes;
mod queue;
pub(crate) mod watches;

/// Steps under way at once: enough to use the API server's patience, few enough to leave it to others.
const CONCURRENCY: usize = 32;
/// First pause after a failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause when trying again cannot help before something changes: somebody may change it unseen.
const HOPELESS_PAUSE: Duration = Duration::from_secs(60);

/// Reconciles until cancelled.
pub(crate) struct Reconciler {
    /// The infra cluster.
    pub(crate) client: Client,
    /// What is seen.
    pub(crate) index: SharedIndex,
    /// How often everything is looked at.
    pub(crate) resync: Duration,
    /// What is measured.
    pub(crate) metrics: StorageMetrics,
}

/// How long a machine's plan has been waiting, and which plan it is.
#[derive(Debug)]
struct Mark {
    since: Instant,
    changed: Instant,
    plan: MachinePlan,
}

#[derive(Debug, Default)]
struct Memory {
    marks: HashMap<Change, Mark>,
    failures: HashMap<Change, u32>,
}

impl Reconciler {
    /// Runs until cancelled.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        let mut follow = self.index.follow();
        let mut resync = tokio::time::interval(self.resync);
        let (mut queue, mut memory) = (Queue::default(), Memory::default());
        let mut running = FuturesUnordered::new();
        let mut number = 0;
        loop {
            self.metrics.queued.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = follow.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    number = self.enqueue(number, &mut queue);
                }
                _ = resync.tick() => {
                    let everything = self.index.read().everything();
                    for change in everything {
                        queue.push(change, Instant::now());
                    }
                }
                key = queue.next(), if running.len() < CONCURRENCY => match self.ready(&key, &mut memory) {
                    Step::Idle => queue.done(&key),
                    Step::Wait(pause) => {
                        queue.done(&key);
                        queue.push(key, Instant::now() + pause);
                    }
                    Step::Act => running.push(self.act(key)),
                },
                Some((key, outcome)) = running.next() => {
                    queue.done(&key);
                    if let Some(pause) = memory.settle(&key, outcome, &self.metrics) {
                        queue.push(key, Instant::now() + pause);
                    }
                }
            }
        }
    }

    fn enqueue(&self, number: u64, queue: &mut Queue<Change>) -> u64 {
        let index = self.index.read();
        let (changes, next) = match index.since(number) {
            Since::Changes(changes, next) => (changes, next),
            Since::Lost(next) => (index.everything(), next),
        };
        let now = Instant::now();
        for change in changes {
            queue.push(change, now);
        }
        next
    }

    /// What to do about a key right now.
    fn ready(&self, key: &Change, memory: &mut Memory) -> Step {
        self.metrics.runs.inc();
        let index = self.index.read();
        if !index.is_reliable() {
            // All keys come again when the watches work.
            return Step::Idle;
        }
        match key {
            Change::Volume(namespace, id) => {
                let actions = index
                    .volume(namespace, id)
                    .map(|v| volume::plan(&v, index.claim(namespace, id), &index.sites(&v)))
                    .unwrap_or_default();
                if actions.is_empty() { Step::Idle } else { Step::Act }
            }
            Change::Machine(namespace, id) => {
                let Some(seen) = index.machine(namespace, id) else {
                    memory.marks.remove(key);
                    return Step::Idle;
                };
                let instance = index.instance(namespace, id);
                let migrating = instance.is_some_and(|i| i.migrating);
                let plan = machine::plan(seen, migrating, &machine::wishes(&index, namespace, id));
                let arriving =
                    |disk: &String| instance.is_some_and(|i| !i.disks.get(disk).is_some_and(DiskStatus::is_ready));
                let in_flight = seen.ours.keys().any(arriving);
                memory.timing(key, plan, in_flight)
            }
        }
    }

    async fn act(&self, key: Change) -> (Change, Result<(), InfraError>) {
        let begun = Instant::now();
        let outcome = match &key {
            Change::Machine(namespace, id) => self.act_on_machine(namespace, id).await,
            Change::Volume(namespace, id) => self.act_on_volume(namespace, id).await,
        };
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        (key, outcome)
    }

    async fn act_on_machine(&self, namespace: &str, id: &str) -> Result<(), InfraError> {
        let applied = apply_machine(&self.client, &self.index, namespace, id).await?;
        let (attached, detached) = (applied.attached, applied.detached);
        if attached + detached > 0 {
            tracing::info!(
                namespace,
                machine = id,
                attached,
                detached,
                "changed the volumes of a machine"
            );
            self.metrics.batches.inc();
            self.metrics.attached.inc_by(attached as u64);
            self.metrics.detached.inc_by(detached as u64);
        }
        Ok(())
    }

    async fn act_on_volume(&self, namespace: &str, id: &str) -> Result<(), InfraError> {
        let planned = {
            let index = self.index.read();
            index.volume(namespace, id).map(|v| {
                let actions = volume::plan(&v, index.claim(namespace, id), &index.sites(&v));
                (v, actions)
            })
        };
        let Some((volume, actions)) = planned else {
            return Ok(());
        };
        for action in &actions {
            tracing::info!(namespace, volume = id, ?action, "step at a volume");
            apply_volume(&self.client, &volume, action).await?;
        }
        Ok(())
    }
}

/// What to do about a key.
enum Step {
    Idle,
    Wait(Duration),
    Act,
}

impl Memory {
    /// Whether a machine's plan is due, by how long it has been waiting.
    fn timing(&mut self, key: &Change, plan: MachinePlan, in_flight: bool) -> Step {
        let now = Instant::now();
        if plan.is_empty() {
            self.marks.remove(key);
            return Step::Idle;
        }
        let mark = self.marks.entry(key.clone()).or_insert_with(|| Mark {
            since: now,
            changed: now,
            plan: plan.clone(),
        });
        if mark.plan != plan {
            mark.changed = now;
            mark.plan = plan;
        }
        let waiting = Waiting {
            oldest: now - mark.since,
            quiet: now - mark.changed,
        };
        match decide(&mark.plan, in_flight, waiting) {
            Timing::Idle => Step::Idle,
            Timing::After(pause) => Step::Wait(pause),
            Timing::Now => {
                self.marks.remove(key);
                Step::Act
            }
        }
    }

    /// Notes how a step ended; gives the pause before the key is looked at again, if it must be.
    fn settle(&mut self, key: &Change, outcome: Result<(), InfraError>, metrics: &StorageMetrics) -> Option<Duration> {
        let Err(error) = outcome else {
            self.failures.remove(key);
            return None;
        };
        metrics.failures.inc();
        let failures = self.failures.entry(key.clone()).or_default();
        let backoff = FIRST_PAUSE.saturating_mul(1 << (*failures).min(8)).min(LONGEST_PAUSE);
        *failures += 1;
        let pause = match error.retry() {
            Retry::OnChange => backoff,
            Retry::After(pause) => pause.max(backoff),
            Retry::Never => HOPELESS_PAUSE,
        };
        tracing::warn!(?key, error = %Chain(&error), ?pause, "a step failed and is tried again");
        Some(jittered(pause))
    }
}

/// Up to a fifth longer, so that what failed together does not come again together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + rand::random::<f64>() / 5.0)
}
