//! Calls to other services.
//!
//! A [`PeerChannel`] connects when it is first used and again whenever it must, carries on what is known about the call
//! that it is part of (deadline, trace, request id, the caller's credential), and answers what cannot be sent as an
//! error with a reason. Generated clients take it as it is: `CatalogServiceClient::new(channel.clone())`.
//!
//! **Deadlines.** A unary call gets the earliest of its own (`Request::set_timeout`), what is left of the incoming
//! call's, and the channel's default. Methods whose name begins with `Watch` are streams by contract: they get a
//! deadline only if the request sets one, and must answer with headers within the default.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use steading_api::{error::RpcError, types::v1::ErrorReason};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint, Uri},
};
use tower::Service;

use crate::{context::CallContext, deadline, server::layers::request_id::REQUEST_ID, tasks::Chain, trace};

use self::body::TimedBody;

mod body;

/// How a channel behaves. The defaults hold between all services.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// Who calls; the user agent.
    pub user_agent: String,
    /// Deadline of a unary call that nobody set an earlier one for.
    pub deadline: Duration,
    /// Time for a connection.
    pub connect_timeout: Duration,
    /// Unary calls, and openings of streams, under way at once; more wait within their deadline.
    pub concurrency: usize,
    /// Time between keepalive pings.
    pub keepalive_interval: Duration,
    /// Time in which a ping must be answered before the connection is given up.
    pub keepalive_timeout: Duration,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            user_agent: "steading".to_owned(),
            deadline: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(3),
            concurrency: 128,
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

impl ChannelConfig {
    /// The defaults for calls by `user_agent`.
    pub fn new(user_agent: impl Into<String>) -> Self {
        Self {
            user_agent: user_agent.into(),
            ..Self::default()
        }
    }
}

/// The address of a peer is not usable.
#[derive(Debug, thiserror::Error)]
#[error("{uri:?} is not the address of a service, such as http://127.0.0.1:7443")]
pub struct AddressError {
    uri: String,
    #[source]
    source: tonic::transport::Error,
}

/// A channel to one service. Cheap to clone; clones share the connection and its bounds.
#[derive(Debug, Clone)]
pub struct PeerChannel {
    inner: Channel,
    peer: Arc<str>,
    deadline: Duration,
    slots: Arc<Semaphore>,
}

/// A channel to the service at `uri`. Nothing is connected yet.
///
/// # Errors
/// If `uri` is not an address.
pub fn connect_lazy(uri: &str, config: &ChannelConfig) -> Result<PeerChannel, AddressError> {
    let error = |source| AddressError {
        uri: uri.to_owned(),
        source,
    };
    let endpoint = Endpoint::from_shared(uri.to_owned())
        .and_then(|endpoint| endpoint.user_agent(config.user_agent.clone()))
        .map_err(error)?
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .tcp_nodelay(true);
    Ok(PeerChannel {
        inner: endpoint.connect_lazy(),
        peer: peer_name(endpoint.uri()).into(),
        deadline: config.deadline,
        slots: Arc::new(Semaphore::new(config.concurrency)),
    })
}

fn peer_name(uri: &Uri) -> String {
    uri.authority().map_or_else(|| uri.to_string(), ToString::to_string)
}

/// When a call must have been answered.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    /// The headers; of a unary call also the rest.
    head: Instant,
    /// The end of the answer, and what the peer is told; `None` for a stream without one.
    end: Option<Instant>,
}

impl Deadlines {
    fn of(
        method_path: &str,
        own: Option<Duration>,
        incoming: Option<Instant>,
        default: Duration,
        now: Instant,
    ) -> Self {
        let own = own.and_then(|own| now.checked_add(own));
        if is_stream(method_path) {
            let head = own.map_or(now + default, |own| own.min(now + default));
            return Self { head, end: own };
        }
        let end = [own, incoming]
            .into_iter()
            .flatten()
            .fold(own.unwrap_or(now + default), Instant::min);
        Self {
            head: end,
            end: Some(end),
        }
    }
}

/// By contract all server streams are called `Watch…`, and nothing else is.
fn is_stream(path: &str) -> bool {
    path.rsplit('/')
        .next()
        .is_some_and(|method| method.starts_with("Watch") || method == "ServerReflectionInfo")
}

impl PeerChannel {
    fn prepare(&self, request: &mut Request<Body>) -> Deadlines {
        // What the caller says by hand goes before what the task knows.
        let call = request
            .extensions()
            .get::<CallContext>()
            .cloned()
            .or_else(CallContext::current);
        let own = deadline::parse(request.headers());
        let incoming = call.as_ref().and_then(CallContext::deadline);
        let deadlines = Deadlines::of(request.uri().path(), own, incoming, self.deadline, Instant::now());
        let headers = request.headers_mut();
        if let Some(end) = deadlines.end {
            headers.insert(
                deadline::GRPC_TIMEOUT,
                deadline::format(end.saturating_duration_since(Instant::now())),
            );
        }
        trace::inject(headers, call.as_ref().map(CallContext::trace));
        if let Some(call) = call {
            if let Ok(id) = HeaderValue::try_from(call.request_id()) {
                headers.entry(REQUEST_ID).or_insert(id);
            }
            if let Some(credential) = call.credential() {
                headers.entry(AUTHORIZATION).or_insert(credential.clone());
            }
        }
        deadlines
    }

    async fn send(mut self, request: Request<Body>, deadlines: Deadlines) -> Response<Body> {
        let sent = timeout_at(deadlines.head, async {
            let _slot = Arc::clone(&self.slots).acquire_owned().await;
            std::future::poll_fn(|cx| self.inner.poll_ready(cx)).await?;
            self.inner.call(request).await
        });
        match sent.await {
            Ok(Ok(response)) => match deadlines.end {
                Some(end) => response.map(|body| Body::new(TimedBody::new(body, sleep_until(end), self.exceeded()))),
                None => response,
            },
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, error = %Chain(&error), "peer cannot be reached");
                let text = format!("{} cannot be reached", self.peer);
                Status::from(RpcError::new(ErrorReason::PeerUnavailable, text)).into_http()
            }
            Err(_) => Status::from(self.exceeded()).into_http(),
        }
    }

    fn exceeded(&self) -> RpcError {
        RpcError::new(
            ErrorReason::DeadlineExceeded,
            format!("{} did not answer within the deadline", self.peer),
        )
    }
}

impl Service<Request<Body>> for PeerChannel {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The bound and the connection are waited for in the call, within its deadline.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let deadlines = self.prepare(&mut request);
        let channel = self.clone();
        Box::pin(async move { Ok(channel.send(request, deadlines).await) })
    }
}

#[cfg(test)]
mod tests;
