//! Streams of replies as newline-delimited JSON, server-sent events, or one JSON array.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use steading_transcode::bind::{self, SystemParameters};
use steading_transcode::{Binding, MethodId};
use tokio::time::Instant;

use crate::body::{Body, BoxError};
use crate::code::Code;
use crate::frame::Frames;
use crate::headers;
use crate::problem::Problem;
use crate::rest::{self, Call};
use crate::stack::State;

/// After an error the connection is cut; this is for the last line to leave before that.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// How a stream looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON value a line.
    Lines,
    /// `text/event-stream`.
    Events,
    /// One JSON array.
    Array,
    /// The pieces of a `google.api.HttpBody`, as they are.
    Raw,
}

impl Format {
    /// The first of the formats that `Accept` names; lines if it names none.
    pub(crate) fn of(accept: Option<&HeaderValue>) -> Self {
        let accept = accept
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let known = accept
            .split(',')
            .find_map(|item| match item.split(';').next().unwrap_or_default().trim() {
                "text/event-stream" => Some(Self::Events),
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json-lines" => {
                    Some(Self::Lines)
                }
                "application/json" => Some(Self::Array),
                _ => None,
            });
        known.unwrap_or(Self::Lines)
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Array => "application/json",
            Self::Raw => "application/octet-stream",
        }
    }

    /// One value; `index` counts from zero.
    fn item(self, index: u64, id: Option<&str>, json: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Events => {
                if let Some(id) = id.filter(|id| !id.contains(['\n', '\r', '\0'])) {
                    out.extend_from_slice(b"id: ");
                    out.extend_from_slice(id.as_bytes());
                    out.push(b'\n');
                }
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(json);
                out.extend_from_slice(b"\n\n");
            }
            Self::Array => {
                out.extend_from_slice(if index == 0 { b"[" } else { b",\n" });
                out.extend_from_slice(json);
            }
            Self::Lines => {
                out.extend_from_slice(json);
                out.push(b'\n');
            }
            Self::Raw => out.extend_from_slice(json),
        }
    }

    fn error(self, index: u64, problem: &Problem, out: &mut Vec<u8>) {
        match self {
            Self::Events => {
                out.extend_from_slice(b"event: error\n");
                self.item(index, None, problem.json().as_bytes(), out);
            }
            Self::Raw => {}
            Self::Lines | Self::Array => self.item(index, None, problem.json().as_bytes(), out),
        }
    }

    fn end(self, index: u64) -> &'static [u8] {
        match self {
            Self::Array if index == 0 => b"[]",
            Self::Array => b"]",
            _ => b"",
        }
    }
}

/// Calls a method that streams, and answers as soon as the service does.
pub(crate) async fn serve(
    call: &Call<'_>,
    binding: &Binding,
    system: SystemParameters,
    format: Format,
    request: Request<Body>,
    time: Duration,
    service: &str,
) -> Result<Response<Body>, Problem> {
    let until = Instant::now() + time;
    let reply = tokio::time::timeout_at(until, rest::head(call, request, service)).await;
    let reply = reply.map_err(|_| late(&call.state.config.error_domain))??;
    let raw = bind::raw_response(&call.state.catalog, binding, &[]).is_some();
    let format = if raw { Format::Raw } else { format };
    let mut response = Response::new(Body::Empty);
    headers::returned(reply.headers(), response.headers_mut());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let index = call
        .state
        .catalog
        .bindings()
        .iter()
        .position(|other| std::ptr::eq(other, binding));
    let writer = Writer {
        state: call.state.clone(),
        binding: index.unwrap_or(0),
        system,
        format,
        count: 0,
        resume: resume_field(call.state, binding.method),
    };
    *response.body_mut() = Body::stream(relay(writer, reply.into_body(), until));
    Ok(response)
}

/// The reply's field that a client hands back to go on from there; it becomes the event's id.
fn resume_field(state: &State, method: MethodId) -> Option<u32> {
    let message = state.catalog.schema().message(state.catalog.method(method).output);
    bind::resume_field(message).map(|field| field.number)
}

fn late(domain: &str) -> Problem {
    Problem::new(
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "the deadline has passed",
        domain,
    )
}

struct Writer {
    state: Arc<crate::stack::Shared>,
    binding: usize,
    system: SystemParameters,
    format: Format,
    count: u64,
    resume: Option<u32>,
}

impl Writer {
    fn domain(&self) -> &str {
        &self.state.config.error_domain
    }

