//! HTTP/2 connections to the services.
//!
//! Each upstream has a few connections, taken in turn. A connection is made by the first call that needs it and
//! replaced by the next call after it broke; a call that was not sent on a broken connection is sent once more.
//! While an upstream cannot be reached, calls fail at once but for one attempt after each [`retry::rest`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::body::Body;
use crate::config::{Limits, Route};
use crate::retry;

/// Window of a connection and of each call on it: a 1 MiB reply arrives without waiting for the gateway to say "more".
const WINDOW: u32 = 1 << 20;
/// A dead peer is noticed after twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Not an absolute `http` URI.
    #[error("{0}: an upstream must be http://host:port")]
    Uri(Uri),
    /// It does not take connections.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: Authority,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It does not speak HTTP/2, or the call broke.
    #[error("call to {authority} failed")]
    Call {
        /// Host and port.
        authority: Authority,
        /// Why.
        #[source]
        source: hyper::Error,
    },
}

/// One connection, or the trace of the last attempts at it.
#[derive(Default)]
struct Slot {
    sender: Option<SendRequest<Body>>,
    /// When the last attempt failed, and how many have in a row.
    failed: Option<(Instant, u32)>,
}

impl Slot {
    /// Whether the next attempt is still some time away.
    fn rests(&self, now: Instant) -> bool {
        self.failed
            .is_some_and(|(at, failures)| now.saturating_duration_since(at) < retry::rest(failures))
    }
}

/// One upstream.
pub(crate) struct Upstream {
    pub(crate) authority: Authority,
    connect: Duration,
    slots: Box<[Mutex<Slot>]>,
    next: AtomicUsize,
}

impl Upstream {
    fn new(uri: &Uri, limits: &Limits) -> Result<Self, UpstreamError> {
        let authority = match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) if *scheme == Scheme::HTTP => authority.clone(),
            _ => return Err(UpstreamError::Uri(uri.clone())),
        };
        let slots = (0..limits.upstream_connections.max(1))
            .map(|_| Mutex::default())
            .collect();
        Ok(Self {
            authority,
            connect: limits.connect,
            slots,
            next: AtomicUsize::new(0),
        })
    }

    /// Sends a call; the response's body is still to come.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, UpstreamError> {
        let fail = |source| UpstreamError::Call {
            authority: self.authority.clone(),
            source,
        };
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut tries = 0;
        loop {
            let mut sender = self.sender(turn).await?;
            sender.ready().await.map_err(fail)?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if tries == 0 => {
                        tries += 1;
                        request = unsent;
                    }
                    _ => return Err(fail(error.into_error())),
                },
            }
        }
    }

    async fn sender(&self, turn: usize) -> Result<SendRequest<Body>, UpstreamError> {
        let Some(slot) = self.slots.get(turn % self.slots.len()) else {
            return Err(UpstreamError::Uri(Uri::default()));
        };
        let asked = Instant::now();
        // Held while connecting, so that a burst of calls makes one connection.
        let mut slot = slot.lock().await;
        if let Some(sender) = slot.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        // A dead upstream is left alone for a while. Those who waited for the attempt asked before it failed, so they share its failure
        // instead of waiting each for an attempt of its own.
        if slot.rests(asked) {
            return Err(UpstreamError::Connect {
                authority: self.authority.clone(),
                source: std::io::ErrorKind::NotConnected.into(),
            });
        }
        let opened = self.open().await;
        let failures = slot.failed.map_or(0, |(_, failures)| failures);
        slot.failed = opened.is_err().then(|| (Instant::now(), failures.saturating_add(1)));
        slot.sender = opened.as_ref().ok().cloned();
        opened
    }

    async fn open(&self) -> Result<SendRequest<Body>, UpstreamError> {
        let fail = |source| UpstreamError::Connect {
            authority: self.authority.clone(),
            source,
        };
        let address = (
            self.authority.host().trim_matches(['[', ']']),
            self.authority.port_u16().unwrap_or(80),
        );
        let stream = tokio::time::timeout(self.connect, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 4)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let (sender, connection) =
            builder
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|source| UpstreamError::Call {
                    authority: self.authority.clone(),
                    source,
                })?;
        let authority = self.authority.clone();
        // Ends when the last sender is dropped.
        TokioExecutor::new().execute(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%authority, %error, "connection to an upstream ended");
            }
        });
        Ok(sender)
    }
}

/// All upstreams by the services that they serve.
pub(crate) struct Upstreams {
    /// Longest prefix first.
    routes: Vec<(String, usize)>,
    pub(crate) all: Vec<Upstream>,
}

impl Upstreams {
    pub(crate) fn new(routes: &[Route], limits: &Limits) -> Result<Self, UpstreamError> {
        let mut all: Vec<Upstream> = Vec::new();
        let mut table = Vec::new();
        for route in routes {
            let upstream = Upstream::new(&route.uri, limits)?;
            let index = all
                .iter()
                .position(|other| other.authority == upstream.authority)
                .unwrap_or(all.len());
            if index == all.len() {
                all.push(upstream);
            }
            table.push((route.service.clone(), index));
        }
        table.sort_by_key(|(service, _)| std::cmp::Reverse(service.len()));
        Ok(Self { routes: table, all })
    }

    /// The upstream of a service: by its name, by a package around it, or the default.
    pub(crate) fn of(&self, service: &str) -> Option<&Upstream> {
        let fits = |prefix: &str| {
            prefix.is_empty()
                || service
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.routes
            .iter()
            .find(|(prefix, _)| fits(prefix))
            .and_then(|(_, index)| self.all.get(*index))
    }
}
