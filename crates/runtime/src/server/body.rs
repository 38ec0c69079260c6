//! The body of an answer on its way out: watched to its end, and ended when its time is up.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use steading_api::{error::RpcError, types::v1::ErrorReason};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};

/// Called once with the code that the call ended with.
pub(crate) type OnEnd = Box<dyn FnOnce(Code) + Send>;

/// Why a body is ended from outside, and with what.
pub(crate) struct Cutoff {
    when: Pin<Box<dyn Future<Output = ()> + Send>>,
    error: RpcError,
}

impl Cutoff {
    /// Ends a stream that has nothing ready once the server drains.
    pub(crate) fn drain(drain: WaitForCancellationFutureOwned) -> Self {
        Self {
            when: Box::pin(drain),
            error: RpcError::new(
                ErrorReason::ShuttingDown,
                "the service is draining; resume on another replica",
            ),
        }
    }

    /// Ends a stream at the deadline that its client set.
    pub(crate) fn deadline(sleep: Sleep, error: RpcError) -> Self {
        Self {
            when: Box::pin(sleep),
            error,
        }
    }
}

/// A body that tells its end and can be cut off with trailers.
pub(crate) struct CallBody {
    inner: AxumBody,
    cutoffs: Vec<Cutoff>,
    on_end: Option<OnEnd>,
    /// The code if there are no trailers: what the headers said, or `UNKNOWN` as the protocol wants.
    code: Option<Code>,
    ended: bool,
}

impl CallBody {
    pub(crate) fn new(inner: AxumBody, headers_code: Option<Code>) -> Self {
        Self {
            inner,
            cutoffs: Vec::new(),
            on_end: None,
            code: headers_code,
            ended: false,
        }
    }

    pub(crate) fn cutoff(mut self, cutoff: Cutoff) -> Self {
        self.cutoffs.push(cutoff);
        self
    }

    pub(crate) fn on_end(mut self, on_end: OnEnd) -> Self {
        self.on_end = Some(on_end);
        self
    }

    fn tell_end(&mut self, code: Code) {
        if let Some(on_end) = self.on_end.take() {
            on_end(code);
        }
    }

    fn cut(&mut self, cx: &mut Context<'_>) -> Option<HeaderMap> {
        let due = self
            .cutoffs
            .iter_mut()
            .find_map(|c| c.when.as_mut().poll(cx).is_ready().then(|| c.error.clone()))?;
        self.ended = true;
        self.tell_end(due.code());
        let status: Status = due.into();
        Some(
            status
                .into_http::<()>()
                .headers()
                .iter()
                .filter(|(n, _)| n.as_str().starts_with("grpc-"))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect(),
        )
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending()
            && let Some(trailers) = self.cut(cx)
        {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = code_in(trailers).unwrap_or(Code::Unknown);
                    self.tell_end(code);
                }
            }
            Some(Err(_)) => self.tell_end(Code::Internal),
            None => {
                self.ended = true;
                let code = self.code.unwrap_or(Code::Unknown);
                self.tell_end(code);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for CallBody {
    fn drop(&mut self) {
        // Not read to the end: either there was nothing to read, or the client went away.
        let code = self
            .code
            .filter(|_| self.inner.is_end_stream())
            .unwrap_or(Code::Cancelled);
        self.tell_end(code);
    }
}

/// The code in headers or trailers.
pub(crate) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}
