//! What every step of a REST call knows.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use steading_transcode::InvalidRequest;

use crate::code::Code;
use crate::generation::Generation;
use crate::problem::Problem;
use crate::rate::Verdict;
use crate::room::Reservation;
use crate::state::State;

/// How much of a refused body is read so that its sender gets to read the answer. Nothing of it is kept; a sender of more is cut off.
pub(super) const DISCARD_BYTES: u64 = 64 << 20;

/// What every step of a REST call knows.
pub(crate) struct Call<'a> {
    pub(crate) state: &'a State,
    pub(crate) generation: &'a Arc<Generation>,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) address: IpAddr,
    /// When the request came; deadlines count from here.
    pub(crate) started: Instant,
    /// The template that the path fits, once it is known.
    pub(crate) template: OnceLock<&'a str>,
    /// What rate limits say, once they were asked.
    pub(crate) verdict: OnceLock<Verdict>,
}

impl Call<'_> {
    pub(crate) fn problem(&self, code: Code, reason: &str, message: impl Into<String>) -> Problem {
        Problem::new(code, reason, message, &self.state.config.error_domain)
    }

    pub(crate) fn invalid(&self, field: &str, description: &str) -> Problem {
        self.refused(&InvalidRequest::new(field, description))
    }

    pub(crate) fn refused(&self, error: &InvalidRequest) -> Problem {
        Problem::invalid(error, &self.state.config.error_domain)
    }

    pub(crate) fn too_late(&self) -> Problem {
        self.problem(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline has passed")
    }

    pub(crate) fn no_room(&self) -> Problem {
        let text = "the gateway is at its limit of buffered bytes";
        Problem::overloaded(text, &self.state.config.error_domain)
    }
}

/// What is to be called, and for how long.
pub(super) struct Ask<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) rpc: &'a steading_transcode::Method,
    /// From when the request came.
    pub(super) time: Duration,
}

/// A reply that is not what the descriptors promise.
pub(crate) fn garbage(call: &Call<'_>, error: &dyn std::error::Error) -> Problem {
    tracing::warn!(%error, "a service sent a reply that cannot be read");
    let text = "the service sent a reply that cannot be read";
    call.problem(Code::Internal, "INTERNAL", text)
        .with_http(http::StatusCode::BAD_GATEWAY)
}

/// Reserved room as the whole of what a call still holds.
pub(super) fn hold(reserved: &mut Reservation, bytes: usize) {
    reserved.clear();
    // It is there already: when there is no room left for it, the next call finds that out.
    let _ = reserved.take(bytes);
}

/// Reads a client's messages and hands them on until the client is done or something is wrong.
pub(crate) type Feed = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;
