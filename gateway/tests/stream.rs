//! Streams, native gRPC, gRPC-Web, reflection and health through the gateway.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::time::Duration;

use base64::Engine as _;
use http_body_util::BodyExt as _;
use support::{Rig, framed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn watch(rig: &Rig, shelf: &str, accept: &str) -> support::Answer {
    rig.http(
        &format!("GET /v1/shelves/{shelf}/books:watch"),
        &[("accept", accept)],
        b"",
    )
    .await
}

fn titles(lines: &str) -> Vec<String> {
    lines
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["book"]["title"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_stream_has_the_form_that_the_client_accepts() {
    let rig = Rig::start(|_| {}).await;
    let lines = watch(&rig, "a", "*/*").await;
    assert_eq!(
        (lines.status.as_u16(), lines.header("content-type"), lines.clean),
        (200, "application/x-ndjson", true)
    );
    assert_eq!(titles(&lines.text()), ["1", "2"]);

    let events = watch(&rig, "a", "text/event-stream, */*").await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    let parts: Vec<String> = events.text().split_terminator("\n\n").map(str::to_owned).collect();
    assert_eq!(parts.len(), 2);
    assert!(parts[0].starts_with("id: r1\ndata: {"), "{}", parts[0]);

    let array = watch(&rig, "a", "application/json").await;
    assert_eq!(array.json().as_array().unwrap().len(), 2);
    assert_eq!(watch(&rig, "empty", "application/json").await.text(), "[]");
    assert_eq!(watch(&rig, "empty", "*/*").await.text(), "");
}

#[tokio::test]
async fn a_stream_that_is_over_before_it_begins_is_whole() {
    let rig = Rig::start(|_| {}).await;
    let array = watch(&rig, "quiet", "application/json").await;
    assert_eq!((array.text(), array.clean), ("[]".to_owned(), true));
    let lines = watch(&rig, "quiet", "*/*").await;
    assert_eq!((lines.text(), lines.clean), (String::new(), true));
}

#[tokio::test]
async fn a_client_that_comes_back_goes_on_where_it_was() {
    let rig = Rig::start(|_| {}).await;
    let line = "GET /v1/shelves/again/books:watch";
    let answer = rig
        .http(line, &[("accept", "text/event-stream"), ("last-event-id", "r7")], b"")
        .await;
    assert!(answer.text().starts_with("id: after-r7\n"), "{}", answer.text());
    let answer = rig
        .http(&format!("{line}?resumeToken=r8"), &[("last-event-id", "r7")], b"")
        .await;
    assert!(answer.text().contains("after-r8"), "{}", answer.text());
}

#[tokio::test]
async fn an_error_midway_is_the_last_word_and_the_body_does_not_end_cleanly() {
    let rig = Rig::start(|_| {}).await;
    for accept in ["*/*", "text/event-stream", "application/json"] {
        let answer = watch(&rig, "broken", accept).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.clean, "{accept}");
        let text = answer.text();
        assert!(
            text.contains(r#""title":"1""#) && text.contains(r#""status":"UNAVAILABLE""#),
            "{accept}: {text}"
        );
        assert_eq!(text.contains("event: error\n"), accept == "text/event-stream");
    }
}

#[tokio::test]
async fn a_silent_event_stream_is_kept_open_and_ends_at_its_deadline() {
    let rig = Rig::start(|config| config.limits.heartbeat = Duration::from_millis(30)).await;
    let answer = rig
        .http(
            "GET /v1/shelves/forever/books:watch",
            &[("accept", "text/event-stream"), ("x-server-timeout", "0.3")],
            b"",
        )
        .await;
    let text = answer.text();
    assert!(
        text.contains(": keep-alive\n\n") && text.contains("DEADLINE_EXCEEDED"),
        "{text}"
    );
}

#[tokio::test]
async fn native_grpc_passes_with_streams_and_trailers() {
    let rig = Rig::start(|_| {}).await;
    let (body, trailers) = rig
        .grpc("/steading.testing.v1.Library/Chat", &[b"\x0a\x01a", b"\x0a\x01b"])
        .await;
    assert_eq!(body, [framed(b"\x0a\x01a"), framed(b"\x0a\x01b")].concat());
    assert_eq!(trailers["grpc-status"], "0");
    let (_, trailers) = rig
        .grpc("/steading.testing.v1.Library/GetBook", &[b"\x0a\x07missing"])
        .await;
    assert_eq!(
        (
            trailers["grpc-status"].to_str().unwrap(),
            trailers["grpc-message"].to_str().unwrap()
        ),
        ("5", "no%20such%20book")
    );
    let (_, trailers) = rig.grpc("/nobody.Home/Get", &[b""]).await;
    assert_eq!(trailers["grpc-status"], "12");
}

#[tokio::test]
async fn grpc_web_carries_the_trailers_in_the_body() {
    let rig = Rig::start(|_| {}).await;
    let request = framed(b"\x0a\x01b");
    let path = "POST /steading.testing.v1.Library/GetBook";
    let answer = rig
        .http(path, &[("content-type", "application/grpc-web+proto")], &request)
        .await;
    assert_eq!(answer.header("content-type"), "application/grpc-web+proto");
    let length = u32::from_be_bytes(answer.body[1..5].try_into().unwrap()) as usize;
    let trailer = &answer.body[5 + length..];
    assert_eq!(trailer[0], 0x80);
    assert_eq!(&trailer[5..], b"grpc-status: 0\r\n");

    let base64 = base64::engine::general_purpose::STANDARD;
    let text = rig
        .http(
            path,
            &[("content-type", "application/grpc-web-text")],
            base64.encode(&request).as_bytes(),
        )
        .await;
    let mut decoded = Vec::new();
    for group in text.body.chunks(4) {
        decoded.extend(base64.decode(group).unwrap());
    }
    assert_eq!(&decoded[decoded.len() - 16..], b"grpc-status: 0\r\n");
    let failed = rig
        .http(path, &[("content-type", "application/grpc-web-text")], b"???")
        .await;
    assert_eq!(failed.header("grpc-status"), "3");
}

#[tokio::test]
async fn a_grpc_web_client_may_go_on_using_its_connection() {
    let rig = Rig::start(|_| {}).await;
    // This service answers before it has read the request.
    let head = "POST /steading.testing.v1.Library/Check HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web+proto\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    for _ in 0..3 {
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(b"5\r\n\0\0\0\0\0\r\n").await.unwrap();
        // Somebody else's call comes between, so that the first piece has arrived by itself.
        assert_eq!(watch(&rig, "a", "*/*").await.status, 200);
        client.write_all(b"0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "closed before its end");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn reflection_and_health_speak_for_all_upstreams() {
    let rig = Rig::start(|_| {}).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let (body, trailers) = rig.grpc(&path, &[b"\x3a\x00"]).await;
        assert!(
            String::from_utf8_lossy(&body).contains("steading.testing.v1.Library"),
            "{version} {trailers:?}"
        );
    }
    let (body, trailers) = rig.grpc("/grpc.health.v1.Health/Check", &[b""]).await;
    assert_eq!(
        (body, trailers["grpc-status"].to_str().unwrap()),
        (framed(&[8, 1]).to_vec(), "0")
    );
    let (body, _) = rig
        .grpc(
            "/grpc.health.v1.Health/Check",
            &[b"\x0a\x1bsteading.testing.v1.Library"],
        )
        .await;
    assert_eq!(body, framed(&[8, 1]));
    let (_, trailers) = rig.grpc("/grpc.health.v1.Health/Check", &[b"\x0a\x04nope"]).await;
    assert_eq!(trailers["grpc-status"], "5");
}

#[tokio::test]
async fn the_service_learns_that_a_client_has_gone() {
    let rig = Rig::start(|_| {}).await;
    let request = http::Request::builder()
        .uri("/v1/shelves/forever/books:watch")
        .header("host", "test")
        .body(http_body_util::Full::default())
        .unwrap();
    let mut response = rig.send(request).await;
    assert!(response.frame().await.unwrap().is_ok());
    drop(response);
    let told = async {
        while rig.gone.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
}
