//! The command line of `steading-gateway`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use http::{HeaderName, HeaderValue};
use steading_gateway::{Config, Limits, RateLimit, Route, Whose};
use steading_runtime::telemetry::{LogFormat, TelemetryConfig};

use crate::files::Files;

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

    /// Where a service's calls go: SERVICE=http://host:port, or https, SERVICE being a service or a package; without
    /// `SERVICE=` the upstream of everything else. May be given more than once.
    #[arg(long = "upstream", env = "STEADING_UPSTREAMS", value_delimiter = ',', required = true, value_parser = route)]
    upstreams: Vec<Route>,

    #[command(flatten)]
    files: Files,

    /// Calls that each caller may make: [SCOPE=]COUNT/UNIT[:BURST] with the units s, m and h; SCOPE is a method (pkg.Service/Method), a
    /// service or a package, and the most specific matching scope applies. May be given more than once.
    #[arg(long = "rate-limit", value_name = "LIMIT", value_parser = |text: &str| RateLimit::parse(Whose::Caller, text))]
    rate_limits: Vec<RateLimit>,

    /// Calls that all callers together may make; the same form. May be given more than once.
    #[arg(long = "total-rate-limit", value_name = "LIMIT", value_parser = |text: &str| RateLimit::parse(Whose::Everybody, text))]
    total_rate_limits: Vec<RateLimit>,

    /// Header in which a proxy in front names the caller, who is then counted by it. Only where clients cannot set it themselves; without
    /// it callers are told apart by their credential, or else their address.
    #[arg(long, value_name = "HEADER")]
    caller_header: Option<HeaderName>,

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

    /// Most bytes of all request bodies and replies held at one time.
    #[arg(long, default_value_t = Limits::default().buffered_bytes)]
    max_buffered_bytes: usize,

    /// Seconds for a client to send its headers, and again for its body.
    #[arg(long, default_value_t = 30)]
    receive_seconds: u32,

    /// Seconds in which a client must take something of what is sent to it.
    #[arg(long, default_value_t = 60)]
    send_seconds: u32,

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

    /// Most requests at once, streams included.
    #[arg(long, default_value_t = Limits::default().requests)]
    max_requests: usize,

    /// Drop fields, query parameters and enum names of requests that no descriptor has, instead of refusing them.
    #[arg(long)]
    ignore_unknown: bool,

    /// Leave unset fields out of replies.
    #[arg(long)]
    omit_unset: bool,

    /// Log every request when it has ended; the same as `access=debug` in the log filter.
    #[arg(long, env = "STEADING_ACCESS_LOG")]
    access_log: bool,

    /// How log lines look.
    #[arg(long, env = "STEADING_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,

    /// Filter of log lines.
    #[arg(long, env = "STEADING_LOG_FILTER", default_value = "info")]
    log_filter: String,

    /// Where to send traces and metrics by OTLP over gRPC; nowhere if not set.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// Seconds for what is in flight when the process is asked to end.
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
        let access = if self.access_log { ",access=debug" } else { "" };
        TelemetryConfig {
            format: self.log_format,
            filter: format!("{}{access}", self.log_filter),
            otlp_endpoint: self.otlp_endpoint.clone(),
        }
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.into())
    }

    /// The gateway's configuration, and the files that it comes from.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn config(self) -> anyhow::Result<(Config, Files)> {
        let read = self.files.read()?;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let drain = self.drain();
        let mut config = Config::new(read.descriptor_sets, self.upstreams);
        config.identity = read.identity;
        config.tls = read.tls;
        config.rate_limits = [self.rate_limits, self.total_rate_limits].concat();
        config.caller_header = self.caller_header;
        config.cors_origins = self.cors_origins;
        config.forward_headers = self.forward_headers;
        config.traces = self.otlp_endpoint.is_some_and(|endpoint| !endpoint.is_empty());
        if self.ignore_unknown {
            config.decode.unknown = steading_transcode::codec::Unknown::Ignore;
        }
        if self.omit_unset {
            config.encode.unset = steading_transcode::codec::Unset::Omit;
        }
        config.limits = Limits {
            request_bytes: self.max_request_bytes,
            reply_bytes: self.max_reply_bytes,
            buffered_bytes: self.max_buffered_bytes,
            receive: seconds(self.receive_seconds),
            send: seconds(self.send_seconds),
            default_deadline: seconds(self.default_deadline_seconds),
            max_deadline: seconds(self.max_deadline_seconds),
            max_stream: seconds(self.max_stream_seconds),
            requests: self.max_requests,
            connections: self.max_connections,
            drain,
            ..Limits::default()
        };
        Ok((config, self.files))
    }
}
