//! Making one HTTP/2 connection to an upstream: resolve, connect, TLS, handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::Authority;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::{Executor as _, Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::UpstreamError;
use crate::body::Body;

/// A dead peer is noticed after twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The TLS of all upstreams; new connections take what is newest.
#[derive(Debug)]
pub(super) struct Trust {
    config: ArcSwap<ClientConfig>,
    /// Grows with each replacement, so that connections that were made before are known.
    epoch: AtomicU64,
}

impl Trust {
    pub(super) fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config: ArcSwap::new(config),
            epoch: AtomicU64::new(0),
        }
    }

    pub(super) fn replace(&self, config: Arc<ClientConfig>) {
        self.config.store(config);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// To resolve, connect and shake hands.
    pub(super) time: Duration,
    /// Bytes of a reply's headers or trailers.
    pub(super) header_bytes: u32,
}

/// How many bytes an upstream may send before the gateway has read some of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    /// Of one call.
    pub(super) stream: u32,
    /// Of all calls of a connection.
    pub(super) connection: u32,
}

/// Opens a connection. `turn` tells which of several addresses is tried first, so that connections spread over them.
pub(super) async fn open(
    authority: &Authority,
    trust: Option<&Trust>,
    turn: usize,
    bounds: Bounds,
    windows: Windows,
) -> Result<SendRequest<Body>, UpstreamError> {
    let fail = |source| UpstreamError::Connect {
        authority: authority.clone(),
        source,
    };
    let opened = tokio::time::timeout(bounds.time, async {
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(if trust.is_some() { 443 } else { 80 });
        let stream = connect(host, port, turn).await.map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        let Some(trust) = trust else {
            return handshake(authority, bounds, windows, TokioIo::new(stream)).await;
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| fail(io::Error::other(error)))?;
        let connector = TlsConnector::from(trust.config.load_full());
        let stream = connector.connect(name, stream).await.map_err(fail)?;
        // One that does not know ALPN may speak HTTP/2 all the same; one that chose otherwise does not.
        if stream.get_ref().1.alpn_protocol().is_some_and(|chosen| chosen != b"h2") {
            return Err(fail(io::Error::other("it does not speak HTTP/2")));
        }
        handshake(authority, bounds, windows, TokioIo::new(stream)).await
    });
    opened
        .await
        .unwrap_or_else(|_| Err(fail(io::ErrorKind::TimedOut.into())))
}

async fn connect(host: &str, port: u16, turn: usize) -> io::Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let first = turn.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(first);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn handshake<T>(
    authority: &Authority,
    bounds: Bounds,
    windows: Windows,
    io: T,
) -> Result<SendRequest<Body>, UpstreamError>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_header_list_size(bounds.header_bytes)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let shaken = builder.handshake(io).await;
    let (sender, connection) = shaken.map_err(|source| UpstreamError::Call {
        authority: authority.clone(),
        source,
    })?;
    let authority = authority.clone();
    // Ends when the last sender is dropped.
    TokioExecutor::new().execute(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%authority, %error, "connection to an upstream ended");
        }
    });
    Ok(sender)
}
