//! A gateway in front of a scripted service, and a plain HTTP client.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "each test uses its part, and a failure here is a failed test"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use steading_gateway::{Config, Control, Gateway, Route};
use steading_transcode::codec::{self, DecodeOptions, EncodeOptions, Unset};
use steading_transcode::{Catalog, wire};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub type TestBody = UnsyncBoxBody<Bytes, Infallible>;

pub fn descriptor_set() -> Bytes {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut compiler = protox::Compiler::new([root.join("transcode/tests/proto"), root.join("api/vendor")]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(["steading/testing/v1/library.proto"]).unwrap();
    Bytes::from(compiler.encode_file_descriptor_set())
}

pub fn message(catalog: &Catalog, name: &str, json: &str) -> Vec<u8> {
    let id = catalog.schema().find(&format!("steading.testing.v1.{name}")).unwrap();
    let mut out = Vec::new();
    codec::decode(
        catalog.schema(),
        id,
        json.as_bytes(),
        &DecodeOptions::default(),
        &mut out,
    )
    .unwrap();
    out
}

pub fn framed(message: &[u8]) -> Bytes {
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(message);
    Bytes::from(out)
}

/// The service: what it does is told by the names that it is asked for.
struct Backend {
    catalog: Catalog,
    calls: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
}

/// Counts when a stream is given up.
struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn trailers(status: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers
}

fn reply(frames: Vec<Bytes>, end: HeaderMap) -> Response<TestBody> {
    let frames = frames.into_iter().map(Frame::data).chain([Frame::trailers(end)]);
    let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
    let mut response = Response::new(body.boxed_unsync());
    response
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    response
}

fn failure(code: &str, message: &str, details: &[(&str, &[u8])]) -> Response<TestBody> {
    use base64::Engine as _;
    let mut status = Vec::new();
    for (url, value) in details {
        let any = wire::open(&mut status, 3);
        wire::put_bytes(&mut status, 1, url.as_bytes());
        wire::put_bytes(&mut status, 2, value);
        wire::close(&mut status, any);
    }
    let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("grpc-status", code.parse().unwrap());
    headers.insert("grpc-message", message.parse().unwrap());
    if !details.is_empty() {
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status);
        headers.insert("grpc-status-details-bin", text.parse().unwrap());
    }
    response
}

impl Backend {
    async fn serve(&self, request: Request<Incoming>) -> Response<TestBody> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        match parts.uri.path().rsplit_once('/').unwrap().1 {
            "Chat" | "Converse" => return chat(body),
            "CollectBooks" => return self.collected("LendBookRequest", body).await,
            "UploadFile" => return self.collected("WriteFileRequest", body).await,
            "Check" => return reply(vec![framed(&[8, 1])], trailers("0")),
            _ => {}
        }
        let body = body.collect().await.unwrap().to_bytes();
        let input = body.slice(5.min(body.len())..);
        match parts.uri.path().rsplit_once('/').unwrap().1 {
            "GetBook" => self.get_book(&parts.headers, &input).await,
            "WatchBooks" => self.watch_books(&input),
            "DownloadFile" => {
                let path = self.show("ReadFileRequest", &input);
                match path.as_str() {
                    _ if path.contains("missing") => failure("5", "no such file", &[]),
                    _ if path.contains("broken") => {
                        reply(vec![framed(b"\x0a\x09text/html\x12\x04<hi>")], trailers("14"))
                    }
                    _ => reply(
                        vec![framed(b"\x0a\x09text/html\x12\x04<hi>"), framed(b"\x12\x05</hi>")],
                        trailers("0"),
                    ),
                }
            }
            "WriteFile" => reply(
                vec![framed(&message(
                    &self.catalog,
                    "Everything",
                    &serde_json::json!({"aString": self.show("WriteFileRequest", &input)}).to_string(),
                ))],
                trailers("0"),
            ),
            "SearchBooks" => reply(vec![framed(b"\x12\x04next")], trailers("0")),
            "ListBareBooks" => reply(
                vec![framed(&message(
                    &self.catalog,
                    "ListBooksResponse",
                    r#"{"books":[{"title":"t"}]}"#,
                ))],
                trailers("0"),
            ),
            "CreateBook" | "LendBook" => {
                let name = if parts.uri.path().ends_with("LendBook") {
                    "LendBookRequest"
                } else {
                    "CreateBookRequest"
                };
                let book = serde_json::json!({"title": self.show(name, &input)});
                reply(
                    vec![framed(&message(&self.catalog, "Book", &book.to_string()))],
                    trailers("0"),
                )
            }
            "ReadFile" => reply(vec![framed(b"\x0a\x09text/html\x12\x04<hi>")], trailers("0")),
            "Echo" | "EchoQuery" => reply(vec![framed(&input)], trailers("0")),
            "ListBooks" => {
                let title = "t".repeat(3000);
                let list = message(
                    &self.catalog,
                    "ListBooksResponse",
                    &format!(r#"{{"books":[{{"title":"{title}"}}]}}"#),
                );
                let mut response = reply(vec![framed(&list)], trailers("0"));
                response.headers_mut().insert("etag", "\"list-1\"".parse().unwrap());
                response
            }
            "DeleteBook" => reply(vec![framed(&[])], trailers("0")),
            "UpdateBook" => {
                let book = serde_json::json!({"title": self.show("UpdateBookRequest", &input).replace('"', "'")});
                reply(
                    vec![framed(&message(&self.catalog, "Book", &book.to_string()))],
                    trailers("0"),
                )
            }
            _ => failure("12", "nobody home", &[]),
        }
    }

