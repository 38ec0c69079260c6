//! The listening side: connections, their bounds, and their end.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::sanity;
use crate::stack;
use crate::state::State;

/// A failing accept (no file descriptors left, say) is tried again after this.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// Window of a call and a connection; uploads are small, so this is about fairness between calls.
const WINDOW: u32 = 1 << 20;

/// Serves connections until `cancel` is cancelled, then lets them finish.
pub(crate) async fn run(listener: TcpListener, state: State, cancel: CancellationToken) {
    let limits = &state.config.limits;
    let builder = Arc::new(builder(limits));
    let room = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit,
            () = cancel.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (builder, state, cancel) = (builder.clone(), state.clone(), cancel.clone());
                connections.spawn(async move {
                    connection(stream, peer.ip(), &builder, state, cancel).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    state.drain.cancel();
    let left = tokio::time::timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    if left.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections cut off at the end of the drain"
        );
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    // What is read is judged afterwards, so that a target that is too long and headers that are too large are told apart.
    let read = limits.header_bytes.saturating_add(sanity::TARGET_BYTES);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.receive)
        .max_buf_size(usize::try_from(read).unwrap_or(usize::MAX))
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(read)
        .max_concurrent_streams(limits.concurrent_streams)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .keep_alive_interval(Some(limits.receive))
        .keep_alive_timeout(limits.receive);
    builder
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    builder: &Builder<TokioExecutor>,
    state: State,
    cancel: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set nodelay");
    }
    let limits = &state.config.limits;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.send));
    let stream = Box::pin(stream);
    let Some(identity) = &state.identity else {
        return requests(stream, address, builder, state, cancel).await;
    };
    let acceptor = TlsAcceptor::from(identity.load_full());
    match time::timeout(limits.receive, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, address, builder, state, cancel).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client could not agree on TLS"),
        Err(_) => tracing::debug!("a client did not agree on TLS in time"),
    }
}

/// Serves what comes on a connection until it ends.
async fn requests<T>(
    stream: T,
    address: IpAddr,
    builder: &Builder<TokioExecutor>,
    state: State,
    cancel: CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let first = time::sleep(state.config.limits.receive);
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let asked = asked.clone();
        service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            stack::serve(state.clone(), address, request)
        })
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (mut first, mut settled) = (pin!(first), false);
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            // One that never asks for anything must not hold a place: not every protocol has a time of its own for its first bytes.
            () = first.as_mut(), if !settled => {
                settled = asked.load(Ordering::Relaxed);
                if !settled {
                    return;
                }
            }
            () = cancel.cancelled() => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
