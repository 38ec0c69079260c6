//! The service behind the gateways: it answers from memory, so that it costs next to nothing.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet, time::interval};

use crate::contract::Replies;

/// Between two events of a watch.
pub(crate) const EVENT_EVERY: Duration = Duration::from_millis(100);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Says its address, then serves for ever.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let replies = Arc::new(Replies::new()?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let replies = Arc::clone(&replies);
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&replies)));
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(4096);
            // A connection that breaks is the client's to notice.
            let _ = server.serve_connection(TokioIo::new(socket), answer).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, replies: Arc<Replies>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    // Read to its end, as a service does.
    let _ = body.collect().await;
    let one = |frame: &Bytes| stream::iter([frame.clone()]).boxed();
    let frames = match parts.uri.path().rsplit('/').next() {
        Some("ListItems") => one(&replies.page),
        Some("WatchItems") => {
            let event = replies.item.clone();
            stream::unfold(interval(EVENT_EVERY), move |mut ticks| {
                let event = event.clone();
                async move {
                    ticks.tick().await;
                    Some((event, ticks))
                }
            })
            .boxed()
        }
        _ => one(&replies.item),
    };
    let trailers = stream::once(async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Frame::trailers(trailers)
    });
    let body = StreamBody::new(frames.map(Frame::data).chain(trailers).map(Ok::<_, Infallible>));
    let mut response = Response::new(body.boxed_unsync());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}
