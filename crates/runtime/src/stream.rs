//! Watch streams: a bounded queue from an observer to a gRPC stream.
//!
//! The sender never waits for a slow reader. When the queue is full the stream is cut off with `WATCH_OVERRUN`
//! after what it holds, and the client resumes with its last token. A draining server ends every stream with
//! `SHUTTING_DOWN`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use parking_lot::Mutex;
use steading_api::{error::RpcError, types::v1::ErrorReason};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Messages that a stream may be behind: some seconds of a busy cluster, under a MiB of the usual messages.
pub const DEFAULT_CAPACITY: usize = 1024;

/// The stream is over: the client went away, the queue was full, or the server drains. Stop sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is over")]
pub struct Closed;

/// The writing end.
#[derive(Debug)]
pub struct Sender<T> {
    queue: Option<mpsc::Sender<T>>,
    last_word: Arc<Mutex<Option<RpcError>>>,
}

/// The reading end: what a streaming handler returns.
#[derive(Debug)]
pub struct WatchStream<T> {
    queue: mpsc::Receiver<T>,
    last_word: Arc<Mutex<Option<RpcError>>>,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ended: bool,
}

/// A queue of `capacity` messages that ends when `drain` is cancelled (see [`crate::CallContext::drain`]).
pub fn bounded<T>(capacity: usize, drain: CancellationToken) -> (Sender<T>, WatchStream<T>) {
    let (sender, queue) = mpsc::channel(capacity.max(1));
    let last_word = Arc::new(Mutex::new(None));
    let stream = WatchStream {
        queue,
        last_word: Arc::clone(&last_word),
        drain: Some(Box::pin(drain.cancelled_owned())),
        ended: false,
    };
    (
        Sender {
            queue: Some(sender),
            last_word,
        },
        stream,
    )
}

impl<T> Sender<T> {
    /// Queues a message without waiting.
    ///
    /// # Errors
    /// If the stream is over; also when this message found the queue full.
    pub fn send(&mut self, message: T) -> Result<(), Closed> {
        let queue = self.queue.as_ref().ok_or(Closed)?;
        match queue.try_send(message) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Closed),
            Err(mpsc::error::TrySendError::Full(_)) => {
                let text = "the reader was too slow; resume with the last token";
                self.end(RpcError::new(ErrorReason::WatchOverrun, text));
                Err(Closed)
            }
        }
    }

    /// Queues a message, waiting for room: for the first listing, which is as long as the collection.
    ///
    /// # Errors
    /// If the stream is over.
    pub async fn send_waiting(&mut self, message: T) -> Result<(), Closed> {
        let queue = self.queue.as_ref().ok_or(Closed)?;
        queue.send(message).await.map_err(|_| Closed)
    }

    /// Ends the stream with an error, after what is queued.
    pub fn end(&mut self, error: RpcError) {
        self.last_word.lock().get_or_insert(error);
        self.queue = None;
    }

    /// Waits until the reader is gone.
    pub async fn closed(&self) {
        if let Some(queue) = &self.queue {
            queue.closed().await;
        }
    }
}

impl<T> Stream for WatchStream<T> {
    type Item = Result<T, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.queue.poll_recv(cx) {
            Poll::Ready(Some(message)) => return Poll::Ready(Some(Ok(message))),
            Poll::Ready(None) => {
                self.ended = true;
                return Poll::Ready(self.last_word.lock().take().map(|error| Err(error.into())));
            }
            Poll::Pending => {}
        }
        let draining = self
            .drain
            .as_mut()
            .is_some_and(|drain| drain.as_mut().poll(cx).is_ready());
        if !draining {
            return Poll::Pending;
        }
        self.ended = true;
        self.queue.close();
        Poll::Ready(Some(Err(shutting_down().into())))
    }
}

/// The last word of a stream of a draining server.
pub(crate) fn shutting_down() -> RpcError {
    RpcError::new(
        ErrorReason::ShuttingDown,
        "the service is draining; resume on another replica",
    )
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use steading_api::convert::reason_of;

    use super::*;

    #[tokio::test]
    async fn a_slow_reader_gets_what_is_queued_and_then_the_overrun() {
        let (mut sender, mut stream) = bounded(2, CancellationToken::new());
        assert_eq!(
            (sender.send(1), sender.send(2), sender.send(3), sender.send(4)),
            (Ok(()), Ok(()), Err(Closed), Err(Closed))
        );
        assert_eq!(stream.next().await.and_then(Result::ok), Some(1));
        assert_eq!(stream.next().await.and_then(Result::ok), Some(2));
        let end = stream.next().await.and_then(Result::err).expect("an error");
        assert_eq!(reason_of(&end), Some(ErrorReason::WatchOverrun));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_drain_ends_the_stream_after_what_is_queued() {
        let drain = CancellationToken::new();
        let (mut sender, mut stream) = bounded(2, drain.clone());
        assert_eq!(sender.send(1), Ok(()));
        drain.cancel();
        assert_eq!(stream.next().await.and_then(Result::ok), Some(1));
        let end = stream.next().await.and_then(Result::err).expect("an error");
        assert_eq!(reason_of(&end), Some(ErrorReason::ShuttingDown));
        assert_eq!(sender.send(2), Err(Closed));
    }

    #[tokio::test]
    async fn the_sender_learns_that_the_reader_is_gone() {
        let (mut sender, stream) = bounded(2, CancellationToken::new());
        drop(stream);
        sender.closed().await;
        assert_eq!(sender.send(1), Err(Closed));
    }

    #[tokio::test]
    async fn a_sender_that_goes_ends_the_stream_in_peace() {
        let (sender, mut stream) = bounded::<u8>(2, CancellationToken::new());
        drop(sender);
        assert!(stream.next().await.is_none());
    }
}