    /// All messages of a stream, shown in one reply.
    async fn collected(&self, name: &str, mut body: Incoming) -> Response<TestBody> {
        let mut buffer = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            buffer.extend(frame.into_data().unwrap_or_default());
        }
        let (mut rest, mut messages) = (buffer.as_slice(), Vec::new());
        while let Some((head, after)) = rest.split_at_checked(5) {
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            messages.push(self.show(name, &after[..length]));
            rest = &after[length..];
        }
        let all = serde_json::json!({ "messages": messages });
        reply(
            vec![framed(&message(&self.catalog, "LendBookResponse", &all.to_string()))],
            trailers("0"),
        )
    }

    fn show(&self, name: &str, wire: &[u8]) -> String {
        let id = self
            .catalog
            .schema()
            .find(&format!("steading.testing.v1.{name}"))
            .unwrap();
        let mut out = Vec::new();
        let options = EncodeOptions {
            unset: Unset::Omit,
            ..EncodeOptions::default()
        };
        codec::encode(self.catalog.schema(), id, wire, &options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    async fn get_book(&self, headers: &HeaderMap, input: &[u8]) -> Response<TestBody> {
        let request: serde_json::Value = serde_json::from_str(&self.show("GetBookRequest", input)).unwrap();
        let name = request["name"].as_str().unwrap_or_default().to_owned();
        match name.rsplit('/').next().unwrap_or_default() {
            "missing" => failure(
                "5",
                "no%20such%20book",
                &[
                    ("type.googleapis.com/google.rpc.ErrorInfo", b"\x0a\x01R\x12\x01D"),
                    ("type.googleapis.com/google.rpc.DebugInfo", b"\x0a\x05stack"),
                    ("type.googleapis.com/nobody.knows.This", b"\x01\x02\x03"),
                ],
            ),
            "busy" => failure(
                "8",
                "later",
                &[("type.googleapis.com/google.rpc.RetryInfo", b"\x0a\x02\x08\x07")],
            ),
            // 27 KB once it is base64.
            "verbose" => failure(
                "3",
                "no",
                &[("type.googleapis.com/nobody.knows.This", &vec![1; 20_000])],
            ),
            "stranger" => failure("16", "who", &[]),
            "away" => failure("14", "not now", &[]),
            "restarting" if self.calls.load(Ordering::SeqCst) <= 2 => failure("14", "not now", &[]),
            "slow" => std::future::pending().await,
            "packed" => reply(vec![Bytes::from_static(&[1, 0, 0, 0, 0])], trailers("0")),
            "html" => {
                let mut response = Response::new(Full::new(Bytes::from_static(b"<h1>Bad gateway</h1>")).boxed_unsync());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
            "garbage" => reply(vec![framed(&[0xff])], trailers("0")),
            // Services of AIP-154: the field is an entity-tag.
            "weak" | "strong" => {
                let etag = if name.ends_with("weak") { "W/\"42\"" } else { "\"42\"" };
                let book = serde_json::json!({"name": name, "etag": etag});
                let mut response = reply(
                    vec![framed(&message(&self.catalog, "Book", &book.to_string()))],
                    trailers("0"),
                );
                response.headers_mut().insert("etag", "\"42\"".parse().unwrap());
                response
            }
            "short" => reply(vec![Bytes::from_static(&[0, 0, 0, 0, 9, 1])], trailers("0")),
            _ => {
                let mut labels = serde_json::Map::new();
                for name in [
                    "authorization",
                    "traceparent",
                    "tracestate",
                    "baggage",
                    "x-forwarded-for",
                    "x-request-id",
                    "grpc-timeout",
                    "content-length",
                    "cookie",
                    "x-extra",
                ] {
                    if let Some(value) = headers.get(name) {
                        labels.insert(name.into(), value.to_str().unwrap().into());
                    }
                }
                let book = serde_json::json!({"name": name, "etag": "7\"a", "title": "t", "labels": labels});
                let mut response = reply(
                    vec![framed(&message(&self.catalog, "Book", &book.to_string()))],
                    trailers("0"),
                );
                if name.ends_with("/moved") {
                    let place = "/v1/shelves/a/books/new".parse().unwrap();
                    response.headers_mut().insert("location", place);
                }
                response
            }
        }
    }

    fn watch_books(&self, input: &[u8]) -> Response<TestBody> {
        let event = |n: u32| {
            framed(&message(
                &self.catalog,
                "WatchBooksResponse",
                &format!(r#"{{"book":{{"title":"{n}"}},"resumeToken":"r{n}"}}"#),
            ))
        };
        let parent = self.show("ListBooksRequest", input);
        if parent.contains("broken") {
            let mut end = trailers("14");
            end.insert("grpc-message", "gone".parse().unwrap());
            return reply(vec![event(1)], end);
        }
        if parent.contains("quiet") {
            let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
            response
                .headers_mut()
                .insert("content-type", "application/grpc".parse().unwrap());
            response.headers_mut().extend(trailers("0"));
            return response;
        }
        if parent.contains("forever") {
            let (first, guard) = (
                futures::stream::iter([Ok::<_, Infallible>(Frame::data(event(1)))]),
                Gone(self.gone.clone()),
            );
            let silence = futures::stream::pending().map(move |never| {
                let _ = &guard;
                never
            });
            let mut response = Response::new(StreamBody::new(first.chain(silence)).boxed_unsync());
            response
                .headers_mut()
                .insert("content-type", "application/grpc".parse().unwrap());
            return response;
        }
        if parent.contains("flood") {
            let guard = Gone(self.gone.clone());
            let title = "x".repeat(64 << 10);
            let book = serde_json::json!({"book": {"title": title}});
            let event = framed(&message(&self.catalog, "WatchBooksResponse", &book.to_string()));
            let flood = futures::stream::repeat_with(move || {
                let _ = &guard;
                Ok::<_, Infallible>(Frame::data(event.clone()))
            });
            let mut response = Response::new(StreamBody::new(flood).boxed_unsync());
            response
                .headers_mut()
                .insert("content-type", "application/grpc".parse().unwrap());
            return response;
        }
        if parent.contains("again") {
            let request: serde_json::Value = serde_json::from_str(&parent).unwrap();
            let event =
                serde_json::json!({"resumeToken": format!("after-{}", request["resumeToken"].as_str().unwrap())});
            let event = message(&self.catalog, "WatchBooksResponse", &event.to_string());
            return reply(vec![framed(&event)], trailers("0"));
        }
        if parent.contains("cut") {
            let mut response = Response::new(Full::new(event(1)).boxed_unsync());
            response
                .headers_mut()
                .insert("content-type", "application/grpc".parse().unwrap());
            return response;
        }
        if parent.contains("empty") {
            return reply(vec![], trailers("0"));
        }
        // Two messages that do not end where the frames do.
        let both = [event(1), event(2)].concat();
        let (head, tail) = both.split_at(7);
        reply(
            vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)],
            trailers("0"),
        )
    }
}

fn chat(body: Incoming) -> Response<TestBody> {
    let echoed = futures::stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match body.frame().await {
            Some(Ok(frame)) => Some((Ok::<_, Infallible>(frame), Some(body))),
            _ => Some((Ok(Frame::trailers(trailers("0"))), None)),
        }
    });
    let mut response = Response::new(StreamBody::new(echoed).boxed_unsync());
    response
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    response
}

