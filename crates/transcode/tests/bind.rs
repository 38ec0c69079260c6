//! Requests taken apart and put together: the rows of the behaviour table that need no server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use http::Method;
use prost_reflect::DescriptorPool;
use steading_transcode::bind::{self, Body, Parts};
use steading_transcode::codec::{DecodeOptions, EncodeOptions};
use steading_transcode::{Catalog, CatalogError, InvalidRequest};
use support::{catalog, encode};

/// The request message as JSON, for `METHOD /path?query` and a body.
fn request(catalog: &Catalog, line: &str, body: &str) -> Result<String, InvalidRequest> {
    request_if(catalog, line, body, None)
}

fn request_if(catalog: &Catalog, line: &str, body: &str, if_match: Option<&str>) -> Result<String, InvalidRequest> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let matched = catalog
        .route(&method.parse::<Method>().unwrap(), path)
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let body = if body.is_empty() {
        Body::Empty
    } else {
        Body::Json(body.as_bytes())
    };
    let parts = Parts {
        path,
        query,
        body,
        if_match,
        resume: None,
    };
    let mut wire = Vec::new();
    bind::request(catalog, &matched, &parts, &DecodeOptions::default(), &mut wire)?;
    let input = catalog.method(matched.binding.method).descriptor.input();
    Ok(encode(catalog, input.name(), &wire))
}

