//! Every row of the table of behaviour in `docs/gateway.md`, a test each, in its order.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use steading_gateway::{Config, Error, Gateway, Route};
use steading_transcode::CatalogError;
use support::{Answer, Rig};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn rig() -> Rig {
    Rig::start(|_| {}).await
}

async fn get(rig: &Rig, path: &str) -> Answer {
    rig.http(&format!("GET {path}"), &[], b"").await
}

async fn echo(rig: &Rig, body: &str) -> Answer {
    rig.http("POST /v1/echo", &[JSON], body.as_bytes()).await
}

/// The message that the service got, which it sends back as text.
fn got(answer: &Answer, field: &str) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(answer.json()[field].as_str().unwrap()).unwrap()
}

/// The field of the first violation.
#[track_caller]
fn violation(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = answer.json();
    let details = error["error"]["details"].as_array().unwrap();
    let bad = details
        .iter()
        .find(|detail| detail["@type"].as_str().unwrap().ends_with("BadRequest"));
    bad.unwrap()["fieldViolations"][0]["field"].as_str().unwrap().to_owned()
}

/// A gateway on a service with one method of this rule.
fn served(rule: &str) -> Result<Gateway, Error> {
    let source = format!(
        r#"syntax = "proto3"; package t; import "google/api/annotations.proto";
        service S {{
          rpc First(M) returns (M) {{ option (google.api.http) = {{get: "/v1/{{name=a/*}}"}}; }}
          rpc Second(M) returns (M) {{ option (google.api.http) = {{{rule}}}; }}
        }}
        message M {{ string name = 1; repeated string many = 2; M inner = 3; }}"#
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.proto"), source).unwrap();
    let vendor = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crates/api/vendor");
    let mut compiler = protox::Compiler::new([folder.path().to_path_buf(), vendor]).unwrap();
    compiler.include_imports(true).open_file("t.proto").unwrap();
    let route = Route {
        service: String::new(),
        uri: "http://127.0.0.1:1".parse().unwrap(),
    };
    Gateway::new(Config::new(
        vec![compiler.encode_file_descriptor_set().into()],
        vec![route],
    ))
}

#[tokio::test]
async fn templates_with_variables_of_segments_double_stars_and_verbs() {
    let rig = rig().await;
    for (line, name) in [
        ("GET /v1/shelves/a/books/b", "shelves/a/books/b"),
        ("GET /v1/books/b", "b"),
        ("POST /v1/shelves/a/books/b:lend", "shelves/a/books/b"),
    ] {
        let answer = rig.http(line, &[JSON], b"").await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{line}: {text}");
        assert!(text.contains(name), "{line}: {text}");
    }
    let written = rig
        .http("PUT /v1/files/a/b/c.txt", &[("content-type", "text/plain")], b"x")
        .await;
    assert_eq!(got(&written, "aString")["path"], "a/b/c.txt");
    for (rule, part) in [
        (r#"get: "/v1/{name=a/*""#, "/v1/{name=a/*"),
        (r#"get: "/v1/**/x""#, "/v1/**/x"),
        (r#"get: "/v1/{nobody}""#, "nobody"),
        (r#"get: "/v1/{many}""#, "many"),
        (r#"get: "/v1/{inner}""#, "inner"),
        (r#"post: "/v1/x" body: "nobody""#, "nobody"),
        (r#"get: "/v1/x" response_body: "nobody""#, "nobody"),
        (r#"get: "/v1/{inner.name=a/*}""#, "/v1/{inner.name=a/*}"),
    ] {
        let Err(Error::Catalog(error)) = served(rule) else {
            panic!("{rule} is served");
        };
        let text = error.to_string();
        assert!(text.contains("t.S.Second") && text.contains(part), "{rule}: {text}");
    }
    assert!(matches!(
        served(r#"get: "/v1/a/{name}""#),
        Err(Error::Catalog(CatalogError::Ambiguous { .. }))
    ));
    assert!(served(r#"post: "/v1/a/{name}" body: "*""#).is_ok());
}

#[tokio::test]
async fn an_unknown_verb_on_an_existing_path_is_404() {
    let rig = rig().await;
    let answer = rig.http("POST /v1/shelves/a/books/b:burn", &[JSON], b"{}").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"]["status"].as_str()),
        (404, Some("NOT_FOUND"))
    );
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn an_escaped_colon_in_the_last_segment_is_data() {
    let rig = rig().await;
    assert_eq!(
        get(&rig, "/v1/shelves/a/books/b%3Alend").await.json()["name"],
        "shelves/a/books/b:lend"
    );
    assert_eq!(
        rig.http("POST /v1/shelves/a/books/b%3Alend", &[JSON], b"{}")
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn an_escaped_slash_stays_escaped_in_a_variable_of_several_segments() {
    let rig = rig().await;
    assert_eq!(
        get(&rig, "/v1/shelves/a/books/b%2Fc").await.json()["name"],
        "shelves/a/books/b%2Fc"
    );
    assert_eq!(
        get(&rig, "/v1/shelves/a/books/b%2fc").await.json()["name"],
        "shelves/a/books/b%2fc"
    );
    assert_eq!(
        get(&rig, "/v1/books/b%2Fc").await.json()["name"],
        "b/c",
        "of one segment it is data"
    );
}

#[tokio::test]
async fn a_percent_sign_is_decoded_exactly_once() {
    let rig = rig().await;
    assert_eq!(get(&rig, "/v1/books/100%25").await.json()["name"], "100%");
    assert_eq!(get(&rig, "/v1/books/%2541").await.json()["name"], "%41");
    assert_eq!(
        get(&rig, "/v1/echo?aString=%2541%2b+x").await.json()["aString"],
        "%41+ x"
    );
}

#[tokio::test]
async fn a_malformed_escape_is_400() {
    let rig = rig().await;
    for path in [
        "/v1/books/%zz",
        "/v1/books/%4",
        "/v1/books/%",
        "/v1/books/%ff",
        "/v1/echo?aString=%zz",
        "/v1/echo?%zz=1",
    ] {
        assert_eq!(get(&rig, path).await.status, 400, "{path}");
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn paths_are_never_normalised() {
    let rig = rig().await;
    for path in [
        "/v1/shelves/a/books/b/",
        "/v1//shelves/a/books/b",
        "/v1/shelves/a//books/b",
        "/v1/x/../shelves/a/books/b",
        "/v1/./echo",
        "/v1/shelves/../books/b",
        "/v1/shelves/%2e%2e/books/b",
        "//v1/echo",
        "/v1/echo/",
    ] {
        assert_eq!(get(&rig, path).await.status, 404, "{path}");
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn a_wrong_method_is_405_and_tells_the_right_ones() {
    let rig = rig().await;
    let answer = rig.http("PUT /v1/shelves/a/books/b", &[], b"").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("allow")),
        (405, "DELETE, GET, HEAD, PATCH")
    );
    assert_eq!(answer.json()["error"]["code"], 405);
    let answer = rig.http("SEARCH /v1/shelves/a/books", &[], b"").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["nextPageToken"].as_str()),
        (200, Some("next"))
    );
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let rig = rig().await;
    let (head, get) = (
        rig.http("HEAD /v1/shelves/a/books/b", &[], b"").await,
        get(&rig, "/v1/shelves/a/books/b").await,
    );
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(
        (head.header("etag"), head.header("content-type")),
        (get.header("etag"), get.header("content-type"))
    );
    assert!(head.header("content-length").parse::<usize>().unwrap() > 20);
    assert_eq!(rig.http("HEAD /v1/shelves/a/books/missing", &[], b"").await.status, 404);
}

#[tokio::test]
async fn cross_origin_calls_are_denied_unless_configured() {
    let ask = [("origin", "https://app"), ("access-control-request-method", "GET")];
    let line = "OPTIONS /v1/shelves/a/books/b";
    let closed = rig().await;
    let answer = closed.http(line, &ask, b"").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (405, "")
    );
    let open = Rig::start(|config| config.cors_origins = vec!["https://app".parse().unwrap()]).await;
    let answer = open.http(line, &ask, b"").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (204, "https://app")
    );
}

#[tokio::test]
async fn an_unknown_query_parameter_is_400_with_its_name() {
    let rig = rig().await;
    for (path, field) in [
        ("/v1/shelves/a/books?nope=1", "nope"),
        ("/v1/echo?child.nope=1", "child.nope"),
        ("/v1/echo?aString.x=1", "aString.x"),
        ("/v1/echo?counts=1", "counts"),
        ("/v1/echo?color=GREEN", "color"),
        ("/v1/shelves/a/books?parent=shelves/b", "parent"),
    ] {
        assert_eq!(violation(&get(&rig, path).await), field, "{path}");
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn an_unknown_field_of_the_body_is_400_with_its_path() {
    let rig = rig().await;
    for (body, field) in [
        (r#"{"nope":1}"#, "nope"),
        (r#"{"child":{"nope":1}}"#, "child.nope"),
        (r#"{"places":[{"city":"x"},{"nope":1}]}"#, "places[1].nope"),
    ] {
        assert_eq!(violation(&echo(&rig, body).await), field);
    }
    assert_eq!(rig.calls(), 0);
}

#[tokio::test]
async fn an_unknown_name_of_an_enum_is_400() {
    let rig = rig().await;
    assert_eq!(violation(&echo(&rig, r#"{"color":"COLOR_GREEN"}"#).await), "color");
    assert_eq!(
        violation(&echo(&rig, r#"{"colors":["COLOR_RED","x"]}"#).await),
        "colors[1]"
    );
    assert_eq!(
        echo(&rig, r#"{"color":7}"#).await.json()["color"],
        7,
        "numbers are open"
    );
}

#[tokio::test]
async fn what_is_given_twice_is_400() {
    let rig = rig().await;
    assert_eq!(violation(&get(&rig, "/v1/echo?aString=a&aString=b").await), "aString");
    assert_eq!(violation(&get(&rig, "/v1/echo?aString=a&a_string=b").await), "a_string");
    assert_eq!(
        violation(&echo(&rig, r#"{"aString":"a","aString":"b"}"#).await),
        "aString"
    );
    assert_eq!(
        violation(&echo(&rig, r#"{"aString":"a","a_string":"b"}"#).await),
        "a_string"
    );
    assert_eq!(violation(&echo(&rig, r#"{"either":"a","or":{}}"#).await), "or");
    assert_eq!(
        violation(&get(&rig, "/v1/echo?either=a&nothing=NULL_VALUE").await),
        "nothing"
    );
    let many = get(&rig, "/v1/echo?numbers=1&numbers=2").await;
    assert_eq!(many.json()["numbers"], json!([1, 2]));
}

#[tokio::test]
async fn garbage_after_the_json_is_400() {
    let rig = rig().await;
    for body in ["{}x", "{} {}", "{},", "{}]", "{}\0"] {
        assert_eq!(echo(&rig, body).await.status, 400, "{body}");
    }
    assert_eq!(echo(&rig, "\r\n {} \t\n").await.status, 200);
    assert_eq!(rig.calls(), 1);
}

#[tokio::test]
async fn a_query_parameter_for_what_is_in_the_body_is_400() {
    let rig = rig().await;
    let line = "POST /v1/shelves/a/books?book.title=x";
    assert_eq!(violation(&rig.http(line, &[JSON], b"{}").await), "book.title");
    assert_eq!(
        violation(&rig.http("POST /v1/echo?aString=x", &[JSON], b"{}").await),
        "aString"
    );
    let beside = rig
        .http("POST /v1/shelves/a/books?bookId=x", &[JSON], br#"{"title":"t"}"#)
        .await;
    assert_eq!(
        got(&beside, "title"),
        json!({"parent": "shelves/a", "bookId": "x", "book": {"title": "t"}})
    );
}

#[tokio::test]
async fn path_and_body_must_not_differ() {
    let rig = rig().await;
    let lend = "POST /v1/shelves/a/books/b:lend";
    let differs = rig.http(lend, &[JSON], br#"{"name":"shelves/evil/books/b"}"#).await;
    assert_eq!(violation(&differs), "name");
    let patch = "PATCH /v1/shelves/a/books/b";
    assert_eq!(
        violation(&rig.http(patch, &[JSON], br#"{"name":"shelves/evil/books/b"}"#).await),
        "book.name"
    );
    assert_eq!(rig.calls(), 0);
    let same = rig
        .http(lend, &[JSON], br#"{"name":"shelves/a/books/b","reader":"r"}"#)
        .await;
    assert_eq!(got(&same, "title"), json!({"name": "shelves/a/books/b", "reader": "r"}));
}

#[tokio::test]
async fn the_largest_float_passes() {
    let rig = rig().await;
    let answer = echo(&rig, r#"{"aFloat":3.4028235e38,"aDouble":1.7976931348623157e308}"#).await;
    assert_eq!(answer.json()["aFloat"], json!(3.402_823_5e38));
    assert_eq!(violation(&echo(&rig, r#"{"aFloat":3.5e38}"#).await), "aFloat");
    assert_eq!(echo(&rig, r#"{"anInt32":1e5}"#).await.json()["anInt32"], 100_000);
    assert_eq!(violation(&echo(&rig, r#"{"anInt32":1.5}"#).await), "anInt32");
}

#[tokio::test]
async fn unset_scalars_are_emitted_and_unset_messages_are_not() {
    let emitting = rig().await;
    let reply = echo(&emitting, "{}").await.json();
    assert_eq!(
        (&reply["aString"], &reply["anInt64"], &reply["numbers"]),
        (&json!(""), &json!("0"), &json!([]))
    );
    assert_eq!(
        (&reply["color"], &reply["counts"]),
        (&json!("COLOR_UNSPECIFIED"), &json!({}))
    );
    for unset in ["child", "maybe", "time", "either", "or"] {
        assert!(reply.get(unset).is_none(), "{unset}");
    }
    let omitting = Rig::start(|config| config.encode.unset = steading_transcode::codec::Unset::Omit).await;
    assert_eq!(echo(&omitting, "{}").await.text(), "{}");
}

#[tokio::test]
async fn a_content_type_other_than_json_is_415() {
    let rig = rig().await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
    ] {
        let answer = rig.http("POST /v1/echo", &[("content-type", kind)], b"{}").await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"]["code"].as_u64()),
            (415, Some(415)),
            "{kind}"
        );
    }
    assert_eq!(rig.calls(), 0);
    for kind in [
        "application/json; charset=utf-8",
        "application/merge-patch+json",
        "Application/JSON",
    ] {
        assert_eq!(
            rig.http("POST /v1/echo", &[("content-type", kind)], b"{}").await.status,
            200,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn bodies_and_their_fields_and_further_bindings() {
    let rig = rig().await;
    let whole = rig
        .http("POST /v1/shelves/a/books/b:lend", &[JSON], br#"{"reader":"r"}"#)
        .await;
    assert_eq!(got(&whole, "title")["reader"], "r");
    let field = rig.http("POST /v1/shelves/a/books", &[JSON], br#"{"title":"t"}"#).await;
    assert_eq!(got(&field, "title")["book"]["title"], "t");
    let bare = get(&rig, "/v1/shelves/a/bareBooks").await.json();
    assert_eq!(bare[0]["title"], "t");
    assert_eq!(get(&rig, "/v1/books/b").await.json()["name"], "b");
    let calls = rig.calls();
    assert_eq!(
        rig.http("DELETE /v1/shelves/a/books/b", &[JSON], br#"{"x":1}"#)
            .await
            .status,
        400
    );
    assert_eq!(rig.calls(), calls);
}

#[tokio::test]
async fn a_patch_without_a_mask_changes_what_its_body_holds() {
    let rig = rig().await;
    let mask = async |query: &str, body: &str| {
        let line = format!("PATCH /v1/shelves/a/books/b{query}");
        let answer = rig.http(&line, &[JSON], body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.json()["title"].as_str().unwrap().replace('\'', "\"");
        serde_json::from_str::<Value>(&text).unwrap()["updateMask"].clone()
    };
    assert_eq!(mask("", r#"{"title":"t","pages":0}"#).await, "title,pages");
    assert_eq!(
        mask("", r#"{"author":{"fullName":"x","homeAddress":{"city":"y"}}}"#).await,
        "author.fullName,author.homeAddress.city"
    );
    assert_eq!(mask("", r#"{"tags":["a"],"labels":{"k":"v"}}"#).await, "tags,labels");
    assert_eq!(
        mask("", r#"{"publishTime":"2026-01-01T00:00:00Z"}"#).await,
        "publishTime"
    );
    assert_eq!(mask("", r#"{"title":null,"author":{}}"#).await, "title,author");
    assert_eq!(mask("?updateMask=pages", r#"{"title":"t"}"#).await, "pages");
    assert_eq!(mask("", "{}").await, Value::Null);
}

#[tokio::test]
async fn a_stream_is_lines_or_events_or_an_array_as_accepted() {
    let rig = rig().await;
    let path = "GET /v1/shelves/a/books:watch";
    for (accept, kind) in [
        ("application/x-ndjson", "application/x-ndjson"),
        ("*/*", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
        ("application/json", "application/json"),
        ("text/html, text/event-stream;q=0.5", "text/event-stream"),
    ] {
        let answer = rig.http(path, &[("accept", accept)], b"").await;
        assert_eq!((answer.header("content-type"), answer.clean), (kind, true), "{accept}");
    }
}

#[tokio::test]
async fn a_stream_that_fails_says_so_and_does_not_end_cleanly() {
    let rig = rig().await;
    for accept in ["application/x-ndjson", "text/event-stream", "application/json"] {
        let answer = rig
            .http("GET /v1/shelves/broken/books:watch", &[("accept", accept)], b"")
            .await;
        assert!(
            !answer.clean && answer.text().contains(r#""status":"UNAVAILABLE""#),
            "{}",
            answer.text()
        );
    }
    assert!(!get(&rig, "/v1/downloads/broken").await.clean);
    let before = get(&rig, "/v1/downloads/missing").await;
    assert_eq!(before.status, 404, "an error before the first message is the answer");
}

#[tokio::test]
async fn raw_bodies_pass_up_and_down() {
    let rig = rig().await;
    let down = get(&rig, "/v1/files/a/b").await;
    assert_eq!(
        (down.header("content-type"), down.text().as_str()),
        ("text/html", "<hi>")
    );
    let up = rig
        .http("PUT /v1/files/a/b", &[("content-type", "image/png")], &[0xff, 0, 1])
        .await;
    let content = json!({"contentType": "image/png", "data": "/wAB"});
    assert_eq!(got(&up, "aString"), json!({"path": "a/b", "content": content}));
    let pieces = get(&rig, "/v1/downloads/a").await;
    assert_eq!(
        (pieces.header("content-type"), pieces.text().as_str()),
        ("text/html", "<hi></hi>")
    );
    let pieces = rig
        .http("POST /v1/uploads/a/b", &[("content-type", "image/png")], &[0xff, 0, 1])
        .await;
    let first: Value = serde_json::from_str(pieces.json()["messages"][0].as_str().unwrap()).unwrap();
    assert_eq!(first, json!({"path": "a/b", "content": content}));
}

#[tokio::test]
async fn errors_have_one_shape_whoever_makes_them() {
    let rig = Rig::start(|config| {
        config.limits.request_bytes = 100;
        config.rate_limits = vec![
            steading_gateway::RateLimit::parse(
                steading_gateway::Whose::Caller,
                "steading.testing.v1.Library/DeleteBook=1/h",
            )
            .unwrap(),
        ];
    })
    .await;
    assert_eq!(rig.http("DELETE /v1/shelves/a/books/b", &[], b"").await.status, 200);
    let large = vec![b' '; 101];
    for (line, headers, body, status, name) in [
        ("GET /v1/shelves/a/books/missing", vec![], &b""[..], 404, "NOT_FOUND"),
        ("GET /nowhere", vec![], b"", 404, "NOT_FOUND"),
        ("PUT /v1/echo", vec![], b"", 405, "UNIMPLEMENTED"),
        ("POST /v1/echo", vec![JSON], &large, 413, "RESOURCE_EXHAUSTED"),
        (
            "POST /v1/echo",
            vec![("content-type", "text/plain")],
            b"x",
            415,
            "INVALID_ARGUMENT",
        ),
        ("DELETE /v1/shelves/a/books/b", vec![], b"", 429, "RESOURCE_EXHAUSTED"),
        ("GET /v1/shelves/a/books/busy", vec![], b"", 429, "RESOURCE_EXHAUSTED"),
    ] {
        let answer = rig.http(line, &headers, body).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(
            (error["code"].as_u64(), error["status"].as_str()),
            (Some(u64::from(status)), Some(name)),
            "{line}"
        );
        assert!(
            !error["message"].as_str().unwrap().is_empty() && error["details"].is_array(),
            "{line}"
        );
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let details = get(&rig, "/v1/shelves/a/books/missing").await.json()["error"]["details"].clone();
    let types: Vec<&str> = details
        .as_array()
        .unwrap()
        .iter()
        .map(|detail| detail["@type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "type.googleapis.com/google.rpc.ErrorInfo",
            "type.googleapis.com/nobody.knows.This"
        ]
    );
}

#[tokio::test]
async fn who_is_not_known_is_challenged() {
    let (rig, line) = (rig().await, "GET /v1/shelves/a/books/stranger");
    let answer = rig.http(line, &[], b"").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("www-authenticate")),
        (401, "Bearer")
    );
    let answer = rig.http(line, &[("authorization", "Bearer x")], b"").await;
    assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
}

#[tokio::test]
async fn headers_in_are_those_of_the_list() {
    let rig = Rig::start(|config| config.forward_headers = vec![http::HeaderName::from_static("x-extra")]).await;
    let headers = [
        ("authorization", "Bearer x"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=b"),
        ("baggage", "k=v"),
        ("x-request-id", "me-1"),
        ("x-extra", "more"),
        ("cookie", "no"),
        ("x-forwarded-for", "no"),
    ];
    let answer = rig.http("GET /v1/shelves/a/books/b", &headers, b"").await;
    let seen = answer.json()["labels"].clone();
    for (name, value) in &headers[..6] {
        assert_eq!(seen[name], *value, "{name}");
    }
    assert!(seen["cookie"].is_null() && seen["x-forwarded-for"].is_null());
    assert_eq!(answer.header("x-request-id"), "me-1");
}

#[tokio::test]
async fn headers_out_are_native() {
    let rig = rig().await;
    assert_eq!(get(&rig, "/v1/shelves/a/books/b").await.header("etag"), "\"7%22a\"");
    assert_eq!(
        get(&rig, "/v1/shelves/a/books/moved").await.header("location"),
        "/v1/shelves/a/books/new"
    );
    assert_eq!(get(&rig, "/v1/shelves/a/books/busy").await.header("retry-after"), "7");
}

#[tokio::test]
async fn conditions_become_the_requests_etag_or_304() {
    let rig = rig().await;
    let delete = rig
        .http("DELETE /v1/shelves/a/books/b", &[("if-match", "\"x\"")], b"")
        .await;
    assert_eq!(delete.status, 200);
    assert_eq!(
        rig.http("GET /v1/shelves/a/books/b", &[("if-none-match", "\"7%22a\"")], b"")
            .await
            .status,
        304
    );
    assert_eq!(
        rig.http("GET /v1/shelves/a/books/b", &[("if-none-match", "\"8\"")], b"")
            .await
            .status,
        200
    );
    let document = get(&rig, "/openapi.json").await;
    let again = rig
        .http("GET /openapi.json", &[("if-none-match", document.header("etag"))], b"")
        .await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
}

#[tokio::test]
async fn replies_are_compressed_and_requests_unpacked_within_a_cap() {
    use std::io::Write as _;
    let rig = Rig::start(|config| config.limits.request_bytes = 1000).await;
    for coding in ["gzip", "zstd"] {
        let answer = rig
            .http("GET /v1/shelves/a/books", &[("accept-encoding", coding)], b"")
            .await;
        assert_eq!(
            (answer.header("content-encoding"), answer.header("vary")),
            (coding, "accept-encoding")
        );
    }
    let zip = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let zipped = [JSON, ("content-encoding", "gzip")];
    assert_eq!(
        rig.http("POST /v1/echo", &zipped, &zip(br#"{"aString":"x"}"#))
            .await
            .json()["aString"],
        "x"
    );
    assert_eq!(
        rig.http("POST /v1/echo", &zipped, &zip(&vec![b' '; 1 << 20]))
            .await
            .status,
        413
    );
}

#[tokio::test]
async fn bodies_have_limits_both_ways() {
    let rig = Rig::start(|config| (config.limits.request_bytes, config.limits.reply_bytes) = (1000, 1000)).await;
    assert_eq!(rig.http("POST /v1/echo", &[JSON], &[b' '; 1001]).await.status, 413);
    let reply = get(&rig, "/v1/shelves/a/books").await;
    assert_eq!(reply.json()["error"]["details"][0]["reason"], "REPLY_TOO_LARGE");
}

#[tokio::test]
async fn deadlines_are_clamped_and_always_sent() {
    let rig = Rig::start(|config| {
        config.limits.default_deadline = Duration::from_secs(7);
        config.limits.max_deadline = Duration::from_secs(9);
    })
    .await;
    let sent = async |headers: &[(&str, &str)]| {
        let answer = rig.http("GET /v1/shelves/a/books/b", headers, b"").await;
        let text = answer.json()["labels"]["grpc-timeout"].as_str().unwrap().to_owned();
        let (digits, unit) = text.split_at(text.len() - 1);
        let scale = match unit {
            "n" => 1e-9,
            "u" => 1e-6,
            "m" => 1e-3,
            _ => 1.0,
        };
        digits.parse::<f64>().unwrap() * scale
    };
    for (headers, most) in [
        (vec![], 7.0),
        (vec![("grpc-timeout", "2S")], 2.0),
        (vec![("x-server-timeout", "1.5")], 1.5),
        (vec![("grpc-timeout", "1H")], 9.0),
    ] {
        let left = sent(&headers).await;
        assert!(left < most && left > most - 1.0, "{headers:?}: {left}");
    }
    let late = rig
        .http("GET /v1/shelves/a/books/slow", &[("x-server-timeout", "0.05")], b"")
        .await;
    assert_eq!(late.status, 504);
}

#[tokio::test]
async fn a_method_without_a_rule_is_native_only() {
    let rig = rig().await;
    let (_, trailers) = rig.grpc("/steading.testing.v1.Library/Hidden", &[b""]).await;
    assert_eq!(trailers["grpc-message"], "nobody home", "the service answered");
    let rest = rig
        .http("POST /steading.testing.v1.Library/Hidden", &[JSON], b"{}")
        .await;
    assert_eq!(rest.status, 404);
}

#[tokio::test]
async fn the_api_document_is_served_with_its_comments() {
    let document = get(&rig().await, "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let operation = &document["paths"]["/v1/shelves/{shelf}/books/{book}"]["get"];
    assert_eq!(operation["summary"], "Gets a book");
    assert_eq!(operation["responses"]["404"]["$ref"], "#/components/responses/NotFound");
}

#[tokio::test]
async fn grpc_and_grpc_web_and_reflection_and_health_share_the_port() {
    let rig = rig().await;
    let (_, trailers) = rig.grpc("/steading.testing.v1.Library/GetBook", &[b"\x0a\x01b"]).await;
    assert_eq!(trailers["grpc-status"], "0");
    let web = [("content-type", "application/grpc-web+proto")];
    let answer = rig
        .http(
            "POST /steading.testing.v1.Library/GetBook",
            &web,
            &support::framed(b"\x0a\x01b"),
        )
        .await;
    assert!(answer.text().contains("grpc-status: 0"));
    for service in ["reflection.v1.ServerReflection", "reflection.v1alpha.ServerReflection"] {
        let (body, _) = rig
            .grpc(&format!("/grpc.{service}/ServerReflectionInfo"), &[b"\x3a\x00"])
            .await;
        assert!(String::from_utf8_lossy(&body).contains("steading.testing.v1.Library"));
    }
    let (body, _) = rig.grpc("/grpc.health.v1.Health/Check", &[b""]).await;
    assert_eq!(body, support::framed(&[8, 1]));
}
