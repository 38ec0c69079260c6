//! Logs, and with an OTLP endpoint traces and metrics. Called once by a process; libraries and tests need nothing.

use std::{sync::Arc, time::Duration};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{Filtered, LevelFilter, ParseError, Targets},
    layer::{Layered, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

/// Time for the last spans and metrics to leave.
const FLUSH: Duration = Duration::from_secs(3);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What telemetry should do.
#[derive(Debug, Clone, Default)]
pub struct TelemetryConfig {
    /// How log lines look.
    pub format: LogFormat,
    /// Filter of log lines, such as `info,steading_storage=debug`.
    pub filter: String,
    /// Where to send traces and metrics; nowhere if empty.
    pub otlp_endpoint: Option<String>,
}

/// Why telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log filter is not valid")]
    Filter(#[from] ParseError),
    /// The OTLP endpoint cannot be used.
    #[error("OTLP exporter cannot be built")]
    Exporter(#[from] ExporterBuildError),
    /// Somebody set up logging before.
    #[error("telemetry was set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// The filter can no longer be changed.
    #[error("log filter cannot be changed")]
    Reload(#[from] reload::Error),
}

/// Changes the log filter while the process runs. Cheap to clone.
#[derive(Clone)]
pub struct LogFilter(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogFilter {
    /// Replaces the filter.
    ///
    /// # Errors
    /// If the text is not a filter; the present one stays then.
    pub fn set(&self, filter: &str) -> Result<(), TelemetryError> {
        let filter = EnvFilter::builder().parse(filter)?;
        (self.0)(filter)?;
        Ok(())
    }
}

impl std::fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFilter").finish_non_exhaustive()
    }
}

/// Keeps telemetry going; sends what is left when dropped.
#[derive(Debug)]
pub struct Telemetry {
    log_filter: LogFilter,
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// The handle that changes the log filter.
    pub fn log_filter(&self) -> LogFilter {
        self.log_filter.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Nowhere left to report a failure to.
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown_with_timeout(FLUSH);
        }
        if let Some(metrics) = &self.metrics {
            let _ = metrics.shutdown_with_timeout(FLUSH);
        }
    }
}

/// Sets up the process's logs, traces and metrics. Logs go to stderr. Needs a tokio runtime if there is an endpoint.
///
/// # Errors
/// If the filter or endpoint is not usable, or telemetry was set up before.
pub fn init(service: &str, config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::builder().parse(&config.filter)?);
    let log_filter = LogFilter(Arc::new(move |filter| handle.reload(filter)));
    let endpoint = config.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    let (traces, metrics) = match endpoint {
        Some(endpoint) => {
            let (traces, metrics) = exporters(service, endpoint)?;
            (Some(traces), Some(metrics))
        }
        None => (None, None),
    };
    let spans = traces.as_ref().map(|traces| {
        let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer("steading"));
        spans.with_filter(exported())
    });
    tracing_subscriber::registry()
        .with(spans)
        .with(lines(config.format).with_filter(filter))
        .try_init()?;
    Ok(Telemetry {
        log_filter,
        traces,
        metrics,
    })
}

/// The spans that are worth exporting: ours, and the requests to Kubernetes. HTTP/2's inner life is not.
fn exported() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("kube_client", LevelFilter::DEBUG)
}

type Exporting = Filtered<OpenTelemetryLayer<Registry, SdkTracer>, Targets, Registry>;
type Spans = Layered<Option<Exporting>, Registry>;

fn lines(format: LogFormat) -> Box<dyn Layer<Spans> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

fn exporters(service: &str, endpoint: &str) -> Result<(SdkTracerProvider, SdkMeterProvider), ExporterBuildError> {
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    let spans = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()?;
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(spans)
        .build();
    let numbers = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()?;
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_periodic_exporter(numbers)
        .build();
    opentelemetry::global::set_meter_provider(metrics.clone());
    Ok((traces, metrics))
}
