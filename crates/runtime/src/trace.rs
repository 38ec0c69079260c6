//! W3C trace context: out of incoming calls, into outgoing ones.
//!
//! With an OTLP endpoint the span's own context travels. Without one there are no spans of ours to tell of; then
//! the caller's headers travel on unchanged, so that a mesh's trace does not break at us.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The trace headers of a call as they came.
#[derive(Debug, Clone, Default)]
pub struct TraceHeaders(Vec<(HeaderName, HeaderValue)>);

impl TraceHeaders {
    /// Takes them out of a call.
    pub fn of(headers: &HeaderMap) -> Self {
        let found = HEADERS
            .into_iter()
            .filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)));
        Self(found.collect())
    }
}

/// Makes the caller's span the parent of `span`.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Reader(headers));
    if context.span().span_context().is_valid() {
        // Fails only where no OpenTelemetry layer is installed, and then there is nothing to link.
        let _ = span.set_parent(context);
    }
}

/// Puts the present span's context into an outgoing call, else what the incoming call had.
pub fn inject(headers: &mut HeaderMap, incoming: Option<&TraceHeaders>) {
    let context = Span::current().context();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, &mut Writer(headers));
        return;
    }
    for (name, value) in incoming.iter().flat_map(|trace| &trace.0) {
        headers.insert(name.clone(), value.clone());
    }
}

struct Reader<'a>(&'a HeaderMap);

impl Extractor for Reader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Writer<'a>(&'a mut HeaderMap);

impl Injector for Writer<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_spans_of_ours_the_callers_trace_travels_on() {
        let mut incoming = HeaderMap::new();
        let parent = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        incoming.insert("traceparent", parent.clone());
        let mut outgoing = HeaderMap::new();
        inject(&mut outgoing, Some(&TraceHeaders::of(&incoming)));
        assert_eq!(outgoing.get("traceparent"), Some(&parent));
    }

    #[test]
    fn with_spans_the_trace_id_stays_and_the_span_is_ours() {
        use opentelemetry::trace::TracerProvider;
        use tracing_subscriber::layer::SubscriberExt;
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let mut incoming = HeaderMap::new();
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            incoming.insert("traceparent", HeaderValue::from_static(parent));
            let span = tracing::info_span!("call");
            adopt(&span, &incoming);
            let mut outgoing = HeaderMap::new();
            span.in_scope(|| inject(&mut outgoing, None));
            let sent = outgoing
                .get("traceparent")
                .and_then(|v| v.to_str().ok())
                .expect("a traceparent");
            assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{sent}");
            assert_ne!(sent, parent);
        });
    }
}
