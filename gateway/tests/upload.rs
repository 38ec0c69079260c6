//! Streams of requests over REST.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Answer, Rig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const COLLECT: &str = "POST /v1/shelves/a/books/b:collect";
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

/// The messages that the service got.
fn got(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let messages = answer.json()["messages"].as_array().unwrap().clone();
    messages
        .iter()
        .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
        .collect()
}

#[tokio::test]
async fn each_json_value_is_a_message_and_the_path_belongs_to_the_first() {
    let rig = Rig::start(|_| {}).await;
    let expected = [
        json!({"name": "shelves/a/books/b", "reader": "x"}),
        json!({"reader": "y"}),
        json!({}),
    ];
    for (kind, body) in [
        ("application/x-ndjson", "{\"reader\":\"x\"}\n{\"reader\":\"y\"}\n{}"),
        ("application/json", "{\"reader\":\"x\"} {\"reader\":\"y\"}\n\n{}\n"),
        ("application/json", "[{\"reader\":\"x\"},{\"reader\":\"y\"},{}]"),
    ] {
        let answer = rig.http(COLLECT, &[("content-type", kind)], body.as_bytes()).await;
        assert_eq!(got(&answer), expected, "{body}");
    }
    assert_eq!(
        got(&rig.http(COLLECT, &[], b"").await),
        [json!({"name": "shelves/a/books/b"})]
    );
    let empty = rig.http("POST /v1/books:converse", &[], b"").await;
    assert_eq!((empty.status.as_u16(), empty.text().as_str()), (200, ""));
}

#[tokio::test]
async fn a_wrong_message_is_the_answer_and_the_service_hears_no_more() {
    let rig = Rig::start(|config| config.limits.request_bytes = 1000).await;
    let long = format!("{{\"reader\":\"{}\"}}", "x".repeat(1000));
    for (body, field) in [
        ("{}\n{\"nope\":1}", "nope"),
        ("{\"name\":\"shelves/evil/books/b\"}\n", "name"),
        ("{}\n{\"reader\":", ""),
        (&long, ""),
    ] {
        let answer = rig.http(COLLECT, &[LINES], body.as_bytes()).await;
        let error = answer.json();
        assert_eq!(
            (
                answer.status.as_u16(),
                &error["error"]["details"][1]["fieldViolations"][0]["field"]
            ),
            (400, &json!(field)),
            "{body}"
        );
    }
    let calls = rig.calls();
    for (line, headers, status) in [
        (COLLECT, [("content-type", "text/plain"), ("x", "y")], 415),
        (COLLECT, [LINES, ("content-encoding", "gzip")], 415),
        ("POST /v1/shelves/a/books/b:collect?nope=1", [LINES, ("x", "y")], 400),
    ] {
        assert_eq!(rig.http(line, &headers, b"{}").await.status, status);
    }
    assert_eq!(rig.calls(), calls, "none of these is worth a call");
}

#[tokio::test]
async fn a_message_is_answered_before_the_next_is_sent() {
    let rig = Rig::start(|_| {}).await;
    let mut stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let head = "POST /v1/books:converse HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    for title in ["one", "two"] {
        let line = format!("{{\"title\":\"{title}\"}}\n");
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        let answered = async {
            while !seen.contains(&format!("\"title\":\"{title}\"")) {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "{seen}");
                seen.push_str(&String::from_utf8_lossy(&piece[..read]));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), answered).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let end = async {
        while !rest.ends_with(b"0\r\n\r\n") {
            assert!(stream.read_buf(&mut rest).await.unwrap() > 0);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), end).await.unwrap();
}

#[tokio::test]
async fn a_wrong_message_midway_is_the_last_word_of_the_answers() {
    let rig = Rig::start(|_| {}).await;
    let answer = rig
        .http(
            "POST /v1/books:converse",
            &[LINES],
            b"{\"title\":\"one\"}\n{\"nope\":1}\n",
        )
        .await;
    assert!(!answer.clean || answer.status == 400, "{}", answer.text());
    assert!(answer.text().contains("INVALID_ARGUMENT"), "{}", answer.text());
}
