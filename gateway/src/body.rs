//! Bodies of both sides of the gateway.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::room::{NoRoom, Reservation};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A body that is sent.
#[derive(Default)]
pub(crate) enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Known at once.
    Full(Bytes),
    /// The same, counted among what the gateway holds until it is sent.
    Held(
        Bytes,
        #[allow(dead_code, reason = "what it does is to be dropped with the body")] Reservation,
    ),
    /// The messages of a call. Known at once, but sent without their length, as clients of gRPC do: some services hand back all metadata,
    /// and a reply with this length would not be one of HTTP/2.
    Call(Bytes),
    /// Passed on as it comes.
    Incoming(Incoming),
    /// Produced while it is sent.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// A body that is produced while it is sent.
    pub(crate) fn stream<S>(frames: S) -> Self
    where
        S: futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send + 'static,
    {
        Self::Stream(Box::pin(http_body_util::StreamBody::new(frames)))
    }

    /// The same body, which keeps something until it has ended if it is produced while it is sent.
    pub(crate) fn keeping<T>(self, kept: T) -> Self
    where
        T: Send + Unpin + 'static,
    {
        match self {
            Self::Stream(_) | Self::Incoming(_) => Self::Stream(Box::pin(Keeping {
                body: self,
                _kept: kept,
            })),
            known => known,
        }
    }

    /// Somebody else's body.
    pub(crate) fn boxed<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::Stream(Box::pin(body.map_err(Into::into)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) | Self::Call(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Held(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            // The room is given back with the body itself: what was handed out is still being sent.
            Self::Held(bytes, _) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) | Self::Call(bytes) | Self::Held(bytes, _) => bytes.is_empty(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) | Self::Held(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Self::Call(_) => SizeHint::default(),
            Self::Incoming(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// A body and what is dropped with it.
struct Keeping<T> {
    body: Body,
    _kept: T,
}

impl<T: Unpin> HttpBody for Keeping<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request: remembers whether its sender was asked for it.
pub(crate) struct Upload {
    /// `None` once somebody else reads it.
    body: Option<Incoming>,
    asked: bool,
}

impl Upload {
    pub(crate) fn new(body: Incoming) -> Self {
        Self {
            body: Some(body),
            asked: false,
        }
    }

    /// Hands it over to whoever reads it; nothing is left here.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            body: self.body.take(),
            asked: self.asked,
        }
    }

    /// Whether the sender may be sending what nobody reads. One that waits for `100 Continue` sends nothing before it is asked.
    pub(crate) fn is_left(&self, waits_for_continue: bool) -> bool {
        !self.is_end_stream() && (self.asked || !waits_for_continue)
    }

    /// Throws away what still comes, at most `limit` bytes.
    pub(crate) async fn discard(&mut self, limit: u64) {
        let mut seen = 0_u64;
        while let Some(Ok(frame)) = self.frame().await {
            seen = seen.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
            if seen > limit {
                return;
            }
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        this.asked = true;
        match &mut this.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// Why a body could not be taken whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CollectError {
    /// More than the limit.
    #[error("body is larger than the limit")]
    TooLarge,
    /// The bodies of all calls take all the memory that they may.
    #[error("no room for the body")]
    NoRoom,
    /// The sender went away or broke the protocol.
    #[error("body ended early")]
    Broken,
}

impl From<NoRoom> for CollectError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Takes a whole body of at most `limit` bytes, and its trailers.
pub(crate) async fn collect<B>(
    mut body: B,
    limit: usize,
    reserved: &mut Reservation,
) -> Result<(Bytes, Option<http::HeaderMap>), CollectError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(CollectError::TooLarge);
    }
    let (mut first, mut rest, mut trailers) = (Bytes::new(), Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CollectError::Broken)?;
        match frame.into_data() {
            Ok(data) => {
                if first.len() + rest.len() + data.len() > limit {
                    return Err(CollectError::TooLarge);
                }
                reserved.take(data.len())?;
                if first.is_empty() && rest.is_empty() {
                    first = data;
                } else {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                    rest.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    Ok((if rest.is_empty() { first } else { Bytes::from(rest) }, trailers))
}
