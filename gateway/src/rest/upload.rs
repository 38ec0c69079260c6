//! Methods that take a stream of requests: the body is a sequence of JSON values, or pieces of an `HttpBody`, and each becomes a message as
//! soon as it is there. Path and query belong to the first message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use steading_transcode::bind::{self, Parts};
use steading_transcode::codec::DecodeOptions;
use steading_transcode::values::Values;
use steading_transcode::{InvalidRequest, Matched};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::context::{Ask, Call, DISCARD_BYTES, Feed};
use super::receive::{self, Kind};
use super::{answer, call};
use crate::body::{Body, BoxError, Upload};
use crate::frame;
use crate::generation::Generation;
use crate::problem::Problem;
use crate::room::Reservation;
use crate::stream::{self, Format};
use crate::upstream::Pace;

/// Messages between the client's connection and the service's: enough to keep both busy.
const QUEUE: usize = 4;

type Sender = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// Calls the method with what the client sends.
pub(super) async fn serve(
    call: &Call<'_>,
    matched: &Matched<'_>,
    method: &Method,
    input: Parts<'_>,
    ask: &Ask<'_>,
    format: Format,
    upload: &mut Upload,
) -> Result<Response<Body>, Problem> {
    let kind = Kind::of(call, ask.headers, matched.binding)?;
    kind.check(call, true)?;
    if kind.gzipped {
        return Err(receive::unsupported(call, "a stream of requests cannot be compressed"));
    }
    // Path and query are decided before the service hears of the call.
    let mut leading = Vec::new();
    let options = call.state.config.decode;
    let system = bind::request(&call.generation.catalog, matched, &input, &options, &mut leading)
        .map_err(|error| call.refused(&error))?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reader = Reader {
        generation: call.generation.clone(),
        binding: stream::index_of(call, matched.binding),
        options,
        receive: call.state.config.limits.receive,
        domain: call.state.config.error_domain.clone(),
        raw: kind.raw.clone(),
        head: Some(Head {
            method: method.clone(),
            path: input.path.to_owned(),
            query: input.query.to_owned(),
            if_match: input.if_match.map(str::to_owned),
            speaks: !leading.is_empty(),
        }),
        reserved: call.state.room.reserve(),
    };
    let values = Values::new(call.state.config.limits.request_bytes, !kind.is_lines);
    let mut feed: Feed = Box::pin(reader.run(upload.take(), values, sender));
    let left = call::left(call, ask.time)?;
    let outgoing = call::outgoing(call, ask, left, Body::stream(ReceiverStream::new(receiver)))?;
    if ask.rpc.server_streaming {
        let both = (outgoing, Some(feed));
        return stream::serve(call, matched.binding, system, format, both, left, &ask.rpc.service).await;
    }
    let mut reserved = call.state.room.reserve();
    let reply = {
        let mut reply = std::pin::pin!(tokio::time::timeout(
            left,
            call::unary(call, outgoing, &ask.rpc.service, Pace::Client, &mut reserved)
        ));
        // A service may answer before it has seen everything; the rest is not read then.
        tokio::select! {
            reply = &mut reply => reply,
            fed = &mut feed => {
                fed?;
                reply.await
            }
        }
    };
    let reply = reply.map_err(|_| call.too_late())??;
    answer::unary(call, matched.binding, system, (ask.headers, method), reply, reserved)
}

/// What the head of the request says; it belongs to the first message.
struct Head {
    method: Method,
    path: String,
    query: String,
    if_match: Option<String>,
    /// There is something in it.
    speaks: bool,
}

/// Turns what arrives into messages.
struct Reader {
    generation: Arc<Generation>,
    binding: usize,
    options: DecodeOptions,
    /// Time for a client whose message was wrong to come to its end.
    receive: Duration,
    domain: String,
    /// The content type of pieces that are taken as they are.
    raw: Option<String>,
    /// Until the first message took it.
    head: Option<Head>,
    /// For what has come of a value that is not whole.
    reserved: Reservation,
}

impl Reader {
    async fn run(mut self, mut upload: Upload, values: Values, sender: Sender) -> Result<(), Problem> {
        let read = self.read(&mut upload, values, &sender).await;
        if read.is_err() {
            // So that a client that writes first and reads then gets to read why.
            let _ = tokio::time::timeout(self.receive, upload.discard(DISCARD_BYTES)).await;
        }
        read
    }

    async fn read(&mut self, upload: &mut Upload, mut values: Values, sender: &Sender) -> Result<(), Problem> {
        while let Some(frame) = upload.frame().await {
            let frame = frame.map_err(|_| self.invalid(&InvalidRequest::new("", "the body ended early")))?;
            let Ok(data) = frame.into_data() else { continue };
            if let Some(content_type) = self.raw.clone() {
                let body = bind::Body::Raw {
                    content_type: &content_type,
                    data: &data,
                };
                if !data.is_empty() && !self.message(body, sender).await? {
                    return Ok(());
                }
                continue;
            }
            values.push(&data);
            self.reserved.clear();
            self.reserved.take(values.held()).map_err(|_| self.no_room())?;
            while let Some(value) = values.next_value().map_err(|error| self.invalid(&error))? {
                if !self.message(bind::Body::Json(&value), sender).await? {
                    return Ok(());
                }
            }
        }
        if let Some(value) = values.finish().map_err(|error| self.invalid(&error))? {
            self.message(bind::Body::Json(&value), sender).await?;
        }
        // The path may say all that there is to say.
        if self.head.as_ref().is_some_and(|head| head.speaks) {
            self.message(bind::Body::Empty, sender).await?;
        }
        Ok(())
    }

    /// Sends one message; tells whether the service still listens.
    async fn message(&mut self, body: bind::Body<'_>, sender: &Sender) -> Result<bool, Problem> {
        let mut message = frame::open(256);
        self.write(body, &mut message).map_err(|error| self.invalid(&error))?;
        Ok(sender.send(Ok(Frame::data(frame::seal(message)))).await.is_ok())
    }

    fn write(&mut self, body: bind::Body<'_>, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        let (catalog, options) = (&self.generation.catalog, self.options);
        let head = self.head.take();
        let matched = head
            .as_ref()
            .and_then(|head| Some((head, catalog.route(&head.method, &head.path).ok()?)));
        if let Some((head, matched)) = matched {
            let input = Parts {
                path: &head.path,
                query: &head.query,
                body,
                if_match: head.if_match.as_deref(),
                resume: None,
            };
            return bind::request(catalog, &matched, &input, &options, out).map(|_| ());
        }
        let Some(binding) = catalog.bindings().get(self.binding) else {
            return Ok(());
        };
        bind::further_request(catalog, binding, body, &options, out)
    }

    fn no_room(&self) -> Problem {
        Problem::overloaded("the gateway is at its limit of buffered bytes", &self.domain)
    }

    fn invalid(&self, error: &InvalidRequest) -> Problem {
        Problem::invalid(error, &self.domain)
    }
}
