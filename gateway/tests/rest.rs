//! REST through the gateway: replies, errors, conditions, limits.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use support::Rig;

async fn rig() -> Rig {
    Rig::start(|_| {}).await
}

#[tokio::test]
async fn a_book_is_got_with_its_etag_and_headers_forwarded() {
    let rig = rig().await;
    let headers = [
        ("authorization", "Bearer x"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("cookie", "no"),
        ("x-request-id", "me-1"),
        ("x-server-timeout", "2.5"),
    ];
    let answer = rig.http("GET /v1/shelves/a/books/b", &headers, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-request-id"), "me-1");
    assert_eq!(answer.header("etag"), "\"7%22a\"");
    let book = answer.json();
    assert_eq!(book["name"], "shelves/a/books/b");
    assert_eq!(book["labels"]["authorization"], "Bearer x");
    assert_eq!(book["labels"]["x-request-id"], "me-1");
    assert!(book["labels"]["traceparent"].is_string() && book["labels"]["grpc-timeout"].is_string());
    assert!(book["labels"]["cookie"].is_null());
    assert!(
        book["labels"]["content-length"].is_null(),
        "a service that echoes it breaks its reply"
    );

    let head = rig
        .http("HEAD /v1/shelves/a/books/b", &[("x-request-id", "me-1")], b"")
        .await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert!(head.header("content-length").parse::<usize>().unwrap() > 10);
    let fresh = rig
        .http(
            "GET /v1/shelves/a/books/b",
            &[("if-none-match", "\"x\", W/\"7%22a\"")],
            b"",
        )
        .await;
    assert_eq!((fresh.status.as_u16(), fresh.body.len()), (304, 0));

    let list = "GET /v1/shelves/a/books";
    assert_eq!(rig.http(list, &[], b"").await.header("etag"), "\"list-1\"");
    let fresh = rig.http(list, &[("if-none-match", "\"list-1\"")], b"").await;
    assert_eq!((fresh.status.as_u16(), fresh.body.len()), (304, 0));
}

#[tokio::test]
async fn if_match_reaches_the_service_as_it_was_in_the_resource() {
    let rig = rig().await;
    let answer = rig
        .http(
            "PATCH /v1/shelves/a/books/b",
            &[("if-match", "\"7%22a\""), ("content-type", "application/json")],
            br#"{"title":"x"}"#,
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let title = answer.json()["title"].as_str().unwrap().to_owned();
    assert!(
        title.contains(r"'etag':'7\'a'") && title.contains("'updateMask':'title'"),
        "{title}"
    );
    let before = rig.calls();
    for (line, etag) in [
        ("PATCH /v1/shelves/a/books/b", "nonsense"),
        ("POST /v1/shelves/a/books/b:lend", "\"7\""),
    ] {
        assert_eq!(rig.http(line, &[("if-match", etag)], b"{}").await.status, 400);
    }
    assert_eq!(rig.calls(), before);
}

#[tokio::test]
async fn errors_of_services_keep_code_message_and_known_details() {
    let rig = rig().await;
    let answer = rig.http("GET /v1/shelves/a/books/missing", &[], b"").await;
    assert_eq!(answer.status, 404);
    let error = &answer.json()["error"];
    assert_eq!(
        (
            error["code"].as_u64(),
            error["status"].as_str(),
            error["message"].as_str()
        ),
        (Some(404), Some("NOT_FOUND"), Some("no such book"))
    );
    let details = error["details"].as_array().unwrap();
    assert_eq!(details.len(), 2, "{details:?}");
    assert_eq!(
        (details[0]["reason"].as_str(), details[0]["domain"].as_str()),
        (Some("R"), Some("D"))
    );
    assert_eq!(details[1]["@type"], "type.googleapis.com/nobody.knows.This");

    let verbose = rig.http("GET /v1/shelves/a/books/verbose", &[], b"").await;
    assert_eq!(verbose.status, 400);

    let busy = rig.http("GET /v1/shelves/a/books/busy", &[], b"").await;
    assert_eq!((busy.status.as_u16(), busy.header("retry-after")), (429, "7"));
    let stranger = rig.http("GET /v1/shelves/a/books/stranger", &[], b"").await;
    assert_eq!(
        (stranger.status.as_u16(), stranger.header("www-authenticate")),
        (401, "Bearer")
    );
    for name in ["garbage", "short"] {
        let answer = rig.http(&format!("GET /v1/shelves/a/books/{name}"), &[], b"").await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"]["status"].as_str()),
            (502, Some("INTERNAL"))
        );
    }
    let late = rig
        .http("GET /v1/shelves/a/books/slow", &[("grpc-timeout", "50m")], b"")
        .await;
    assert_eq!(
        (late.status.as_u16(), late.json()["error"]["status"].as_str()),
        (504, Some("DEADLINE_EXCEEDED"))
    );
}

#[tokio::test]
async fn requests_that_cannot_be_right_reach_no_service_and_are_never_a_5xx() {
    let rig = rig().await;
    let json = ("content-type", "application/json");
    let deep = format!("{{\"value\":{}", "[".repeat(10_000));
    let long = format!("GET /v1/echo?aString={}", "x".repeat(100));
    for (line, headers, body, status) in [
        ("GET /v2/nothing", vec![], "", 404),
        ("GET /v1/shelves/a/books/b:frob", vec![], "", 404),
        ("GET /v1/shelves/a/books/", vec![], "", 404),
        ("GET /v1//shelves/a/books/b", vec![], "", 404),
        ("GET /v1/shelves/../books/b", vec![], "", 404),
        ("GET /v1/shelves/a/books/%zz", vec![], "", 400),
        ("PUT /v1/shelves/a/books/b", vec![], "", 405),
        (
            "OPTIONS /v1/shelves/a/books/b",
            vec![("origin", "http://evil"), ("access-control-request-method", "GET")],
            "",
            405,
        ),
        ("GET /v1/shelves/a/books?nope=1", vec![], "", 400),
        ("GET /v1/echo", vec![("x-server-timeout", "soon")], "", 400),
        ("GET /v1/echo", vec![("grpc-timeout", "0S")], "", 504),
        ("POST /v1/echo", vec![json], "{", 400),
        ("POST /v1/echo", vec![json], "{} trailing", 400),
        ("POST /v1/echo", vec![json], r#"{"nope":1}"#, 400),
        ("POST /v1/echo", vec![json], &deep, 400),
        ("POST /v1/echo", vec![("content-type", "text/plain")], "{}", 415),
        (
            "POST /v1/echo",
            vec![("content-type", "application/x-www-form-urlencoded")],
            "a=b",
            415,
        ),
        ("POST /v1/echo", vec![json, ("content-encoding", "br")], "{}", 415),
        ("POST /v1/echo", vec![json, ("content-encoding", "gzip")], "{}", 400),
    ] {
        let answer = rig.http(line, &headers, body.as_bytes()).await;
        assert_eq!(answer.status.as_u16(), status, "{line}: {}", answer.text());
        let error = answer.json();
        assert_eq!(error["error"]["code"].as_u64(), Some(u64::from(status)), "{line}");
        assert!(error["error"]["details"][0]["reason"].is_string(), "{line}");
        assert!(answer.header("access-control-allow-origin").is_empty());
    }
    assert_eq!(rig.calls(), 0);
    let answer = rig.http("PUT /v1/shelves/a/books/b", &[], b"").await;
    assert_eq!(answer.header("allow"), "DELETE, GET, HEAD, PATCH");
    let answer = rig.http("GET /v1/shelves/a/books?nope=1&pageSize=x", &[], b"").await;
    let violations = answer.json()["error"]["details"][1]["fieldViolations"].clone();
    assert_eq!(
        (violations[0]["field"].as_str(), violations[1]["field"].as_str()),
        (Some("nope"), Some("pageSize"))
    );
    assert_eq!(rig.http(&long, &[], b"").await.status, 200);
}

#[tokio::test]
async fn bodies_are_bounded_before_and_after_unpacking() {
    let rig = Rig::start(|config| config.limits.request_bytes = 2000).await;
    let json = ("content-type", "application/json");
    let text = format!(r#"{{"aString":"{}"}}"#, "x".repeat(1900));
    let zip = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(rig.http("POST /v1/echo", &[json], text.as_bytes()).await.status, 200);
    let zipped = rig
        .http(
            "POST /v1/echo",
            &[json, ("content-encoding", "gzip")],
            &zip(text.as_bytes()),
        )
        .await;
    assert_eq!(zipped.status, 200);
    let calls = rig.calls();
    assert_eq!(rig.http("POST /v1/echo", &[json], &[b' '; 2001]).await.status, 413);
    let bomb = rig
        .http(
            "POST /v1/echo",
            &[json, ("content-encoding", "gzip")],
            &zip(&vec![b' '; 1 << 20]),
        )
        .await;
    assert_eq!(
        (bomb.status.as_u16(), bomb.json()["error"]["status"].as_str()),
        (413, Some("RESOURCE_EXHAUSTED"))
    );
    assert_eq!(rig.calls(), calls);
}

/// The reply to a request that is written to its end before anything is read, as simple clients do.
async fn write_then_read(rig: &Rig, head: &str, chunks: &[&[u8]]) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(rig.address).await?;
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await?;
    for chunk in chunks {
        stream.write_all(chunk).await?;
    }
    let mut text = String::new();
    while !text.ends_with("}}") {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    Ok(text)
}

#[tokio::test]
async fn a_client_reads_why_its_large_body_is_refused() {
    let rig = Rig::start(|config| config.limits.request_bytes = 2000).await;
    let json = "Host: test\r\nContent-Type: application/json";
    let piece = vec![b' '; 1 << 20];
    let length = format!("POST /v1/echo HTTP/1.1\r\n{json}\r\nContent-Length: {}", 16 << 20);
    let answer = write_then_read(&rig, &length, &[piece.as_slice(); 16]).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let chunk = [b"100000\r\n".as_slice(), &piece, b"\r\n"].concat();
    let chunked = format!("POST /v1/echo HTTP/1.1\r\n{json}\r\nTransfer-Encoding: chunked");
    let mut chunks = vec![chunk.as_slice(); 16];
    chunks.push(b"0\r\n\r\n");
    let answer = write_then_read(&rig, &chunked, &chunks).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let nowhere = length.replace("/v1/echo", "/v1/nowhere");
    let answer = write_then_read(&rig, &nowhere, &[piece.as_slice(); 16]).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");

    // Who waits to be asked for the body is told at once, and sends none of it.
    let waits = format!("{length}\r\nExpect: 100-continue");
    let began = std::time::Instant::now();
    let answer = write_then_read(&rig, &waits, &[]).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn replies_are_packed_for_those_who_take_it() {
    let rig = rig().await;
    let plain = rig.http("GET /v1/shelves/a/books", &[], b"").await;
    assert!(plain.header("content-encoding").is_empty());
    assert_eq!(plain.header("vary"), "accept-encoding");
    let packed = rig
        .http("GET /v1/shelves/a/books", &[("accept-encoding", "br, gzip;q=0.5")], b"")
        .await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed.body.as_slice())
        .read_to_end(&mut text)
        .unwrap();
    assert_eq!(text, plain.body);
    assert!(packed.body.len() < plain.body.len() / 4);
    let newer = rig
        .http("GET /v1/shelves/a/books", &[("accept-encoding", "gzip, zstd")], b"")
        .await;
    assert_eq!(newer.header("content-encoding"), "zstd");
    assert_eq!(zstd::decode_all(newer.body.as_slice()).unwrap(), plain.body);
    let refused = rig
        .http("GET /v1/shelves/a/books", &[("accept-encoding", "gzip;q=0")], b"")
        .await;
    assert!(refused.header("content-encoding").is_empty());
}

#[tokio::test]
async fn a_reading_call_is_repeated_while_a_service_restarts() {
    let rig = rig().await;
    let answer = rig.http("GET /v1/shelves/a/books/restarting", &[], b"").await;
    assert_eq!((answer.status.as_u16(), rig.calls()), (200, 3));
    let answer = rig.http("GET /v1/shelves/a/books/away", &[], b"").await;
    assert_eq!((answer.status.as_u16(), rig.calls()), (503, 6), "it is given up");
    let answer = rig.http("GET /v1/shelves/a/books/busy", &[], b"").await;
    assert_eq!((answer.status.as_u16(), rig.calls()), (429, 7), "other failures stand");
    let answer = rig.http("DELETE /v1/shelves/a/books/b", &[], b"").await;
    assert_eq!((answer.status.as_u16(), rig.calls()), (200, 8));
}

#[tokio::test]
async fn raw_bodies_and_the_api_document_are_served() {
    let rig = rig().await;
    let file = rig.http("GET /v1/files/a/b", &[], b"").await;
    assert_eq!(
        (file.header("content-type"), file.text().as_str()),
        ("text/html", "<hi>")
    );
    let document = rig.http("GET /openapi.json", &[], b"").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"].as_object().unwrap().len() > 5);
}

#[tokio::test]
async fn requests_are_counted_by_template_and_native_calls_by_code() {
    let metrics = steading_runtime::metrics::Metrics::new();
    let rig = Rig::start(|config| config.metrics = Some(metrics.clone())).await;
    rig.http("GET /v1/shelves/a/books/b", &[], b"").await;
    rig.http("GET /v1/shelves/a/books/missing", &[], b"").await;
    rig.http("BREW /nothing", &[], b"").await;
    let path = "/steading.testing.v1.Library/";
    rig.grpc(&format!("{path}GetBook"), &[b"\x0a\x01b"]).await;
    rig.grpc(&format!("{path}GetBook"), &[b"\x0a\x07missing"]).await;
    rig.grpc(&format!("{path}WatchBooks"), &[b"\x0a\x06broken"]).await;
    let text = metrics.encode();
    for (method, code) in [
        ("GetBook", "OK"),
        ("GetBook", "NOT_FOUND"),
        ("WatchBooks", "UNAVAILABLE"),
    ] {
        let line = format!(r#"steading_gateway_grpc_calls_total{{route="{path}{method}",code="{code}"}} 1"#);
        assert!(text.contains(&line), "{text}");
    }
    assert!(text.contains("steading_gateway_open_requests 0"), "{text}");
    for labels in [
        r#"method="GET",route="/v1/{name=shelves/*/books/*}",status="200""#,
        r#"method="GET",route="/v1/{name=shelves/*/books/*}",status="404""#,
        r#"method="OTHER",route="unmatched",status="404""#,
    ] {
        assert!(
            text.contains(&format!(
                "steading_gateway_request_duration_seconds_count{{{labels}}} 1"
            )),
            "{text}"
        );
    }
}

#[tokio::test]
async fn configured_origins_may_call() {
    let rig = Rig::start(|config| config.cors_origins = vec!["https://good".parse().unwrap()]).await;
    let ask = |origin| {
        [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "content-type"),
        ]
    };
    let answer = rig
        .http("OPTIONS /v1/shelves/a/books/b", &ask("https://good"), b"")
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://good");
    assert_eq!(answer.header("access-control-allow-methods"), "PATCH");
    assert_eq!(
        rig.http("OPTIONS /v1/shelves/a/books/b", &ask("https://evil"), b"")
            .await
            .status,
        405
    );
    let answer = rig
        .http("GET /v1/shelves/a/books/missing", &[("origin", "https://good")], b"")
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://good");
}

#[tokio::test]
async fn an_upstream_that_is_away_is_unavailable() {
    let rig = Rig::start(|config| config.upstreams[0].uri = "http://127.0.0.1:1".parse().unwrap()).await;
    let answer = rig.http("GET /v1/shelves/a/books/b", &[], b"").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["status"].as_str()),
        (503, Some("UNAVAILABLE"))
    );
}

#[tokio::test]
async fn what_is_in_flight_may_finish_and_streams_are_told() {
    let mut rig = Rig::start(|config| config.limits.drain = Duration::from_secs(5)).await;
    let (line, request) = (
        "GET /v1/shelves/forever/books:watch",
        &[("accept", "text/event-stream")],
    );
    let cancel = rig.cancel.clone();
    let (answer, ()) = tokio::join!(rig.http(line, request, b""), async {
        while rig.calls() == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    assert!(answer.text().contains("SHUTTING_DOWN"), "{}", answer.text());
    // The gateway's task ends; the service's does not.
    tokio::time::timeout(Duration::from_secs(10), rig.tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(tokio::net::TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn what_is_unknown_is_dropped_where_that_is_wanted() {
    let rig = Rig::start(|config| config.decode.unknown = steading_transcode::codec::Unknown::Ignore).await;
    let json = ("content-type", "application/json");
    let body = br#"{"nope":[{}],"child":{"nope":1,"color":"COLOR_GREEN"},"aString":"x"}"#;
    let answer = rig.http("POST /v1/echo", &[json], body).await;
    assert_eq!(answer.json()["aString"], "x");
    let answer = rig.http("GET /v1/echo?nope=1&child.nope=2&aString=x", &[], b"").await;
    assert_eq!(answer.json()["aString"], "x");
    let wrong = rig.http("GET /v1/echo?anInt32=x", &[], b"").await;
    assert_eq!(wrong.status, 400, "what is known must be right");
}
