//! Metrics of attachments. No labels per object: their number would follow the number of volumes. Sources, queues and runs are
//! measured by the controller crate.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use steading_runtime::metrics::Metrics;

use crate::apply::machine::Applied;

/// The metrics; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StorageMetrics {
    /// Patches of virtual machines, each one generation of the attachment pod.
    batches: Counter,
    attached: Counter,
    detached: Counter,
    /// Volumes that their machine refused.
    refused: Counter,
    /// Seconds of one pass over a machine that writes.
    seconds: Histogram,
}

impl StorageMetrics {
    /// Registers them.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let this = Self {
            batches: Counter::default(),
            attached: Counter::default(),
            detached: Counter::default(),
            refused: Counter::default(),
            seconds: Metrics::duration_histogram(),
        };
        for (name, help, counter) in [
            ("storage_attach_batches", "Patches of virtual machines", &this.batches),
            ("storage_disks_attached", "Disks put on machines", &this.attached),
            ("storage_disks_detached", "Disks taken off machines", &this.detached),
            (
                "storage_attaches_refused",
                "Volumes that their machine refused",
                &this.refused,
            ),
        ] {
            metrics.register(name, help, counter.clone());
        }
        metrics.register(
            "storage_machine_pass_seconds",
            "Seconds of one pass over a machine that writes",
            this.seconds.clone(),
        );
        this
    }

    /// Counts a pass over a machine.
    pub(crate) fn applied(&self, applied: &Applied, took: Duration) {
        self.batches.inc_by(applied.patches as u64);
        self.attached.inc_by(applied.attached as u64);
        self.detached.inc_by(applied.detached as u64);
        self.refused.inc_by(applied.refused as u64);
        self.seconds.observe(took.as_secs_f64());
    }
}
