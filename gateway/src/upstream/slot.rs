//! One connection of an upstream.

use std::time::Instant;

use hyper::client::conn::http2::SendRequest;

use crate::body::Body;
use crate::retry;

/// One connection, or the trace of the last attempts at it.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) sender: Option<SendRequest<Body>>,
    /// The epoch of the certificates when it was made.
    pub(super) epoch: u64,
    /// When the last attempt failed, and how many have in a row.
    pub(super) failed: Option<(Instant, u32)>,
}

impl Slot {
    /// The connection, if it can take a call.
    pub(super) fn usable(&self, epoch: u64) -> Option<&SendRequest<Body>> {
        let sender = self.sender.as_ref()?;
        (!sender.is_closed() && self.epoch == epoch).then_some(sender)
    }

    /// Whether the next attempt is still some time away.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.failed
            .is_some_and(|(at, failures)| now.saturating_duration_since(at) < retry::rest(failures))
    }
}
