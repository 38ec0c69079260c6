//! Streams of replies, relayed one by one.

mod format;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use steading_transcode::bind::{self, SystemParameters};
use steading_transcode::wire::{self, Raw};
use steading_transcode::{Binding, Catalog, MethodId};
use tokio::time::Instant;

use crate::body::{Body, BoxError};
use crate::code::Code;
use crate::frame::{FrameError, Frames};
use crate::generation::Generation;
use crate::problem::Problem;
use crate::rest::{self, Call, Feed};
use crate::state::State;
use crate::upstream::Pace;
use crate::{headers, pace};

pub(crate) use format::Format;

/// After an error the connection is cut; this is for the last line to leave before that.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// Calls a method that streams, and answers as soon as the service does. `feed`, where there is one, is what the client still sends.
pub(crate) async fn serve(
    call: &Call<'_>,
    binding: &Binding,
    system: SystemParameters,
    format: Format,
    (request, mut feed): (Request<Body>, Option<Feed>),
    time: Duration,
    service: &str,
) -> Result<Response<Body>, Problem> {
    let until = Instant::now() + time;
    let catalog = &call.generation.catalog;
    let reply = {
        let head = tokio::time::timeout_at(until, rest::head(call, request, service, Pace::Client));
        let mut head = std::pin::pin!(head);
        loop {
            tokio::select! {
                reply = &mut head => break reply,
                fed = fed(&mut feed) => fed?,
            }
        }
    };
    let (reply, ticket) = reply.map_err(|_| call.too_late())??;
    let raw = bind::raw_response(catalog, binding, &[]).is_some();
    let mut response = Response::new(Body::Empty);
    headers::returned(reply.headers(), response.headers_mut());
    let mut writer = Writer {
        state: call.state.clone(),
        generation: call.generation.clone(),
        binding: index_of(call, binding),
        system,
        format: if raw { Format::Raw } else { format },
        count: 0,
        resume: resume_field(catalog, binding.method),
    };
    let reply_is_over = reply.headers().contains_key("grpc-status");
    let mut relay = Relay {
        frames: Frames::new(call.state.config.limits.reply_bytes, call.state.room.reserve()),
        body: reply.into_body(),
        feed,
        until,
    };
    let mut content_type = HeaderValue::from_static(writer.format.content_type());
    // A service that has nothing to say may put its success where an error would stand, and send no trailers.
    let mut first = reply_is_over.then(|| Step {
        end: Some(End::Whole),
        ..Step::default()
    });
    if raw && first.is_none() {
        // The first piece says what all are.
        let step = relay.next_step(&mut writer).await;
        match step {
            Step {
                end: Some(End::Failed(problem)),
                ref out,
                ..
            } if out.is_empty() => return Err(problem),
            step => {
                if let Some(kind) = &step.content_type {
                    content_type = headers::content_type(kind);
                }
                first = Some(step);
            }
        }
    }
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let body = Body::stream(frames(writer, relay, first)).keeping(ticket);
    *response.body_mut() = pace::limited(body, call.state.config.limits.send);
    Ok(response)
}

/// Waits for the end of a feed; for ever if it has ended, or there is none.
async fn fed(feed: &mut Option<Feed>) -> Result<(), Problem> {
    let Some(running) = feed else {
        return std::future::pending().await;
    };
    let fed = running.await;
    *feed = None;
    fed
}

/// A binding as a number, for what outlives the call.
pub(crate) fn index_of(call: &Call<'_>, binding: &Binding) -> usize {
    let bindings = call.generation.catalog.bindings();
    bindings
        .iter()
        .position(|other| std::ptr::eq(other, binding))
        .unwrap_or(0)
}

/// The reply's field that a client hands back to go on from there; it becomes the event's id.
fn resume_field(catalog: &Catalog, method: MethodId) -> Option<u32> {
    let message = catalog.schema().message(catalog.method(method).output);
    bind::resume_field(message).map(|field| field.number)
}

/// Turns messages into what is sent.
struct Writer {
    state: State,
    generation: Arc<Generation>,
    binding: usize,
    system: SystemParameters,
    format: Format,
    count: u64,
    resume: Option<u32>,
}

impl Writer {
    fn problem(&self, code: Code, reason: &str, message: impl Into<String>) -> Problem {
        Problem::new(code, reason, message, &self.state.config.error_domain)
    }

