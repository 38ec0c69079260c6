//! Rate, errors and duration of requests, by route template: never by path, whose number has no bound.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use steading_runtime::metrics::Metrics;

use crate::code::Code;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    route: String,
    code: &'static str,
}

/// What the gateway measures.
#[derive(Clone)]
pub(crate) struct RequestMetrics {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    /// Native calls: their HTTP status says nothing, and their code comes last.
    calls: Family<CallLabels, Counter>,
    open: Gauge,
}

/// A request that is counted as under way until this is dropped.
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Who answered, in words of which there are not more than the descriptors have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A template.
    Rest(String),
    /// `/package.Service/Method`.
    Rpc(String),
    /// A gRPC method that the descriptors do not have.
    UnknownRpc,
    /// Reflection and health.
    Builtin,
    /// `/openapi.json`.
    Document,
    /// A browser's question.
    Preflight,
    /// Nobody.
    Unmatched,
}

impl Route {
    pub(crate) fn label(&self) -> &str {
        match self {
            Self::Rest(template) => template,
            Self::Rpc(path) => path,
            Self::UnknownRpc => "grpc",
            Self::Builtin => "builtin",
            Self::Document => "/openapi.json",
            Self::Preflight => "preflight",
            Self::Unmatched => "unmatched",
        }
    }
}

impl RequestMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(Metrics::duration_histogram);
        metrics.register(
            "gateway_request_duration_seconds",
            "Time until the head of the response, by route template",
            durations.clone(),
        );
        let calls = Family::default();
        metrics.register(
            "gateway_grpc_calls",
            "Native gRPC and gRPC-Web calls that have ended, by method and code",
            calls.clone(),
        );
        let open = Gauge::default();
        metrics.register("gateway_open_requests", "Requests and streams under way", open.clone());
        Self { durations, calls, open }
    }

    /// Counts a request as under way.
    pub(crate) fn open(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }

    /// Counts a native call that has ended.
    pub(crate) fn call_ended(&self, route: &str, code: Code) {
        let labels = CallLabels {
            route: route.to_owned(),
            code: code.name(),
        };
        self.calls.get_or_create(&labels).inc();
    }

    pub(crate) fn observe(&self, method: &Method, route: &Route, status: StatusCode, took: Duration) {
        let labels = Labels {
            method: known(method),
            route: route.label().to_owned(),
            status: status.as_u16(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// Clients may invent methods; labels may not.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
