//! What templating does while it holds the lease: installs the standard catalogue, imports images, keeps revisions.
//!
//! Work is keyed by image and template; a change of what they refer to is a reason to look at them. A pass decides from what
//! is seen, which costs no request when nothing is to be done. What it deletes it has read again before, and while a view is
//! not fresh, what it says of templates too.

use std::{sync::Arc, time::Duration};

use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use steading_controller::{
    Outcome, Queue, RetryPolicy as _, Sources, Term,
    metrics::ReconcilerMetrics,
    work::{WorkConfig, work_fed},
};
use steading_infra::labels;
use steading_runtime::{CancellationToken, clock::Clock, tasks::Chain};

use crate::{
    error::Error,
    observe::{Observed, Places, Subject},
};
use pass::{Memory, Pass};

mod catalogue;
mod images;
mod pass;
mod templates;

/// Reconciles while it leads.
pub struct Reconciler {
    pass: Pass,
    sources: Sources,
    /// How often everything is looked at although nothing changed.
    resync: Duration,
    runs: ReconcilerMetrics,
}

impl Reconciler {
    /// A reconciler that does nothing yet; `sources` are those of what is seen.
    pub fn new(
        (kube, clock): (Client, Clock),
        seen: Observed,
        sources: Sources,
        resync: Duration,
        runs: ReconcilerMetrics,
    ) -> Self {
        let reporter = Reporter {
            controller: labels::TEMPLATING_MANAGER.into(),
            instance: None,
        };
        let events = Recorder::new(kube.clone(), reporter);
        Self {
            pass: Pass {
                kube,
                clock,
                seen,
                events,
            },
            sources,
            resync,
            runs,
        }
    }

    /// Runs until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
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
        // Machines cannot be made without it, so it does not wait for the views.
        queue.add(Subject::Standard);
        self.sources.synced().await;
        let seen = &self.pass.seen;
        let mut places = Places::of(seen);
        let mut resync = tokio::time::interval(self.resync);
        let (mut templates, mut images) = (seen.templates.index().changed(), seen.images.index().changed());
        let (mut volumes, mut revisions) = (seen.volumes.index().changed(), seen.revisions.index().changed());
        let mut instance_types = seen.instance_types.index().changed();
        let mut preferences = seen.preferences.index().changed();
        let (mut machines, mut pools) = (seen.machines.index().changed(), seen.pools.index().changed());
        loop {
            let changed = tokio::select! {
                _ = resync.tick() => None,
                changed = templates.changed() => Some(changed),
                changed = images.changed() => Some(changed),
                changed = volumes.changed() => Some(changed),
                changed = revisions.changed() => Some(changed),
                changed = instance_types.changed() => Some(changed),
                changed = preferences.changed() => Some(changed),
                changed = machines.changed() => Some(changed),
                changed = pools.changed() => Some(changed),
            };
            let subjects = match changed {
                None => seen.everything(),
                Some(Ok(())) => places.go_on(seen).unwrap_or_else(|_| seen.everything()),
                Some(Err(_)) => return,
            };
            for subject in subjects {
                queue.add(subject);
            }
        }
    }

    async fn reconcile(&self, subject: &Subject, memory: &Memory) -> Outcome {
        let pass = &self.pass;
        let outcome = match subject {
            Subject::Standard => pass.reconcile_standard(memory).await,
            Subject::Image(name) => pass.reconcile_image(name).await,
            Subject::Template(name) => pass.reconcile_template(name).await,
            Subject::Pinned => pass.reconcile_pinned().await,
        };
        outcome.unwrap_or_else(|error: Error| {
            let retry = error.retry();
            tracing::warn!(?subject, error = %Chain(&error), ?retry, "a step failed and is tried again");
            Outcome::Failed(retry)
        })
    }
}
