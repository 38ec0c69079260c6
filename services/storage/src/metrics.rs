//! Metrics of the reconciler. No labels per object: their number would follow the number of volumes.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
use steading_runtime::metrics::Metrics;

/// The metrics; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StorageMetrics {
    /// Steps of the reconciler that looked at one machine or volume.
    pub(crate) runs: Counter,
    /// Steps that failed and are tried again.
    pub(crate) failures: Counter,
    /// Patches of virtual machines, each one generation of the attachment pod.
    pub(crate) batches: Counter,
    /// Disks put on.
    pub(crate) attached: Counter,
    /// Disks taken off.
    pub(crate) detached: Counter,
    /// Machines and volumes that wait for their turn.
    pub(crate) queued: Gauge,
    /// Seconds that a write takes.
    pub(crate) seconds: Histogram,
}

impl StorageMetrics {
    /// Registers them.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let this = Self {
            runs: Counter::default(),
            failures: Counter::default(),
            batches: Counter::default(),
            attached: Counter::default(),
            detached: Counter::default(),
            queued: Gauge::default(),
            seconds: Metrics::duration_histogram(),
        };
        metrics.register(
            "storage_reconcile_runs",
            "Looks at one machine or volume",
            this.runs.clone(),
        );
        metrics.register(
            "storage_reconcile_failures",
            "Looks that failed and are repeated",
            this.failures.clone(),
        );
        metrics.register(
            "storage_attach_batches",
            "Patches of virtual machines",
            this.batches.clone(),
        );
        metrics.register("storage_disks_attached", "Disks put on machines", this.attached.clone());
        metrics.register(
            "storage_disks_detached",
            "Disks taken off machines",
            this.detached.clone(),
        );
        metrics.register(
            "storage_reconcile_queue",
            "Machines and volumes that wait",
            this.queued.clone(),
        );
        metrics.register(
            "storage_reconcile_seconds",
            "Seconds of one write",
            this.seconds.clone(),
        );
        this
    }
}
