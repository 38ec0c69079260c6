//! The body of an answer that must be over by a deadline.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use steading_api::error::RpcError;
use tokio::time::Sleep;
use tonic::{Status, body::Body};

/// Passes a body on until its time is up, and then fails.
pub(super) struct TimedBody {
    inner: Body,
    until: Pin<Box<Sleep>>,
    error: Option<RpcError>,
}

impl TimedBody {
    pub(super) fn new(inner: Body, until: Sleep, error: RpcError) -> Self {
        Self {
            inner,
            until: Box::pin(until),
            error: Some(error),
        }
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.error.is_none() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending() && self.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.error.take().map(|error| Err(error.into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