#[test]
fn path_query_and_body_make_one_message() {
    let catalog = catalog();
    for (line, body, message) in [
        ("GET /v1/shelves/a/books/b", "", r#"{"name":"shelves/a/books/b"}"#),
        ("GET /v1/books/shelves%2Fa", "", r#"{"name":"shelves/a"}"#),
        (
            "GET /v1/shelves/a/books/b%2Fc%3Ad%2525",
            "",
            r#"{"name":"shelves/a/books/b%2Fc:d%25"}"#,
        ),
        (
            "GET /v1/shelves/a/books?pageSize=5&page_token=a%2Bb+c",
            "",
            r#"{"parent":"shelves/a","pageSize":5,"pageToken":"a+b c"}"#,
        ),
        (
            "POST /v1/shelves/a/books?bookId=b",
            r#"{"title":"t"}"#,
            r#"{"parent":"shelves/a","bookId":"b","book":{"title":"t"}}"#,
        ),
        ("POST /v1/shelves/a/books", "", r#"{"parent":"shelves/a"}"#),
        (
            "POST /v1/shelves/a/books/b:lend",
            r#"{"reader":"r"}"#,
            r#"{"name":"shelves/a/books/b","reader":"r"}"#,
        ),
        ("POST /v1/shelves/a/books/b:lend", "", r#"{"name":"shelves/a/books/b"}"#),
        ("GET /v1/files", "", "{}"),
        ("GET /v1/files/a/b%2Fc", "", r#"{"path":"a/b%2Fc"}"#),
        (
            "GET /v1/echo?aDouble=1e3&child.child.maybe=0&numbers=1&numbers=2&words=&color=COLOR_RED&colors=-1&someBytes=_w&aBool=true",
            "",
            r#"{"aDouble":1000,"aBool":true,"someBytes":"/w==","color":"COLOR_RED","child":{"child":{"maybe":0}},"numbers":[1,2],"words":[""],"colors":["COLOR_INFRARED"]}"#,
        ),
        (
            "GET /v1/echo?time=1970-01-01T00:00:01Z&span=1.5s&mask=a_b,cD&boxedInt64=7&times=1970-01-01T00:00:00Z&@custom=x&$alt=json;enum-encoding=int",
            "",
            r#"{"time":"1970-01-01T00:00:01Z","span":"1.500s","mask":"aB,cD","boxedInt64":"7","times":["1970-01-01T00:00:00Z"],"@custom":"x"}"#,
        ),
    ] {
        assert_eq!(request(&catalog, line, body).as_deref(), Ok(message), "{line}");
    }
}

#[test]
fn what_cannot_be_right_is_refused_with_its_field() {
    let catalog = catalog();
    for (line, body, field) in [
        ("GET /v1/shelves/a/books?nope=1", "", "nope"),
        ("GET /v1/shelves/a/books?pageSize=x", "", "pageSize"),
        ("GET /v1/shelves/a/books?pageSize=1&page_size=2", "", "page_size"),
        ("GET /v1/shelves/a/books?parent=shelves/a", "", "parent"),
        ("GET /v1/shelves/a/books?pageToken=%zz", "", "pageToken"),
        ("GET /v1/shelves/a/books?$alt=proto", "", "$alt"),
        ("GET /v1/shelves/a/books", r#"{"a":1}"#, ""),
        ("GET /v1/echo?child=1", "", "child"),
        ("GET /v1/echo?counts.a=1", "", "counts.a"),
        ("GET /v1/echo?places.city=1", "", "places.city"),
        ("GET /v1/echo?either=a&or.city=b&nothing=null", "", "nothing"),
        ("GET /v1/echo?color=COLOR_BLUE", "", "color"),
        ("GET /v1/echo?aBool=1", "", "aBool"),
        (
            "POST /v1/shelves/a/books?book.title=x",
            r#"{"title":"t"}"#,
            "book.title",
        ),
        ("POST /v1/shelves/a/books", r#"{"titel":"t"}"#, "book.titel"),
        ("POST /v1/shelves/a/books/b:lend?reader=x", "{}", "reader"),
        (
            "POST /v1/shelves/a/books/b:lend",
            r#"{"name":"shelves/a/books/c"}"#,
            "name",
        ),
        (
            "PATCH /v1/shelves/a/books/b",
            r#"{"name":"shelves/a/books/c"}"#,
            "book.name",
        ),
    ] {
        let error = request(&catalog, line, body).expect_err(line);
        assert_eq!(error.violations.last().unwrap().field, field, "{line}: {error}");
    }
}

#[test]
fn a_patch_without_a_mask_gets_the_paths_that_its_body_has() {
    let catalog = catalog();
    let mask = |line: &str, body: &str| {
        let message: serde_json::Value = serde_json::from_str(&request(&catalog, line, body).unwrap()).unwrap();
        message["updateMask"].as_str().map(str::to_owned)
    };
    let line = "PATCH /v1/shelves/a/books/b";
    assert_eq!(mask(line, r#"{"title":"","pages":0}"#).as_deref(), Some("title,pages"));
    assert_eq!(
        mask(
            line,
            r#"{"author":{"homeAddress":{"city":"x"}},"labels":{"a":"b"},"tags":[],"publishTime":null}"#
        )
        .as_deref(),
        Some("author.homeAddress.city,labels,tags,publishTime")
    );
    assert_eq!(
        mask(line, r#"{"author":{},"name":"shelves/a/books/b"}"#).as_deref(),
        Some("author")
    );
    assert_eq!(
        mask(&format!("{line}?updateMask=pages,author.full_name"), r#"{"title":"t"}"#).as_deref(),
        Some("pages,author.fullName")
    );
    assert_eq!(mask(line, "{}"), None);
}

#[test]
fn if_match_becomes_the_etag_of_the_request() {
    let catalog = catalog();
    let delete = request_if(&catalog, "DELETE /v1/shelves/a/books/b", "", Some("7"));
    assert_eq!(delete.as_deref(), Ok(r#"{"name":"shelves/a/books/b","etag":"7"}"#));
    let patch = request_if(&catalog, "PATCH /v1/shelves/a/books/b", r#"{"title":"t"}"#, Some("7"));
    assert_eq!(
        patch.as_deref(),
        Ok(r#"{"book":{"name":"shelves/a/books/b","etag":"7","title":"t"},"updateMask":"title"}"#)
    );
    assert!(request_if(&catalog, "PATCH /v1/shelves/a/books/b", r#"{"etag":"8"}"#, Some("7")).is_err());
}

#[test]
fn http_bodies_pass_as_they_are() {
    let catalog = catalog();
    let matched = catalog.route(&Method::PUT, "/v1/files/x").unwrap();
    assert!(matched.binding.takes_raw_body(&catalog));
    let parts = Parts {
        path: "/v1/files/x",
        query: "",
        body: Body::Raw {
            content_type: "text/plain",
            data: b"hi",
        },
        if_match: None,
        resume: None,
    };
    let mut wire = Vec::new();
    bind::request(&catalog, &matched, &parts, &DecodeOptions::default(), &mut wire).unwrap();
    assert_eq!(
        encode(&catalog, "WriteFileRequest", &wire),
        r#"{"path":"x","content":{"contentType":"text/plain","data":"aGk="}}"#
    );

    let matched = catalog.route(&Method::GET, "/v1/files/x").unwrap();
    let reply = bind::raw_response(&catalog, matched.binding, b"\x0a\x03a/b\x12\x02hi").unwrap();
    assert_eq!((reply.content_type, reply.data), ("a/b", &b"hi"[..]));
}

#[test]
fn a_response_body_is_one_field_of_the_reply() {
    let catalog = catalog();
    let matched = catalog.route(&Method::GET, "/v1/shelves/a/bareBooks").unwrap();
    let mut out = Vec::new();
    let options = EncodeOptions {
        unset: steading_transcode::codec::Unset::Omit,
        ..EncodeOptions::default()
    };
    bind::response(
        &catalog,
        matched.binding,
        b"\x0a\x00\x0a\x00",
        bind::SystemParameters::default(),
        &options,
        &mut out,
    )
    .unwrap();
    assert_eq!(out, b"[{},{}]");
}

#[test]
fn rules_that_cannot_be_served_stop_the_start_with_their_name() {
    let compile = |rules: &str| {
        let text = format!(
            "syntax = \"proto3\"; package t; import \"google/api/annotations.proto\"; message M {{ string a = 1; repeated string r = 2; M m = 3; }} \
             service S {{ {rules} }}"
        );
        let dir = std::env::temp_dir().join(format!("steading-transcode-{}-{}", std::process::id(), rules.len()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("t.proto"), text).unwrap();
        let vendor = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../api/vendor");
        let mut compiler = protox::Compiler::new([dir.clone(), vendor]).unwrap();
        compiler.include_imports(true).open_file("t.proto").unwrap();
        let set = compiler.encode_file_descriptor_set();
        std::fs::remove_dir_all(&dir).unwrap();
        Catalog::new(&[&set], &[], |_| true).map(drop)
    };
    let rule =
        |name: &str, rule: &str| format!("rpc {name}(M) returns (M) {{ option (google.api.http) = {{ {rule} }}; }} ");
    for (text, name) in [
        (rule("A", r#"get: "/v1/{b}""#), "t.S.A"),
        (rule("A", r#"get: "/v1/{r}""#), "t.S.A"),
        (rule("A", r#"get: "/v1/{m}""#), "t.S.A"),
        (rule("A", r#"get: "/v1//x""#), "t.S.A"),
        (rule("A", r#"get: "/v1/**/x""#), "t.S.A"),
        (rule("A", r#"post: "/v1" body: "b""#), "t.S.A"),
        (rule("A", r#"get: "/v1" response_body: "b""#), "t.S.A"),
        (rule("A", r#"custom: { kind: "A B" path: "/v1" }"#), "t.S.A"),
        (
            rule("A", r#"get: "/v1/{a=x/*}""#) + &rule("Bee", r#"get: "/v1/x/{m.a}""#),
            "t.S.Bee",
        ),
    ] {
        let error = compile(&text).expect_err(&text).to_string();
        assert!(error.contains(name), "{error}");
    }
    assert!(compile(&(rule("A", r#"get: "/v1/{a=x/*}""#) + &rule("B", r#"get: "/v1/{a=**}""#))).is_ok());
}

#[test]
fn sets_are_merged_and_conflicts_named() {
    let set = support::descriptor_set();
    assert!(Catalog::new(&[&set, &set], &[&set], |_| true).is_ok());
    assert!(matches!(
        Catalog::new(&[b"nonsense"], &[], |_| true),
        Err(CatalogError::NotASet)
    ));
    let none = Catalog::new(&[&set], &[], |_| false).unwrap();
    assert!(none.bindings().is_empty());
    assert!(DescriptorPool::decode(set.as_slice()).is_ok());
}
