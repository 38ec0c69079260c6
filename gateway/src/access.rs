//! The access log, written when a request has ended, one event of the target `access` at level DEBUG.
//!
//! A log filter with `access=debug` turns it on, also while the process runs; without it a request costs one check.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BoxError};

/// Longest part of a path or user agent that is logged.
const LONGEST: usize = 512;

/// What is known of a request before it is served.
pub(crate) struct Entry {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) request_id: HeaderValue,
    pub(crate) address: IpAddr,
    pub(crate) agent: Option<HeaderValue>,
    pub(crate) started: Instant,
}

/// Whether anybody reads the log.
pub(crate) fn is_wanted() -> bool {
    tracing::enabled!(target: "access", tracing::Level::DEBUG)
}

/// Tells of the request when the response's body has ended, or is dropped because its client has gone.
pub(crate) fn log(entry: Entry, route: String, response: Response<Body>) -> Response<Body> {
    let (status, grpc) = (response.status(), grpc_status(response.headers()));
    response.map(|body| {
        Body::Stream(Box::pin(Logged {
            body,
            entry,
            route,
            status,
            grpc,
            bytes: 0,
            ended: false,
        }))
    })
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A body that counts what is sent of it.
struct Logged {
    body: Body,
    entry: Entry,
    route: String,
    status: StatusCode,
    grpc: Option<u16>,
    bytes: u64,
    ended: bool,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            None => this.ended = true,
            Some(Ok(frame)) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.grpc = frame.trailers_ref().and_then(grpc_status).or(this.grpc);
            }
            Some(Err(_)) => {}
        }
        // Who takes the last piece does not always ask whether there is another.
        this.ended |= this.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let text = |value: &HeaderValue| {
            value
                .to_str()
                .unwrap_or_default()
                .chars()
                .take(LONGEST)
                .collect::<String>()
        };
        tracing::debug!(
            target: "access",
            method = %self.entry.method,
            path = self.entry.path.chars().take(LONGEST).collect::<String>(),
            route = self.route,
            status = self.status.as_u16(),
            grpc_status = self.grpc,
            bytes = self.bytes,
            micros = u64::try_from(self.entry.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            complete = self.ended || self.body.is_end_stream(),
            request_id = text(&self.entry.request_id),
            client = %self.entry.address,
            user_agent = self.entry.agent.as_ref().map(text),
            "request"
        );
    }
}
