//! Duration by method and code, calls under way, access log; and the end of streams when the server drains.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use opentelemetry::{KeyValue, metrics::Histogram};
use tokio::time::Instant;
use tonic::Code;
use tracing::Span;

use super::stack::{Stack, is_infrastructure};
use crate::{
    metrics::code_text,
    server::body::{CallBody, Cutoff, OnEnd, code_in},
};

/// Tells of the call when its answer has been sent, or when the client went away before.
pub async fn layer(State(stack): State<Arc<Stack>>, request: Request, next: Next) -> Response {
    let record = Record::begin(&stack, request.uri().path());
    let response = next.run(request).await;
    let code = code_in(response.headers());
    let drain = stack.drain.clone().cancelled_owned();
    let on_end: OnEnd = Box::new(move |code| record.end(code));
    response.map(|body| Body::new(CallBody::new(body, code).cutoff(Cutoff::drain(drain)).on_end(on_end)))
}

/// A call being measured. Dropped before its end, as when the client goes away, it counts as cancelled.
struct Record {
    stack: Arc<Stack>,
    method: String,
    quiet: bool,
    since: Instant,
    span: Span,
    told: bool,
}

impl Record {
    fn begin(stack: &Arc<Stack>, path: &str) -> Self {
        stack.metrics.call_began(&stack.name);
        Self {
            stack: Arc::clone(stack),
            method: stack.method(path).to_owned(),
            quiet: is_infrastructure(path),
            since: Instant::now(),
            span: Span::current(),
            told: false,
        }
    }

    fn end(mut self, code: Code) {
        self.tell(code);
    }

    fn tell(&mut self, code: Code) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let (took, text) = (self.since.elapsed(), code_text(code));
        self.stack
            .metrics
            .call_ended(&self.stack.name, &self.method, code, took);
        durations().record(
            took.as_secs_f64(),
            &[
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", self.method.clone()),
                KeyValue::new("rpc.response.status_code", text),
            ],
        );
        if self.quiet {
            return;
        }
        self.span.record("rpc.response.status_code", text);
        if is_fault(code) {
            self.span.record("otel.status_code", "ERROR");
        }
        let _inside = self.span.enter();
        tracing::debug!(method = %self.method, code = text, took_ms = took.as_millis(), "answered");
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.tell(Code::Cancelled);
    }
}

/// Codes that mean a fault of the server, as OpenTelemetry's conventions list them.
fn is_fault(code: Code) -> bool {
    use Code as C;
    matches!(
        code,
        C::Unknown | C::DeadlineExceeded | C::Unimplemented | C::Internal | C::Unavailable | C::DataLoss
    )
}

/// The OTLP twin of the Prometheus histogram; goes nowhere unless an endpoint is set.
fn durations() -> &'static Histogram<f64> {
    static DURATIONS: std::sync::OnceLock<Histogram<f64>> = std::sync::OnceLock::new();
    DURATIONS.get_or_init(|| {
        let meter = opentelemetry::global::meter("steading");
        meter.f64_histogram("rpc.server.call.duration").with_unit("s").build()
    })
}
