//! What sources and reconcilers tell operators. Labels name services, kinds and reasons, never objects.

use std::{fmt::Debug, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{health::Health, queue::Depth};

/// Bounds of the histogram of runs in seconds: from a plan without a write to a run at its deadline.
const DURATIONS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    service: &'static str,
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    service: &'static str,
    source: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcilerLabels {
    service: &'static str,
    reconciler: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    service: &'static str,
    reconciler: &'static str,
    outcome: &'static str,
}

/// The metrics of all controllers of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    live: Family<SourceLabels, Gauge>,
    objects: Family<SourceLabels, Gauge>,
    failures: Family<FailureLabels, Counter>,
    waiting: Family<ReconcilerLabels, Gauge>,
    busy: Family<ReconcilerLabels, Gauge>,
    oldest: Family<ReconcilerLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    runs: Family<RunLabels, Counter>,
    durations: Family<ReconcilerLabels, Histogram, fn() -> Histogram>,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Default for ControllerMetrics {
    fn default() -> Self {
        Self {
            live: Family::default(),
            objects: Family::default(),
            failures: Family::default(),
            waiting: Family::default(),
            busy: Family::default(),
            oldest: Family::default(),
            runs: Family::default(),
            durations: Family::new_with_constructor(durations),
        }
    }
}

impl ControllerMetrics {
    /// Adds every metric to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("source_live", "Whether the view of a kind is fresh", self.live.clone());
        registry.register("source_objects", "Objects in the view of a kind", self.objects.clone());
        registry.register(
            "source_failures",
            "Failures of watches and lists, by reason",
            self.failures.clone(),
        );
        registry.register(
            "queue_waiting",
            "Keys that wait for their time or a slot",
            self.waiting.clone(),
        );
        registry.register("queue_busy", "Keys that are worked on", self.busy.clone());
        registry.register(
            "queue_oldest_seconds",
            "For how long the oldest key that is due has waited",
            self.oldest.clone(),
        );
        registry.register("reconcile_runs", "Runs of a reconciler, by outcome", self.runs.clone());
        registry.register(
            "reconcile_duration_seconds",
            "Duration of a reconciler's runs",
            self.durations.clone(),
        );
    }

    /// The metrics of one source.
    pub fn source(&self, service: &'static str, source: &'static str) -> SourceMetrics {
        SourceMetrics {
            all: self.clone(),
            labels: SourceLabels { service, source },
        }
    }

    /// The metrics of one reconciler and its queue.
    pub fn reconciler(&self, service: &'static str, reconciler: &'static str) -> ReconcilerMetrics {
        ReconcilerMetrics {
            all: self.clone(),
            labels: ReconcilerLabels { service, reconciler },
        }
    }
}

/// The metrics of one source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    all: ControllerMetrics,
    labels: SourceLabels,
}

impl SourceMetrics {
    pub(crate) fn health(&self, health: &Health) {
        let live = i64::from(health.is_live());
        self.all.live.get_or_create(&self.labels).set(live);
    }

    pub(crate) fn objects(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.all.objects.get_or_create(&self.labels).set(count);
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        let labels = FailureLabels {
            service: self.labels.service,
            source: self.labels.source,
            reason,
        };
        self.all.failures.get_or_create(&labels).inc();
    }
}

/// The metrics of one reconciler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReconcilerMetrics {
    all: ControllerMetrics,
    labels: ReconcilerLabels,
}

impl ReconcilerMetrics {
    pub(crate) fn depth(&self, depth: Depth) {
        let gauge = |family: &Family<ReconcilerLabels, Gauge>, value: usize| {
            family
                .get_or_create(&self.labels)
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.all.waiting, depth.waiting);
        gauge(&self.all.busy, depth.busy);
        self.all
            .oldest
            .get_or_create(&self.labels)
            .set(depth.oldest.as_secs_f64());
    }

    pub(crate) fn ran(&self, outcome: &'static str, took: Duration) {
        let labels = RunLabels {
            service: self.labels.service,
            reconciler: self.labels.reconciler,
            outcome,
        };
        self.all.runs.get_or_create(&labels).inc();
        self.all
            .durations
            .get_or_create(&self.labels)
            .observe(took.as_secs_f64());
    }
}
