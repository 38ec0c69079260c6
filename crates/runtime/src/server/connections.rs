//! Accepting, serving and draining HTTP/2 connections.
//!
//! Everything that a connection starts is tied to one token and one tracker, so that a drain can wait for it and a
//! dropped server leaves nothing behind.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use http::Request;
use hyper::{body::Incoming, rt::Executor, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::{Service, ServiceExt};

use super::config::Limits;

/// Where a call's connection comes from; in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddr(pub SocketAddr);

/// Wait after a failed accept, such as when no file descriptor is left: spinning would make it worse.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of one server.
pub(super) struct Connections {
    limits: Limits,
    go_away: CancellationToken,
    cut_off: CancellationToken,
    tracker: TaskTracker,
    _cut_off_when_dropped: DropGuard,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        let cut_off = CancellationToken::new();
        Self {
            limits,
            go_away: CancellationToken::new(),
            tracker: TaskTracker::new(),
            _cut_off_when_dropped: cut_off.clone().drop_guard(),
            cut_off,
        }
    }

    /// Accepts until `until`, then closes the listener.
    pub(super) async fn accept<S>(&self, listener: TcpListener, service: S, until: impl Future<Output = ()>)
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let mut until = pin!(until);
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                () = &mut until => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = self.serve(stream, peer, service.clone());
                    self.executor().execute(async move {
                        let _slot = slot;
                        connection.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Tells connections to go away and waits for them; returns how many tasks were cut off.
    pub(super) async fn drain(self, deadline: Duration) -> usize {
        self.go_away.cancel();
        self.tracker.close();
        if tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = self.tracker.len();
        self.cut_off.cancel();
        self.tracker.wait().await;
        left
    }

    fn executor(&self) -> Tracked {
        Tracked {
            tracker: self.tracker.clone(),
            cut_off: self.cut_off.clone(),
        }
    }

    fn serve<S>(&self, stream: TcpStream, peer: SocketAddr, service: S) -> impl Future<Output = ()> + Send + use<S>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        // Small messages matter more than full packets.
        let _ = stream.set_nodelay(true);
        let handler = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(peer));
            service.clone().oneshot(request.map(Body::new))
        });
        let mut builder = http2::Builder::new(self.executor());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_per_connection)
            .max_header_list_size(self.limits.metadata_bytes)
            .keep_alive_interval(self.limits.keepalive_interval)
            .keep_alive_timeout(self.limits.keepalive_timeout);
        let connection = builder.serve_connection(TokioIo::new(stream), handler);
        let go_away = self.go_away.clone();
        async move {
            let mut connection = pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = go_away.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
    }
}

/// Runs what hyper starts, until the server is gone.
#[derive(Clone)]
struct Tracked {
    tracker: TaskTracker,
    cut_off: CancellationToken,
}

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        let cut_off = self.cut_off.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = work => {}
                () = cut_off.cancelled() => {}
            }
        });
    }
}