/// Gateway and service; both end when this is dropped.
pub struct Rig {
    pub address: SocketAddr,
    pub calls: Arc<AtomicUsize>,
    /// Endless streams that the service was told to end.
    pub gone: Arc<AtomicUsize>,
    pub cancel: CancellationToken,
    pub control: Control,
    /// The service's address.
    pub upstream: Uri,
    pub tasks: JoinSet<()>,
}

/// Speaks HTTP/2 to one client.
async fn serve_connection<T>(backend: Arc<Backend>, stream: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let backend = backend.clone();
        async move { Ok::<_, Infallible>(backend.serve(request).await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Rig {
    pub async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::begin(None, adjust).await
    }

    /// The same with a service that speaks TLS.
    pub async fn behind_tls(acceptor: TlsAcceptor, adjust: impl FnOnce(&mut Config)) -> Self {
        Self::begin(Some(acceptor), adjust).await
    }

    async fn begin(acceptor: Option<TlsAcceptor>, adjust: impl FnOnce(&mut Config)) -> Self {
        let set = descriptor_set();
        let (calls, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let catalog = Catalog::new(&[&set], &[], |_| true).unwrap();
        let backend = Arc::new(Backend {
            catalog,
            calls: calls.clone(),
            gone: gone.clone(),
        });
        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let uri = match &acceptor {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let uri: Uri = uri.parse().unwrap();
        let upstream = uri.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (backend, acceptor) = (backend.clone(), acceptor.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => serve_connection(backend, stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve_connection(backend, stream).await;
                            }
                        }
                    }
                });
            }
        });
        let mut config = Config::new(
            vec![set],
            vec![Route {
                service: "steading.testing".into(),
                uri,
            }],
        );
        adjust(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, cancel) = (listener.local_addr().unwrap(), CancellationToken::new());
        let gateway = Gateway::new(config).unwrap();
        let control = gateway.control();
        let token = cancel.clone();
        tasks.spawn(async move { gateway.run(listener, token).await });
        Self {
            address,
            calls,
            gone,
            cancel,
            control,
            upstream,
            tasks,
        }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// One HTTP/1.1 exchange.
    pub async fn http(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path).header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .send(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap())
            .await;
        let (parts, mut body) = response.into_parts();
        let (mut data, mut clean) = (Vec::new(), true);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => data.extend(frame.into_data().unwrap_or_default()),
                Err(_) => clean = false,
            }
            if data.len() > 1 << 24 {
                break;
            }
        }
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: data,
            clean,
        }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        hyper::rt::Executor::execute(&TokioExecutor::new(), async move { drop(connection.await) });
        tokio::time::timeout(Duration::from_secs(20), sender.send_request(request))
            .await
            .unwrap()
            .unwrap()
    }

    /// One gRPC exchange over HTTP/2; the messages and the status.
    pub async fn grpc(&self, path: &str, messages: &[&[u8]]) -> (Vec<u8>, HeaderMap) {
        let body: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        self.grpc_raw(path, &body).await
    }

    /// The same with a body as it is.
    pub async fn grpc_raw(&self, path: &str, body: &[u8]) -> (Vec<u8>, HeaderMap) {
        self.grpc_with(path, body, &[]).await
    }

    /// The same with further metadata.
    pub async fn grpc_with(&self, path: &str, body: &[u8], metadata: &[(&str, &str)]) -> (Vec<u8>, HeaderMap) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        hyper::rt::Executor::execute(&TokioExecutor::new(), async move { drop(connection.await) });
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(20), sender.send_request(request))
            .await
            .unwrap()
            .unwrap();
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let mut all = parts.headers;
        all.extend(collected.trailers().cloned().unwrap_or_default());
        (collected.to_bytes().to_vec(), all)
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The body ended as HTTP says.
    pub clean: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