    fn broken(&self, error: FrameError) -> Problem {
        match error {
            FrameError::NoRoom => Problem::overloaded(&error.to_string(), &self.state.config.error_domain),
            _ => self.problem(Code::Internal, "INTERNAL", error.to_string()),
        }
    }

    /// Appends what a message becomes to `step`.
    fn message(&mut self, wire: &[u8], step: &mut Step) -> Result<(), Problem> {
        let (catalog, encode) = (&self.generation.catalog, &self.state.config.encode);
        let Some(binding) = catalog.bindings().get(self.binding) else {
            return Ok(());
        };
        if self.format == Format::Raw {
            if let Some(raw) = bind::raw_response(catalog, binding, wire) {
                step.content_type.get_or_insert_with(|| raw.content_type.to_owned());
                self.format.item(self.count, None, raw.data, &mut step.out);
            }
            return Ok(());
        }
        let mut json = Vec::with_capacity(wire.len() * 2);
        bind::response(catalog, binding, wire, self.system, encode, &mut json).map_err(|error| {
            let text = format!("the service sent a message that cannot be read: {error}");
            self.problem(Code::Internal, "INTERNAL", text)
        })?;
        let id = self.resume.and_then(|number| match wire::find(wire, &[number]) {
            Ok(Some(Raw::Bytes(bytes))) => std::str::from_utf8(bytes).ok(),
            _ => None,
        });
        self.format.item(self.count, id, &json, &mut step.out);
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

/// What one thing that happened on a stream means to the client.
#[derive(Default)]
struct Step {
    out: Vec<u8>,
    end: Option<End>,
    /// Of the first raw piece in it.
    content_type: Option<String>,
}

/// What a stream consists of while it lasts.
struct Relay {
    frames: Frames,
    body: Incoming,
    feed: Option<Feed>,
    until: Instant,
}

impl Relay {
    /// Waits for the next thing that means something to the client, or for silence.
    async fn next_step(&mut self, writer: &mut Writer) -> Step {
        let mut step = Step::default();
        let state = writer.state.clone();
        let failed = |problem| Some(End::Failed(problem));
        tokio::select! {
            biased;
            frame = self.body.frame() => match frame {
                Some(Ok(frame)) => step.end = self.take(writer, frame, &mut step),
                Some(Err(_)) | None => {
                    step.end = failed(writer.problem(Code::Unavailable, "PEER_UNAVAILABLE", "the service broke off its stream"));
                }
            },
            fed = fed(&mut self.feed) => step.end = fed.err().map(End::Failed),
            () = state.drain.cancelled() => {
                step.end = failed(writer.problem(Code::Unavailable, "SHUTTING_DOWN", "the gateway is shutting down"));
            }
            () = tokio::time::sleep_until(self.until) => {
                step.end = failed(writer.problem(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "the deadline has passed"));
            }
            () = tokio::time::sleep(state.config.limits.heartbeat) => {
                if writer.format == Format::Events {
                    step.out.extend_from_slice(b": keep-alive\n\n");
                }
            }
        }
        step
    }

    /// Writes the messages that a frame completes; tells how the stream ended if it did.
    fn take(&mut self, writer: &mut Writer, frame: Frame<Bytes>, step: &mut Step) -> Option<End> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let domain = &writer.state.config.error_domain;
                let problem = Problem::from_trailers(writer.generation.catalog.schema(), &trailers, domain);
                let cut_off = || writer.problem(Code::Internal, "INTERNAL", "the service broke off a message");
                return Some(problem.or_else(|| (!self.frames.is_empty()).then(cut_off)).into());
            }
        };
        if let Err(error) = self.frames.push(&data) {
            return Some(End::Failed(writer.broken(error)));
        }
        loop {
            match self.frames.next() {
                Ok(None) => return None,
                Ok(Some(message)) => {
                    if let Err(problem) = writer.message(&message, step) {
                        return Some(End::Failed(problem));
                    }
                }
                Err(error) => return Some(End::Failed(writer.broken(error))),
            }
        }
    }
}

/// The body of a streamed answer. After an error it ends without its proper end, so that no client takes it for whole.
fn frames(
    mut writer: Writer,
    mut relay: Relay,
    mut first: Option<Step>,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    async_stream::stream! {
        let end = loop {
            let step = match first.take() {
                Some(step) => step,
                None => relay.next_step(&mut writer).await,
            };
            if !step.out.is_empty() {
                yield Ok(Frame::data(Bytes::from(step.out)));
            }
            if let Some(end) = step.end {
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