    fn message(&mut self, wire: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
        let (catalog, encode) = (&self.state.catalog, &self.state.config.encode);
        let Some(binding) = catalog.bindings().get(self.binding) else {
            return Ok(());
        };
        if self.format == Format::Raw {
            let data = bind::raw_response(catalog, binding, wire).map_or(&[][..], |raw| raw.data);
            self.format.item(self.count, None, data, out);
            return Ok(());
        }
        let mut json = Vec::with_capacity(wire.len() * 2);
        bind::response(catalog, binding, wire, self.system, encode, &mut json).map_err(|error| {
            Problem::new(
                Code::Internal,
                "INTERNAL",
                format!("the service sent a message that cannot be read: {error}"),
                self.domain(),
            )
        })?;
        let id = self
            .resume
            .and_then(|number| match steading_transcode::wire::find(wire, &[number]) {
                Ok(Some(steading_transcode::wire::Raw::Bytes(bytes))) => std::str::from_utf8(bytes).ok(),
                _ => None,
            });
        self.format.item(self.count, id, &json, out);
        self.count += 1;
        Ok(())
    }
}

/// How a stream ended.
enum End {
    /// As it should.
    Whole,
    /// With an error.
    Failed(Problem),
}

impl From<Option<Problem>> for End {
    fn from(problem: Option<Problem>) -> Self {
        problem.map_or(Self::Whole, Self::Failed)
    }
}

/// What arrives next on a stream.
enum Next {
    Frame(Frame<Bytes>),
    Silence,
    Failed(Problem),
}

async fn next(body: &mut Incoming, state: &crate::stack::Shared, until: Instant) -> Next {
    let domain = &state.config.error_domain;
    tokio::select! {
        biased;
        frame = body.frame() => match frame {
            Some(Ok(frame)) => Next::Frame(frame),
            Some(Err(_)) | None => Next::Failed(Problem::new(Code::Unavailable, "PEER_UNAVAILABLE", "the service broke off its stream", domain)),
        },
        () = state.drain.cancelled() => Next::Failed(Problem::new(Code::Unavailable, "SHUTTING_DOWN", "the gateway is shutting down", domain)),
        () = tokio::time::sleep_until(until) => Next::Failed(late(domain)),
        () = tokio::time::sleep(state.config.limits.heartbeat) => Next::Silence,
    }
}

/// The body of a streamed answer. After an error it ends without its proper end, so that no client takes it for whole.
fn relay(
    mut writer: Writer,
    mut body: Incoming,
    until: Instant,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    async_stream::stream! {
        let mut frames = Frames::new(writer.state.config.limits.reply_bytes);
        let end = loop {
            let mut out = Vec::new();
            let ended = match next(&mut body, &writer.state, until).await {
                Next::Silence if writer.format == Format::Events => {
                    out.extend_from_slice(b": keep-alive\n\n");
                    None
                }
                Next::Silence => None,
                Next::Failed(problem) => Some(End::Failed(problem)),
                Next::Frame(frame) => take(&mut writer, &mut frames, frame, &mut out),
            };
            if !out.is_empty() {
                yield Ok(Frame::data(Bytes::from(out)));
            }
            if let Some(end) = ended {
                break end;
            }
        };
        match end {
            End::Whole => {
                let end = writer.format.end(writer.count);
                if !end.is_empty() {
                    yield Ok(Frame::data(Bytes::from_static(end)));
                }
            }
            End::Failed(problem) => {
                let mut out = Vec::new();
                writer.format.error(writer.count, &problem, &mut out);
                yield Ok(Frame::data(Bytes::from(out)));
                tokio::time::sleep(LAST_WORDS).await;
                yield Err(BoxError::from(problem.message));
            }
        }
    }
}

/// Writes the messages that a frame completes; tells how the stream ended if it did.
fn take(writer: &mut Writer, frames: &mut Frames, frame: Frame<Bytes>, out: &mut Vec<u8>) -> Option<End> {
    let data = match frame.into_data() {
        Ok(data) => data,
        Err(frame) => {
            let trailers = frame.into_trailers().unwrap_or_default();
            let problem = Problem::from_trailers(writer.state.catalog.schema(), &trailers, writer.domain());
            let cut_off = || {
                Problem::new(
                    Code::Internal,
                    "INTERNAL",
                    "the service broke off a message",
                    writer.domain(),
                )
            };
            return Some(problem.or_else(|| (!frames.is_empty()).then(cut_off)).into());
        }
    };
    frames.push(&data);
    loop {
        match frames.next() {
            Ok(None) => return None,
            Ok(Some(message)) => {
                if let Err(problem) = writer.message(&message, out) {
                    return Some(End::Failed(problem));
                }
            }
            Err(error) => {
                return Some(End::Failed(Problem::new(
                    Code::Internal,
                    "INTERNAL",
                    error.to_string(),
                    writer.domain(),
                )));
            }
        }
    }
}
