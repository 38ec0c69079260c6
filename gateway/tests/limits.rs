//! Clients and services that do harm: what they get, and that others do not notice.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::time::Duration;

use steading_gateway::{RateLimit, Whose};
use support::{Rig, framed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");

/// What the gateway says to these bytes before it closes the connection.
async fn said(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut text = Vec::new();
    let read = async { while let Ok(1..) = stream.read_buf(&mut text).await {} };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

async fn is_well(rig: &Rig) {
    assert_eq!(rig.http("GET /v1/shelves/a/books/b", &[], b"").await.status, 200);
}

#[tokio::test]
async fn connections_that_ask_for_nothing_are_closed() {
    let rig = Rig::start(|config| {
        config.limits.receive = Duration::from_millis(100);
        config.limits.connections = 4;
    })
    .await;
    // As many as there is room for: the next client waits until they are gone.
    let mut idle = Vec::new();
    for start in [
        &b""[..],
        b"PRI * HT",
        b"GET /v1/echo HTT",
        b"GET /v1/echo HTTP/1.1\r\nHost: t\r\nX: ",
    ] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(start).await.unwrap();
        idle.push(stream);
    }
    tokio::time::timeout(Duration::from_secs(20), is_well(&rig))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_reaches_no_service() {
    let rig = Rig::start(|config| config.limits.receive = Duration::from_millis(100)).await;
    let head =
        "POST /v1/echo HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"aS";
    let answer = said(&rig, head.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("DEADLINE_EXCEEDED"),
        "{answer}"
    );
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn a_half_closed_request_is_not_served_from_what_came() {
    let rig = Rig::start(|_| {}).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let head = "POST /v1/echo HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
    is_well(&rig).await;
    assert_eq!(rig.calls(), 1);
}

#[tokio::test]
async fn headers_have_a_limit() {
    let rig = Rig::start(|config| config.limits.header_bytes = 8192).await;
    let large = format!("GET /v1/echo HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert!(said(&rig, large.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET /v1/echo HTTP/1.1\r\nHost: t\r\n{}\r\n", "X: y\r\n".repeat(1000));
    assert!(said(&rig, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let path = format!(
        "GET /v1/echo?aString={} HTTP/1.1\r\nHost: t\r\n\r\n",
        "x".repeat(100_000)
    );
    let answer = said(&rig, path.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 414") || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert_eq!(rig.calls(), 0);
    is_well(&rig).await;
}

#[tokio::test]
async fn requests_that_two_readers_would_split_differently_are_refused() {
    let rig = Rig::start(|_| {}).await;
    for (name, request) in [
        (
            "two lengths",
            "POST /v1/echo HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        ),
        (
            "no number",
            "POST /v1/echo HTTP/1.1\r\nHost: t\r\nContent-Length: +2\r\n\r\n{}",
        ),
        ("space before the colon", "GET /v1/echo HTTP/1.1\r\nHost : t\r\n\r\n"),
        ("folded", "GET /v1/echo HTTP/1.1\r\nHost: t\r\nX: a\r\n b\r\n\r\n"),
        ("a null", "GET /v1/echo\0 HTTP/1.1\r\nHost: t\r\n\r\n"),
    ] {
        let answer = said(&rig, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn lengths_that_lie_are_refused_before_they_are_read() {
    let rig = Rig::start(|_| {}).await;
    for length in ["2147483648", "18446744073709551615"] {
        let head =
            format!("POST /v1/echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        let answer = said(&rig, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{length}: {answer}");
    }
    assert_eq!(rig.calls(), 0);
    // A message whose prefix claims 2 GiB is the service's business; the gateway holds none of it.
    let (_, trailers) = rig
        .grpc_raw("/steading.testing.v1.Library/Echo", b"\x00\x7f\xff\xff\xffabc")
        .await;
    assert!(trailers.contains_key("grpc-status"));
    is_well(&rig).await;
}

#[tokio::test]
async fn json_that_nests_or_is_no_text_is_400() {
    let rig = Rig::start(|_| {}).await;
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000)).into_bytes();
    for body in [
        nested("{\"child\":", "}"),
        nested("[", "]"),
        format!("{{\"value\":{}", "[".repeat(10_000)).into_bytes(),
        b"{\"aString\":\"\xff\"}".to_vec(),
        b"{\"aString\":\"\\ud800\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        vec![0; 100],
    ] {
        let answer = rig.http("POST /v1/echo", &[JSON], &body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn a_call_that_finds_no_room_for_its_bodies_may_come_back() {
    let rig = Rig::start(|config| config.limits.buffered_bytes = 2000).await;
    let body = format!(r#"{{"aString":"{}"}}"#, "x".repeat(2500));
    let answer = rig.http("POST /v1/echo", &[JSON], body.as_bytes()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert_eq!(answer.json()["error"]["details"][0]["reason"], "OVERLOADED");
    assert_eq!(rig.calls(), 0);
    let reply = rig.http("GET /v1/shelves/a/books", &[], b"").await;
    assert_eq!(reply.status, 503, "a reply needs room, too");
    let line = "POST /v1/shelves/a/books/b:collect";
    let part = format!(r#"{{"reader":"{}"#, "x".repeat(2500));
    let upload = rig
        .http(line, &[("content-type", "application/x-ndjson")], part.as_bytes())
        .await;
    assert_eq!(upload.status, 503, "and so does a message of a stream");
    for _ in 0..20 {
        is_well(&rig).await;
    }
}

#[tokio::test]
async fn a_service_that_dies_midway_is_told_of() {
    let rig = Rig::start(|_| {}).await;
    let cut = rig.http("GET /v1/shelves/cut/books:watch", &[], b"").await;
    assert!(!cut.clean && cut.text().contains("PEER_UNAVAILABLE"), "{}", cut.text());
    let (body, trailers) = rig
        .grpc("/steading.testing.v1.Library/WatchBooks", &[b"\x0a\x0bshelves/cut"])
        .await;
    assert!(!body.is_empty());
    assert_eq!(
        trailers["grpc-status"], "14",
        "a native client gets a status, not a reset"
    );
    for name in ["garbage", "short", "packed", "html"] {
        let answer = rig.http(&format!("GET /v1/shelves/a/books/{name}"), &[], b"").await;
        assert!(matches!(answer.status.as_u16(), 502 | 503), "{name}: {}", answer.text());
        assert!(answer.json()["error"]["status"].is_string());
    }
    is_well(&rig).await;
}

#[tokio::test]
async fn native_calls_have_the_gateways_deadline() {
    let rig = Rig::start(|config| config.limits.default_deadline = Duration::from_millis(200)).await;
    let (_, trailers) = rig
        .grpc("/steading.testing.v1.Library/GetBook", &[b"\x0a\x04slow"])
        .await;
    assert_eq!(trailers["grpc-status"], "4");
    let path = "/steading.testing.v1.Library/WatchBooks";
    let (body, trailers) = rig
        .grpc_with(path, &framed(b"\x0a\x07forever"), &[("grpc-timeout", "200m")])
        .await;
    assert!(!body.is_empty());
    assert_eq!(trailers["grpc-status"], "4", "a stream ends with a status, too");
    let (_, trailers) = rig.grpc_with(path, b"", &[("grpc-timeout", "soon")]).await;
    assert_eq!(trailers["grpc-status"], "3");
}

#[tokio::test]
async fn callers_have_limits_of_their_own_and_are_told() {
    let limit = |whose, text| RateLimit::parse(whose, text).unwrap();
    let rig = Rig::start(|config| {
        config.rate_limits = vec![
            limit(Whose::Caller, "steading.testing.v1.Library=2/h"),
            limit(Whose::Everybody, "steading.testing.v1.Library/EchoQuery=3/h"),
        ];
    })
    .await;
    let ask = async |token: &str| rig.http("GET /v1/echo", &[("authorization", token)], b"").await;
    let first = ask("Bearer a").await;
    assert_eq!(
        (
            first.status.as_u16(),
            first.header("ratelimit-limit"),
            first.header("ratelimit-remaining")
        ),
        (200, "2", "1")
    );
    assert_eq!(ask("Bearer a").await.status, 200);
    let refused = ask("Bearer a").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("ratelimit-remaining")),
        (429, "0")
    );
    assert!((1700..=1800).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    let details = refused.json()["error"]["details"].clone();
    assert_eq!(details[0]["reason"], "RATE_LIMITED");
    assert!(details[1]["retryDelay"].as_str().unwrap().ends_with('s'));
    assert_eq!(ask("Bearer b").await.status, 200, "another caller is not held up");
    assert_eq!(ask("Bearer c").await.status, 429, "all together have one, too");
    assert_eq!(rig.calls(), 3);

    let path = "/steading.testing.v1.Library/GetBook";
    for (call, status) in [(1, "0"), (2, "0"), (3, "8")] {
        let (_, trailers) = rig
            .grpc_with(path, &framed(b"\x0a\x01b"), &[("authorization", "Bearer d")])
            .await;
        assert_eq!(trailers["grpc-status"], status, "call {call}");
        assert_eq!(trailers.contains_key("grpc-status-details-bin"), status == "8");
    }
}

#[tokio::test]
async fn requests_at_once_have_a_limit_and_streams_keep_their_place() {
    let rig = Rig::start(|config| config.limits.requests = 1).await;
    let watch = http::Request::builder()
        .uri("/v1/shelves/forever/books:watch")
        .header("host", "test")
        .body(http_body_util::Full::default())
        .unwrap();
    let stream = rig.send(watch).await;
    let answer = rig.http("GET /v1/echo", &[], b"").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    let (_, trailers) = rig.grpc("/steading.testing.v1.Library/GetBook", &[b""]).await;
    assert_eq!(trailers["grpc-status"], "14");
    drop(stream);
    let free = async {
        while rig.http("GET /v1/echo", &[], b"").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.unwrap();
}
