//! Looks at what changed, decides, writes, and looks again. Runs only while this replica holds the lease.
//!
//! Work is keyed by machine and by volume. Everything is looked at when a term begins, when a log of changes was not long
//! enough, and every few minutes. A stale view keeps nobody from working: whatever is written is decided over fresh reads.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use steading_controller::{
    Outcome, Queue, Retry, Term,
    metrics::ReconcilerMetrics,
    work::{WorkConfig, work_fed},
};
use steading_infra::error::{InfraError, Retry as InfraRetry};
use steading_runtime::{CancellationToken, tasks::Chain};
use tokio::time::Instant;

use crate::{
    apply::Executor,
    domain::eligibility::{HoldReason, REFUSAL_REST},
    metrics::StorageMetrics,
    observe::{Observed, Subject, places::Places},
    plan::{
        machine::{self, is_in_flight, is_more_to_come},
        volume,
        window::{Pending, Timing, decide},
    },
};

pub(crate) mod classes;

/// Pause when trying again cannot help before something changes: somebody may change it unseen.
const HOPELESS_PAUSE: Duration = Duration::from_secs(60);
/// Pause before a machine is looked at again whose reads and writes crossed somebody else's.
const CROSSED_PAUSE: Duration = Duration::from_millis(50);
/// Pause before a machine is looked at again whose KubeVirt has not acted on its spec yet; its change wakes us earlier.
const UNSETTLED_PAUSE: Duration = Duration::from_secs(2);

/// Reconciles until cancelled.
pub(crate) struct Reconciler {
    /// Reads and writes.
    pub(crate) executor: Executor,
    /// What is seen.
    pub(crate) observed: Observed,
    /// How often everything is looked at.
    pub(crate) resync: Duration,
    /// What is measured of storage.
    pub(crate) metrics: StorageMetrics,
    /// What is measured of the loop.
    pub(crate) runs: ReconcilerMetrics,
}

/// Since when machines have had something to do. Lives in a term.
type Memory = Mutex<HashMap<Subject, Instant>>;

impl Reconciler {
    /// Runs until cancelled.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        let term: Term<Memory> = Term::begin(cancel);
        let queue = Arc::new(Queue::default());
        let config = WorkConfig::new(self.runs.clone());
        work_fed(Arc::clone(&queue), self.feed(&queue), config, term.token(), |subject| {
            let memory = term.memory();
            async move { self.reconcile(&subject, memory).await }
        })
        .await;
    }

    /// Fills the queue with what changes.
    async fn feed(&self, queue: &Queue<Subject>) {
        while !self.observed.is_synced() {
            tokio::time::sleep(CROSSED_PAUSE).await;
        }
        let seen = &self.observed;
        let mut resync = tokio::time::interval(self.resync);
        let mut places = Places::of(seen);
        let (mut volumes, mut claims) = (seen.volumes.index().changed(), seen.claims.index().changed());
        let (mut machines, mut instances) = (seen.machines.index().changed(), seen.instances.index().changed());
        let mut nodes = seen.nodes.index().changed();
        loop {
            let changed = tokio::select! {
                _ = resync.tick() => None,
                changed = volumes.changed() => Some(changed),
                changed = claims.changed() => Some(changed),
                changed = machines.changed() => Some(changed),
                changed = instances.changed() => Some(changed),
                changed = nodes.changed() => Some(changed),
            };
            let subjects = match changed {
                None => seen.everything(),
                Some(Ok(())) => places.go_on(seen, None).unwrap_or_else(|_| seen.everything()),
                Some(Err(_)) => return,
            };
            for subject in subjects {
                queue.add(subject);
            }
        }
    }

    async fn reconcile(&self, subject: &Subject, memory: &Memory) -> Outcome {
        let outcome = match subject {
            Subject::Volume(namespace, id) => self.reconcile_volume(namespace, id).await,
            Subject::Machine(namespace, id) => self.reconcile_machine(subject, namespace, id, memory).await,
        };
        outcome.unwrap_or_else(|error| {
            let retry = match error.retry() {
                InfraRetry::OnChange => Retry::Backoff,
                InfraRetry::After(pause) => Retry::After(pause),
                InfraRetry::Never => Retry::After(HOPELESS_PAUSE),
            };
            tracing::warn!(?subject, error = %Chain(&error), ?retry, "a step failed and is tried again");
            Outcome::Failed(retry)
        })
    }

    async fn reconcile_volume(&self, namespace: &str, id: &str) -> Result<Outcome, InfraError> {
        let Some(seen) = self.observed.volume(namespace, id) else {
            return Ok(Outcome::Settled);
        };
        let claim = self.observed.claim(&seen);
        let (sites, overheads) = (self.observed.sites(&seen), self.observed.overheads());
        let now = self.executor.clock.now();
        for action in volume::plan(&seen, claim.as_deref(), &sites, &overheads, now) {
            tracing::info!(namespace, volume = id, ?action, "step at a volume");
            self.executor.apply_volume(&seen, &action).await?;
        }
        Ok(Outcome::Settled)
    }

    async fn reconcile_machine(
        &self,
        subject: &Subject,
        namespace: &str,
        id: &str,
        memory: &Memory,
    ) -> Result<Outcome, InfraError> {
        let view = self.observed.view(namespace, self.observed.site(namespace, id));
        let plan = machine::plan(&view, self.executor.clock.now());
        let rests = plan.held_for(HoldReason::Refused) > 0;
        let idle = if rests {
            Outcome::Again(REFUSAL_REST.unsigned_abs())
        } else {
            Outcome::Settled
        };
        let pending = Pending {
            in_flight: is_in_flight(&view.site),
            more_to_come: is_more_to_come(&plan, &view),
        };
        let waiting = {
            let mut memory = memory.lock();
            if plan.is_empty() {
                memory.remove(subject);
                Duration::ZERO
            } else {
                memory.entry(subject.clone()).or_insert_with(Instant::now).elapsed()
            }
        };
        match decide(&plan, pending, waiting) {
            Timing::Idle => return Ok(idle),
            Timing::After(pause) => return Ok(Outcome::Again(pause)),
            Timing::Now => {}
        }
        memory.lock().remove(subject);
        let began = Instant::now();
        let applied = self.executor.apply_machine(namespace, id).await?;
        self.metrics.applied(&applied, began.elapsed());
        Ok(if applied.again {
            Outcome::Again(CROSSED_PAUSE)
        } else if applied.waits {
            Outcome::Again(UNSETTLED_PAUSE)
        } else {
            idle
        })
    }
}
