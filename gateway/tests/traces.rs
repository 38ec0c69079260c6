//! Spans of requests: between the caller's and the service's. A file of its own, since it sets up the process's subscriber.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::sync::Arc;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use parking_lot::Mutex;
use support::{Rig, framed};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Keeps the spans that have ended.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().extend(batch);
        Ok(())
    }
}

#[tokio::test]
async fn a_request_is_a_span_between_the_callers_and_the_services() {
    let spans = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")))
        .init();
    let rig = Rig::start(|config| config.traces = true).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let answer = rig
        .http("GET /v1/shelves/a/books/b", &[("traceparent", &parent)], b"")
        .await;
    let book = answer.json();
    let sent = book["labels"]["traceparent"].as_str().unwrap();
    let span = &sent[36..52];
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && span != CALLER, "{sent}");

    let finished = spans.0.lock().clone();
    let own = finished
        .iter()
        .find(|own| own.span_context.span_id().to_string() == span)
        .unwrap();
    assert_eq!(own.name, "GET /v1/{name=shelves/*/books/*}");
    assert_eq!(own.parent_span_id.to_string(), CALLER);
    let status = own
        .attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == "http.response.status_code");
    assert_eq!(status.unwrap().value.as_str(), "200");

    let path = "/steading.testing.v1.Library/GetBook";
    let (message, _) = rig
        .grpc_with(path, &framed(b"\x0a\x01b"), &[("traceparent", &parent)])
        .await;
    let text = String::from_utf8_lossy(&message).into_owned();
    assert!(text.contains(TRACE) && !text.contains(CALLER), "{text}");
}
