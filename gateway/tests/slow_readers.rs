//! Clients that open streams of large messages and do not read them harm only themselves.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Rig, framed};
use tokio::net::TcpStream;

/// A client whose streams stall one by one: each has a small window, and the connection's never fills.
async fn client(rig: &Rig) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(64 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    hyper::rt::Executor::execute(&TokioExecutor::new(), async move { drop(connection.await) });
    sender
}

/// A stream of replies that nobody reads, by REST or by native gRPC.
async fn stalled(sender: &mut SendRequest<Full<Bytes>>, native: bool) -> Response<Incoming> {
    let request = if native {
        let mut message = Vec::new();
        steading_transcode::wire::put_bytes(&mut message, 1, b"shelves/flood");
        Request::post("http://test/steading.testing.v1.Library/WatchBooks")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(framed(&message)))
    } else {
        Request::get("http://test/v1/shelves/flood/books:watch").body(Full::new(Bytes::new()))
    };
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

async fn slowest_call(rig: &Rig) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        let answer = rig.http("GET /v1/shelves/a/books/b", &[], b"");
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
        assert_eq!(answer.expect("a unary call waits for a stalled reader").status, 200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_notice_a_hundred_stalled_readers() {
    let rig = Rig::start(|_| {}).await;
    let mut sender = client(&rig).await;
    let mut kept = Vec::new();
    for number in 0..100 {
        kept.push(stalled(&mut sender, number % 2 == 0).await);
    }
    // Until all windows are full.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let with = slowest_call(&rig).await;
    assert!(with < Duration::from_secs(1), "{with:?}");
    // Further streams find room, too.
    let lines = rig.http("GET /v1/shelves/a/books:watch", &[], b"").await;
    assert_eq!((lines.status.as_u16(), lines.clean), (200, true));
    let (native, status) = rig.grpc("/steading.testing.v1.Library/Echo", &[b""]).await;
    assert_eq!((native.len(), status["grpc-status"].as_bytes()), (5, &b"0"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_is_given_up_after_the_send_limit() {
    let rig = Rig::start(|config| config.limits.send = Duration::from_millis(200)).await;
    let mut sender = client(&rig).await;
    let kept = [stalled(&mut sender, true).await, stalled(&mut sender, false).await];
    let deadline = Instant::now() + Duration::from_secs(10);
    while rig.gone.load(Ordering::SeqCst) < 2 {
        assert!(Instant::now() < deadline, "the service still sends to nobody");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_read_slowly_goes_on() {
    use http_body_util::BodyExt as _;
    let rig = Rig::start(|config| config.limits.send = Duration::from_millis(400)).await;
    let mut sender = client(&rig).await;
    let mut body = stalled(&mut sender, true).await.into_body();
    let mut read = 0;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut now = 0;
        while now < 64 << 10 {
            now += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        read += now;
    }
    assert!(read > 512 << 10, "{read}");
    assert_eq!(rig.gone.load(Ordering::SeqCst), 0);
}
