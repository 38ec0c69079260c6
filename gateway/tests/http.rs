//! What HTTP itself asks of a server: entity-tags, negotiation, caches, and requests that are none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::time::Duration;

use support::{Rig, framed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");
const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");

/// What the gateway says to these bytes before it closes the connection, or falls silent.
async fn said(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut text = Vec::new();
    loop {
        let read = tokio::time::timeout(Duration::from_millis(500), stream.read_buf(&mut text)).await;
        if !matches!(read, Ok(Ok(1..))) {
            return String::from_utf8_lossy(&text).into_owned();
        }
    }
}

#[tokio::test]
async fn a_well_formed_entity_tag_passes_verbatim_both_ways() {
    let rig = Rig::start(|_| {}).await;
    for (book, etag) in [("weak", "W/\"42\""), ("strong", "\"42\"")] {
        let line = format!("GET /v1/shelves/a/books/{book}");
        let answer = rig.http(&line, &[], b"").await;
        assert_eq!(answer.header("etag"), etag);
        let fresh = rig.http(&line, &[("if-none-match", etag)], b"").await;
        assert_eq!((fresh.status.as_u16(), fresh.body.len()), (304, 0), "{etag}");
        let sent = rig
            .http(
                "PATCH /v1/shelves/a/books/b",
                &[("if-match", etag), JSON],
                br#"{"title":"x"}"#,
            )
            .await;
        let title = sent.json()["title"].as_str().unwrap().to_owned();
        let field = etag.replace('"', "\\'");
        assert!(title.contains(&format!("'etag':'{field}'")), "{etag}: {title}");
    }
}

#[tokio::test]
async fn conditions_that_are_not_served_are_refused() {
    let rig = Rig::start(|_| {}).await;
    for (line, headers) in [
        ("PATCH /v1/shelves/a/books/b", &[("if-none-match", "*"), JSON][..]),
        (
            "PATCH /v1/shelves/a/books/b",
            &[("if-match", "\"a\""), ("if-match", "\"b\""), JSON],
        ),
        ("PATCH /v1/shelves/a/books/b", &[("if-match", "\"a\", \"b\""), JSON]),
        ("GET /v1/shelves/a/books/b", &[("if-match", "\"a\"")]),
    ] {
        let answer = rig.http(line, headers, b"").await;
        assert_eq!(answer.status, 400, "{line} {headers:?}");
        assert!(answer.text().contains("If-"), "{}", answer.text());
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn the_weights_of_all_accept_lines_choose_the_form_of_a_stream() {
    let rig = Rig::start(|_| {}).await;
    let watch = "GET /v1/shelves/a/books:watch";
    for (accept, kind) in [
        (
            &["text/event-stream;q=0, application/x-ndjson"][..],
            "application/x-ndjson",
        ),
        (&["application/json;q=0.5", "text/event-stream"], "text/event-stream"),
        (&["application/json, text/event-stream;q=0.9"], "application/json"),
    ] {
        let headers: Vec<_> = accept.iter().map(|line| ("accept", *line)).collect();
        let answer = rig.http(watch, &headers, b"").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, kind),
            "{accept:?}"
        );
    }
    let before = rig.calls();
    let none = rig.http(watch, &[("accept", "*/*;q=0")], b"").await;
    assert_eq!((none.status.as_u16(), rig.calls()), (406, before));
}

#[tokio::test]
async fn caches_learn_that_answers_depend_on_the_origin_whatever_it_is() {
    let rig = Rig::start(|config| config.cors_origins = vec!["https://console.test".parse().unwrap()]).await;
    let line = "GET /v1/shelves/a/books/b";
    for headers in [
        &[][..],
        &[("origin", "https://other.test")],
        &[("origin", "https://console.test")],
    ] {
        let answer = rig.http(line, headers, b"").await;
        assert!(answer.header("vary").contains("origin"), "{headers:?}");
    }
    let rig = Rig::start(|_| {}).await;
    assert_eq!(rig.http(line, &[], b"").await.header("vary"), "");
}

#[tokio::test]
async fn messages_that_services_would_not_take_for_their_depth_are_400() {
    let rig = Rig::start(|_| {}).await;
    let lists = |levels: usize| format!("{{\"value\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let children = |levels: usize| format!("{}{{}}{}", "{\"child\":".repeat(levels), "}".repeat(levels));
    for body in [lists(51), children(99)] {
        let answer = rig.http("POST /v1/echo", &[JSON], body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert_eq!(rig.calls(), 0);
    for body in [lists(45), children(95)] {
        assert_eq!(rig.http("POST /v1/echo", &[JSON], body.as_bytes()).await.status, 200);
    }
}

#[tokio::test]
async fn a_content_type_is_one_that_can_be_read_and_is_utf_8() {
    let rig = Rig::start(|_| {}).await;
    for (headers, status) in [
        (&[("content-type", "application/json; charset=utf-16")][..], 415),
        (&[("content-type", "application/json; a=b; charset=\"UTF-8\"")], 200),
        (&[JSON, JSON], 400),
        (&[JSON, ("content-type", "text/plain")], 400),
    ] {
        let answer = rig.http("POST /v1/echo", headers, b"{}").await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}: {}", answer.text());
    }
    let unreadable =
        b"POST /v1/echo HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\xe9\r\nContent-Length: 2\r\n\r\n{}";
    assert!(said(&rig, unreadable).await.starts_with("HTTP/1.1 415"));
}

#[tokio::test]
async fn a_request_has_one_host() {
    let rig = Rig::start(|_| {}).await;
    for (hosts, status) in [
        ("", "400"),
        ("Host: a\r\nHost: a\r\n", "400"),
        ("Host: a, b\r\n", "400"),
        ("Host: user@a\r\n", "400"),
        ("Host: \r\n", "200"),
        ("Host: a:8080\r\n", "200"),
        ("Host: [::1]:80\r\n", "200"),
    ] {
        let request = format!("GET /v1/shelves/a/books/b HTTP/1.1\r\n{hosts}\r\n");
        let answer = said(&rig, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{hosts:?}: {answer}");
    }
}

#[tokio::test]
async fn a_transfer_coding_that_is_not_served_is_501() {
    let rig = Rig::start(|_| {}).await;
    let head = "POST /v1/echo HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nTransfer-Encoding: ";
    for (coding, status) in [("gzip, chunked", "501"), ("chunked", "200")] {
        let request = format!("{head}{coding}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
        let answer = said(&rig, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{coding}: {answer}");
    }
}

#[tokio::test]
async fn a_target_that_is_too_long_is_414_and_large_headers_are_431() {
    let rig = Rig::start(|_| {}).await;
    let long = format!("GET /v1/{} HTTP/1.1\r\nHost: t\r\n\r\n", "x".repeat(70_000));
    assert!(said(&rig, long.as_bytes()).await.starts_with("HTTP/1.1 414"));
    let large = format!("GET /v1/echo HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    assert!(said(&rig, large.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let rig = Rig::start(|config| config.limits.header_bytes = 1000).await;
    let long = rig.http(&format!("GET /v1/{}", "x".repeat(1000)), &[], b"").await;
    assert_eq!(long.status, 414);
    assert!(long.json()["error"]["message"].as_str().unwrap().contains("1000"));
}

#[tokio::test]
async fn native_grpc_over_http_1_is_refused() {
    let rig = Rig::start(|_| {}).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    for path in ["steading.testing.v1.Library/Echo", "grpc.health.v1.Health/Check"] {
        let answer = rig.http(&format!("POST /{path}"), &headers, &framed(b"")).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains("HTTP/2"), "{}", answer.text());
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn grpc_web_passes_on_what_rest_passes_on() {
    let mut request = Vec::new();
    steading_transcode::wire::put_bytes(&mut request, 1, b"shelves/a/books/b");
    let sent = [
        WEB,
        ("cookie", "a=b"),
        ("x-forwarded-for", "1.2.3.4"),
        ("authorization", "Bearer x"),
        ("x-extra", "yes"),
        ("x-request-id", "mine"),
    ];
    for (forward, extra) in [(vec![], false), (vec!["x-extra".parse().unwrap()], true)] {
        let rig = Rig::start(|config| config.forward_headers = forward).await;
        let answer = rig
            .http("POST /steading.testing.v1.Library/GetBook", &sent, &framed(&request))
            .await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{text}");
        assert!(!text.contains("cookie") && !text.contains("1.2.3.4"), "{text}");
        assert!(text.contains("Bearer x") && text.contains("mine"), "{text}");
        assert_eq!(text.contains("x-extra"), extra, "{text}");
    }
}
