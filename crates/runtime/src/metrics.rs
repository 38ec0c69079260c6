//! The process's metrics in the Prometheus registry that the admin port shows.
//!
//! Several services may share one [`Metrics`] (as in `steading up`); what they have in common is registered once.
//! No label carries a resource's name: the number of series must not grow with the number of objects.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};
use steading_controller::metrics::ControllerMetrics;

/// Bounds of the duration histograms in seconds: from a cached read to the longest deadline.
const DURATIONS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A handle to the registry. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    calls: Family<CallLabels, Histogram, fn() -> Histogram>,
    open: Family<ServerLabels, Gauge>,
    panics: Family<TaskLabels, Counter>,
    controllers: ControllerMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    server: String,
    rpc_method: String,
    rpc_response_status_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: String,
}

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Metrics {
    /// An empty registry with what every server has.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("steading");
        let calls: Family<CallLabels, Histogram, fn() -> Histogram> = Family::new_with_constructor(durations);
        let open = Family::default();
        registry.register(
            "rpc_server_call_duration_seconds",
            "Duration of served calls",
            calls.clone(),
        );
        registry.register("rpc_server_open_calls", "Calls and streams being served", open.clone());
        let panics = Family::default();
        registry.register(
            "task_panics",
            "Panics of tasks that were isolated and started again",
            panics.clone(),
        );
        let controllers = ControllerMetrics::default();
        controllers.register(&mut registry);
        Self {
            registry: Arc::new(Mutex::new(registry)),
            calls,
            open,
            panics,
            controllers,
        }
    }

    /// The metrics of sources, queues and reconcilers.
    pub fn controllers(&self) -> &ControllerMetrics {
        &self.controllers
    }

    /// Counts a panic of an isolated task; `task` names the kind of task, never an object.
    pub fn task_panicked(&self, task: &'static str) {
        self.panics.get_or_create(&TaskLabels { task }).inc();
    }

    /// Adds a metric; `name` without the prefix `steading_`, without the suffix that its type brings.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry.lock().register(name, help, metric);
    }

    /// A histogram of durations in seconds with the bounds that all of ours have.
    pub fn duration_histogram() -> Histogram {
        durations()
    }

    /// The text that the admin port shows.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry.lock()) {
            Ok(()) => text,
            Err(error) => {
                tracing::warn!(%error, "cannot write the metrics");
                String::new()
            }
        }
    }

    pub(crate) fn call_began(&self, server: &str) {
        self.open
            .get_or_create(&ServerLabels {
                server: server.to_owned(),
            })
            .inc();
    }

    pub(crate) fn call_ended(&self, server: &str, method: &str, code: tonic::Code, took: Duration) {
        self.open
            .get_or_create(&ServerLabels {
                server: server.to_owned(),
            })
            .dec();
        let labels = CallLabels {
            server: server.to_owned(),
            rpc_method: method.to_owned(),
            rpc_response_status_code: code_text(code),
        };
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The canonical text of a code, as OpenTelemetry's conventions want it.
pub fn code_text(code: tonic::Code) -> &'static str {
    use tonic::Code as C;
    match code {
        C::Ok => "OK",
        C::Cancelled => "CANCELLED",
        C::Unknown => "UNKNOWN",
        C::InvalidArgument => "INVALID_ARGUMENT",
        C::DeadlineExceeded => "DEADLINE_EXCEEDED",
        C::NotFound => "NOT_FOUND",
        C::AlreadyExists => "ALREADY_EXISTS",
        C::PermissionDenied => "PERMISSION_DENIED",
        C::ResourceExhausted => "RESOURCE_EXHAUSTED",
        C::FailedPrecondition => "FAILED_PRECONDITION",
        C::Aborted => "ABORTED",
        C::OutOfRange => "OUT_OF_RANGE",
        C::Unimplemented => "UNIMPLEMENTED",
        C::Internal => "INTERNAL",
        C::Unavailable => "UNAVAILABLE",
        C::DataLoss => "DATA_LOSS",
        C::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_method_and_code() {
        let metrics = Metrics::new();
        metrics.call_began("lifecycle");
        metrics.call_ended("lifecycle", "a.B/C", tonic::Code::NotFound, Duration::from_millis(3));
        let text = metrics.encode();
        let count = "steading_rpc_server_call_duration_seconds_count{server=\"lifecycle\",rpc_method=\"a.B/C\",rpc_response_status_code=\"NOT_FOUND\"} 1";
        assert!(text.contains(count), "{text}");
        assert!(
            text.contains("steading_rpc_server_open_calls{server=\"lifecycle\"} 0"),
            "{text}"
        );
    }
}
