//! A native reply on its way: it ends with a status of its own whatever happens to the service.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::dialect::{code_in, status};
use crate::code::Code;

/// Hears how a reply ended.
pub(super) type OnEnd = Box<dyn FnOnce(Code) + Send>;

/// A service's reply, which a deadline, a drain or the service's death ends with trailers instead of a reset.
pub(super) struct Passing {
    body: Incoming,
    until: Pin<Box<Sleep>>,
    /// Of streams, which would outlast it.
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ended: bool,
    on_end: Option<OnEnd>,
}

impl Passing {
    pub(super) fn new(
        body: Incoming,
        until: Instant,
        drain: Option<WaitForCancellationFutureOwned>,
        on_end: Option<OnEnd>,
    ) -> Self {
        Self {
            on_end,
            // The status came in the head, and nothing follows.
            ended: body.is_end_stream(),
            body,
            until: Box::pin(tokio::time::sleep_until(until)),
            drain: drain.map(Box::pin),
        }
    }

    fn last(&mut self, code: Code, message: &str) -> Frame<Bytes> {
        let mut trailers = HeaderMap::new();
        status(&mut trailers, code, message);
        self.end(code);
        Frame::trailers(trailers)
    }

    fn end(&mut self, code: Code) {
        self.ended = true;
        if let Some(on_end) = self.on_end.take() {
            on_end(code);
        }
    }
}

impl Drop for Passing {
    /// Before its end: the client has gone.
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.end(code_in(trailers).unwrap_or(Code::Unknown));
                }
                frame
            }
            Poll::Ready(Some(Err(_)) | None) => this.last(Code::Unavailable, "the service broke off its reply"),
            Poll::Pending if this.until.as_mut().poll(cx).is_ready() => {
                this.last(Code::DeadlineExceeded, "the deadline has passed")
            }
            Poll::Pending => match this.drain.as_mut().map(|drain| drain.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => this.last(Code::Unavailable, "the gateway is shutting down"),
                _ => return Poll::Pending,
            },
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended {
            SizeHint::with_exact(0)
        } else {
            SizeHint::default()
        }
    }
}
