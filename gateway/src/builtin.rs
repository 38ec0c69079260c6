//! gRPC services that the gateway answers itself: reflection from its descriptors, health over all upstreams.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Frame;
use hyper::body::Incoming;
use steading_transcode::wire::{self, Raw};
use tonic::body::Body as TonicBody;
use tower::ServiceExt as _;

use crate::body::{Body, BoxError, collect};
use crate::code::Code;
use crate::frame;
use crate::generation::Generation;
use crate::grpc::dialect::{Dialect, trailers_only};
use crate::headers;
use crate::state::{Shared, State};
use crate::upstream::{Pace, Upstream};

/// A service's own health answer must not take longer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a watch of the overall health looks again.
const HEALTH_PERIOD: Duration = Duration::from_secs(5);
/// A health request holds one service name.
const HEALTH_REQUEST: usize = 4096;

const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;

/// A method that the gateway answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    ReflectionV1,
    ReflectionV1Alpha,
    HealthCheck,
    HealthWatch,
}

impl Builtin {
    /// The method of a path.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/grpc.health.v1.Health/Check" => Some(Self::HealthCheck),
            "/grpc.health.v1.Health/Watch" => Some(Self::HealthWatch),
            _ if path.starts_with("/grpc.reflection.v1.ServerReflection/") => Some(Self::ReflectionV1),
            _ if path.starts_with("/grpc.reflection.v1alpha.ServerReflection/") => Some(Self::ReflectionV1Alpha),
            _ => None,
        }
    }

    /// Answers a native call.
    pub(crate) async fn serve(
        self,
        state: &State,
        generation: &Generation,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let reflection = match self {
            Self::ReflectionV1 => &generation.reflection.v1,
            Self::ReflectionV1Alpha => &generation.reflection.v1alpha,
            Self::HealthCheck | Self::HealthWatch => return health(state, self == Self::HealthWatch, request).await,
        };
        match reflection.clone().oneshot(request.map(TonicBody::new)).await {
            Ok(response) => response.map(Body::boxed),
            Err(never) => match never {},
        }
    }
}

async fn health(state: &State, watch: bool, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut reserved = state.room.reserve();
    let collected = collect(body, HEALTH_REQUEST, &mut reserved);
    let collected = tokio::time::timeout(state.config.limits.receive, collected).await;
    let Ok(Ok((body, _))) = collected else {
        return trailers_only(Dialect::Native, Code::InvalidArgument, "not a health request");
    };
    let Ok(message) = frame::single(body.clone()) else {
        return trailers_only(Dialect::Native, Code::InvalidArgument, "not a health request");
    };
    let service = match wire::find(&message, &[1]) {
        Ok(Some(Raw::Bytes(name))) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    };
    if !service.is_empty() {
        let Some(upstream) = state.upstreams.of(&service) else {
            return trailers_only(Dialect::Native, Code::NotFound, "unknown service");
        };
        let sent = upstream.send(call(upstream, parts.uri.path(), parts.headers, body), Pace::Client);
        let sent = if watch {
            sent.await
        } else {
            match tokio::time::timeout(HEALTH_TIMEOUT, sent).await {
                Ok(sent) => sent,
                Err(_) => {
                    return trailers_only(
                        Dialect::Native,
                        Code::DeadlineExceeded,
                        "the service did not answer in time",
                    );
                }
            }
        };
        return sent.map_or_else(
            |_| trailers_only(Dialect::Native, Code::Unavailable, "service cannot be reached"),
            |(response, ticket)| response.map(|body| Body::Incoming(body).keeping(ticket)),
        );
    }
    let frames = overall_frames(state.clone(), watch);
    let mut response = Response::new(Body::stream(frames));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The overall state: once, or at every change until the gateway drains.
fn overall_frames(state: State, watch: bool) -> impl futures::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    async_stream::stream! {
        let mut last = None;
        loop {
            let now = overall(&state).await;
            if last.replace(now) != Some(now) {
                let mut message = frame::open(2);
                message.extend_from_slice(&[8, now]);
                yield Ok(Frame::data(frame::seal(message)));
            }
            if !watch || state.drain.is_cancelled() {
                break;
            }
            tokio::select! {
                () = state.drain.cancelled() => {}
                () = tokio::time::sleep(HEALTH_PERIOD) => {}
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        yield Ok(Frame::trailers(trailers));
    }
}

/// Serving if every upstream answers and none says that it is not.
async fn overall(state: &Shared) -> u8 {
    if state.drain.is_cancelled() {
        return NOT_SERVING;
    }
    let checks = state.upstreams.all.iter().map(|upstream| async {
        tokio::time::timeout(HEALTH_TIMEOUT, is_serving(state, upstream))
            .await
            .unwrap_or(false)
    });
    if futures::future::join_all(checks).await.into_iter().all(|ok| ok) {
        SERVING
    } else {
        NOT_SERVING
    }
}

/// A service without health checks counts as serving: it answered.
async fn is_serving(state: &Shared, upstream: &Upstream) -> bool {
    let message = frame::seal(frame::open(0));
    let request = call(upstream, "/grpc.health.v1.Health/Check", HeaderMap::new(), message);
    let Ok((response, _)) = upstream.send(request, Pace::Gateway).await else {
        return false;
    };
    if let Some(status) = response.headers().get("grpc-status") {
        return status == "12";
    }
    match collect(response.into_body(), HEALTH_REQUEST, &mut state.room.reserve()).await {
        Ok((body, _)) => frame::single(body).is_ok_and(|message| message.as_ref() == [8, SERVING]),
        Err(_) => false,
    }
}

fn call(upstream: &Upstream, path: &str, mut headers: HeaderMap, message: Bytes) -> Request<Body> {
    headers::strip_hop_by_hop(&mut headers);
    headers.remove(http::header::CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let mut request = Request::new(Body::Call(message));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = upstream.uri(path).unwrap_or_default();
    *request.headers_mut() = headers;
    request
}
