//! Replies that their clients stop reading.
//!
//! Over HTTP/2 a client can stop reading one reply while its connection is fine, so no limit of the connection notices.
//! What it does not read it must not hold for as long as a stream may live: after a time without reading, the call to
//! the service is given up, and the reply ends with a reset when the client reads on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::body::{Body, BoxError};
use crate::upstream::RELAYED_WINDOW;

/// The same body, given up when its reader takes nothing for that time. Whole bodies pass as they are: nothing upstream waits for them.
pub(crate) fn limited(body: Body, limit: Duration) -> Body {
    match body {
        Body::Stream(_) | Body::Incoming(_) => Body::Stream(Box::pin(Limited {
            reply: Arc::new(Mutex::new(Reply {
                body: Some(body),
                waits_since: None,
            })),
            limit,
            passed: 0,
            watched: None,
        })),
        known => known,
    }
}

/// A reply, and whether its client has something to take.
struct Reply {
    /// `None` once it was given up.
    body: Option<Body>,
    /// When the client was given something, if it has not asked for more yet.
    waits_since: Option<Instant>,
}

struct Limited {
    reply: Arc<Mutex<Reply>>,
    limit: Duration,
    passed: usize,
    /// Ends the watch when it is dropped.
    watched: Option<oneshot::Sender<()>>,
}

impl Limited {
    /// Small replies are not worth a watch: they fit into the window of the call, and nothing upstream waits for them.
    fn watch(&mut self) {
        if self.watched.is_some() || self.passed < RELAYED_WINDOW as usize {
            return;
        }
        let (sender, ended) = oneshot::channel();
        self.watched = Some(sender);
        TokioExecutor::new().execute(watch(self.reply.clone(), self.limit, ended));
    }
}

/// Gives a reply up when its client takes nothing of it for `limit`.
async fn watch(reply: Arc<Mutex<Reply>>, limit: Duration, mut ended: oneshot::Receiver<()>) {
    let mut wake = Instant::now() + limit;
    loop {
        tokio::select! {
            // The reply has ended.
            _ = &mut ended => return,
            () = tokio::time::sleep_until(wake) => {}
        }
        let now = Instant::now();
        let given_up = {
            let mut reply = reply.lock();
            wake = reply.waits_since.unwrap_or(now) + limit;
            if wake <= now { reply.body.take() } else { None }
        };
        if given_up.is_some() {
            tracing::debug!(
                seconds = limit.as_secs(),
                "a client does not read its reply: the call is given up"
            );
            return;
        }
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = {
            let mut reply = this.reply.lock();
            let Some(body) = &mut reply.body else {
                return Poll::Ready(Some(Err("the reply was not read in time".into())));
            };
            let polled = Pin::new(body).poll_frame(cx);
            reply.waits_since = polled.is_ready().then(Instant::now);
            polled
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            this.passed = this.passed.saturating_add(data.len());
            this.watch();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.reply.lock().body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.reply
            .lock()
            .body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
