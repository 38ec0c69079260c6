//! What a gateway needs to know: descriptors, upstreams, limits.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Uri};
use steading_runtime::metrics::Metrics;
use steading_transcode::codec::{DecodeOptions, EncodeOptions};

use crate::rate::RateLimit;
use crate::tls::{Identity, Tls};

/// Where the calls of some services go.
#[derive(Debug, Clone)]
pub struct Route {
    /// Full name of a service, a package that holds services, or empty for everything else.
    pub service: String,
    /// `http://host:port`, HTTP/2 with prior knowledge, or `https://host:port`, HTTP/2 over TLS.
    pub uri: Uri,
}

/// Bounds on what one client can use up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request body, after decompression. 4 MiB is what gRPC servers take by default.
    pub request_bytes: usize,
    /// Bytes of one reply message. Lists of 500 big resources stay well below.
    pub reply_bytes: usize,
    /// Bytes of a header section: a request's, and a reply's headers or trailers. Errors with many details need tens of KiB.
    pub header_bytes: u32,
    /// Bytes of all request bodies and replies that are held whole at one time; calls that would need more are refused for the moment.
    pub buffered_bytes: usize,
    /// Time for a client to send its headers, and again for its body.
    pub receive: Duration,
    /// Time in which a client must take something of what is sent to it.
    pub send: Duration,
    /// Deadline of a unary call that asks for none.
    pub default_deadline: Duration,
    /// Longest deadline that a unary call may ask for.
    pub max_deadline: Duration,
    /// Longest life of a stream; clients resume.
    pub max_stream: Duration,
    /// Silence after which an event stream gets a comment, so that proxies keep it open.
    pub heartbeat: Duration,
    /// Requests at once, streams included; further ones are refused for the moment.
    pub requests: usize,
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// Calls at once on one HTTP/2 connection.
    pub concurrent_streams: u32,
    /// HTTP/2 connections to one upstream.
    pub upstream_connections: usize,
    /// Time to connect to an upstream.
    pub connect: Duration,
    /// Time for what is in flight after the gateway was asked to end.
    pub drain: Duration,
}

impl Limits {
    /// The time that a call gets which asks for `asked`. `streaming` calls may be as long as streams are.
    pub(crate) fn time(&self, asked: Option<Duration>, streaming: bool) -> Duration {
        let (default, most) = if streaming {
            (self.max_stream, self.max_stream)
        } else {
            (self.default_deadline, self.max_deadline)
        };
        asked.unwrap_or(default).min(most)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 4 << 20,
            reply_bytes: 64 << 20,
            header_bytes: 64 << 10,
            buffered_bytes: 1 << 30,
            receive: Duration::from_secs(30),
            send: Duration::from_secs(60),
            default_deadline: Duration::from_secs(60),
            max_deadline: Duration::from_secs(300),
            max_stream: Duration::from_secs(3600),
            heartbeat: Duration::from_secs(15),
            requests: 20_000,
            connections: 10_000,
            concurrent_streams: 1_000,
            upstream_connections: 2,
            connect: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// Everything that a [`Gateway`](crate::Gateway) is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Encoded `FileDescriptorSet`s, imports included.
    pub descriptor_sets: Vec<Bytes>,
    /// Where calls go; the most specific matching service name applies.
    pub upstreams: Vec<Route>,
    /// Bounds.
    pub limits: Limits,
    /// What clients are shown; the gateway's port is in plaintext if there is nothing.
    pub identity: Option<Identity>,
    /// TLS of `https` upstreams.
    pub tls: Tls,
    /// How many calls are fine; no limit if empty.
    pub rate_limits: Vec<RateLimit>,
    /// Header in which a trusted proxy names the caller that limits count; without it, or where it is missing, the credential is the
    /// caller, or the address.
    pub caller_header: Option<HeaderName>,
    /// Origins that browsers may call from; `*` is all. None are, unless they are named.
    pub cors_origins: Vec<HeaderValue>,
    /// Headers that are forwarded besides authorization, trace context, baggage and request id.
    pub forward_headers: Vec<HeaderName>,
    /// How strict requests are read.
    pub decode: DecodeOptions,
    /// How replies look.
    pub encode: EncodeOptions,
    /// `ErrorInfo.domain` of the gateway's own errors.
    pub error_domain: String,
    /// Title of the OpenAPI document.
    pub title: String,
    /// Make a span of each request, as traces want it.
    pub traces: bool,
    /// Where requests are counted.
    pub metrics: Option<Metrics>,
}

impl Config {
    /// A configuration with default limits.
    pub fn new(descriptor_sets: Vec<Bytes>, upstreams: Vec<Route>) -> Self {
        Self {
            descriptor_sets,
            upstreams,
            limits: Limits::default(),
            identity: None,
            tls: Tls::default(),
            rate_limits: Vec::new(),
            caller_header: None,
            cors_origins: Vec::new(),
            forward_headers: Vec::new(),
            decode: DecodeOptions::default(),
            encode: EncodeOptions::default(),
            error_domain: "steading.dev".to_owned(),
            title: "Steading".to_owned(),
            traces: false,
            metrics: None,
        }
    }
}
