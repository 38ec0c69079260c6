//! The command line of `steading-gateway`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use http::{HeaderName, HeaderValue};
use steading_gateway::{Config, Limits, Route};
use steading_runtime::telemetry::{LogFormat, TelemetryConfig};

/// REST and gRPC gateway in front of gRPC services, driven by their descriptors.
#[derive(Debug, Parser)]
#[command(version, name = "steading-gateway")]
pub(crate) struct Args {
    /// Address to serve on; port 0 takes a free one.
    #[arg(long, env = "STEADING_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Address of the admin port: /livez, /readyz, /metrics, /log-level.
    #[arg(long, env = "STEADING_ADMIN_LISTEN", default_value = "127.0.0.1:0")]
    pub(crate) admin_listen: SocketAddr,

    /// Where a service's calls go: SERVICE=http://host:port, SERVICE being a service or a package; without
    /// `SERVICE=` the upstream of everything else. May be given more than once.
    #[arg(long = "upstream", env = "STEADING_UPSTREAMS", value_delimiter = ',', required = true, value_parser = route)]
    upstreams: Vec<Route>,

    /// Encoded FileDescriptorSet with imports, such as `buf build -o` or `protoc -o --include_imports` writes it;
    /// Steading's own contracts if none is given. May be given more than once.
    #[arg(long = "descriptor-set")]
    descriptor_sets: Vec<PathBuf>,

    /// Origin that browsers may call from, or `*`. May be given more than once.
    #[arg(long = "cors-origin")]
    cors_origins: Vec<HeaderValue>,

    /// Further request header to forward to services. May be given more than once.
    #[arg(long = "forward-header")]
    forward_headers: Vec<HeaderName>,

    /// Most bytes of a request body.
    #[arg(long, default_value_t = Limits::default().request_bytes)]
    max_request_bytes: usize,

    /// Most bytes of one reply message.
    #[arg(long, default_value_t = Limits::default().reply_bytes)]
    max_reply_bytes: usize,

    /// Deadline in seconds of unary calls that ask for none.
    #[arg(long, default_value_t = 60)]
    default_deadline_seconds: u32,

    /// Longest deadline in seconds that a unary call may ask for.
    #[arg(long, default_value_t = 300)]
    max_deadline_seconds: u32,

    /// Longest life of a stream in seconds.
    #[arg(long, default_value_t = 3600)]
    max_stream_seconds: u32,

    /// Most connections at once.
    #[arg(long, default_value_t = Limits::default().connections)]
    max_connections: usize,

    /// Leave unset fields out of replies.
    #[arg(long)]
    omit_unset: bool,

    /// How log lines look.
    #[arg(long, env = "STEADING_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,

    /// Filter of log lines; steading_gateway=debug logs every request.
    #[arg(long, env = "STEADING_LOG_FILTER", default_value = "info")]
    log_filter: String,

    /// Where to send traces and metrics by OTLP over gRPC; nowhere if not set.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// Seconds for what is in flight when the process is told to end.
    #[arg(long, env = "STEADING_DRAIN_SECONDS", default_value_t = 10)]
    drain_seconds: u16,
}

fn route(text: &str) -> Result<Route, String> {
    let (service, uri) = match text.split_once('=') {
        Some((service, uri)) if !service.contains('/') => (service, uri),
        _ => ("", text),
    };
    let uri = uri.parse().map_err(|error| format!("{uri}: {error}"))?;
    Ok(Route {
        service: service.trim_start_matches('.').to_owned(),
        uri,
    })
}

impl Args {
    pub(crate) fn telemetry(&self) -> TelemetryConfig {
        TelemetryConfig {
            format: self.log_format,
            filter: self.log_filter.clone(),
            otlp_endpoint: self.otlp_endpoint.clone(),
        }
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.into())
    }

    pub(crate) fn config(self) -> anyhow::Result<Config> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map(Bytes::from)
                .with_context(|| format!("cannot read {}", path.display()))
        };
        let mut sets = self
            .descriptor_sets
            .iter()
            .map(read)
            .collect::<anyhow::Result<Vec<Bytes>>>()?;
        if sets.is_empty() {
            sets.push(Bytes::from_static(steading_api::FILE_DESCRIPTOR_SET));
        }
        let drain = self.drain();
        let mut config = Config::new(sets, self.upstreams);
        config.cors_origins = self.cors_origins;
        config.forward_headers = self.forward_headers;
        if self.omit_unset {
            config.encode.unset = steading_transcode::codec::Unset::Omit;
        }
        config.limits = Limits {
            request_bytes: self.max_request_bytes,
            reply_bytes: self.max_reply_bytes,
            default_deadline: Duration::from_secs(self.default_deadline_seconds.into()),
            max_deadline: Duration::from_secs(self.max_deadline_seconds.into()),
            max_stream: Duration::from_secs(self.max_stream_seconds.into()),
            connections: self.max_connections,
            drain,
            ..Limits::default()
        };
        Ok(config)
    }
}
