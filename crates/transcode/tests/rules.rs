//! Rules in every form that `google.api.http` allows, on contracts of their own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure in a function beside a test is a failed test"
)]

use std::path::PathBuf;

use http::Method;
use steading_transcode::bind::{self, Body, Parts};
use steading_transcode::codec::{self, DecodeOptions, EncodeOptions, Unset};
use steading_transcode::{Catalog, RouteError};

const SOURCE: &str = r#"
syntax = "proto3";
package rules;
import "google/api/annotations.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
service Rules {
  rpc Root(All) returns (All) { option (google.api.http) = {get: "/"}; }
  rpc Wild(All) returns (All) { option (google.api.http) = {get: "/wild/*/x/**"}; }
  rpc Rest(All) returns (All) { option (google.api.http) = {get: "/rest/{text=**}"}; }
  rpc RestVerb(All) returns (All) { option (google.api.http) = {get: "/rest/{text=**}:verb"}; }
  rpc RootVerb(All) returns (All) { option (google.api.http) = {get: "/only:verb"}; }
  rpc Two(All) returns (All) { option (google.api.http) = {get: "/two/{text=a/*}/{inner.text=b/**}"}; }
  rpc Literal(All) returns (All) { option (google.api.http) = {get: "/v1.0/a-b_c~d/{text}"}; }
  rpc Exact(All) returns (All) { option (google.api.http) = {get: "/exact/mine"}; }
  rpc Any(All) returns (All) { option (google.api.http) = {get: "/exact/{text}"}; }
  rpc Kinds(All) returns (All) {
    option (google.api.http) = {
      get: "/kinds/i32/{i32}"
      additional_bindings { get: "/kinds/u64/{u64}" }
      additional_bindings { get: "/kinds/s64/{s64}" }
      additional_bindings { get: "/kinds/f64/{f64}" }
      additional_bindings { get: "/kinds/flag/{flag}" }
      additional_bindings { get: "/kinds/raw/{raw}" }
      additional_bindings { get: "/kinds/colour/{colour}" }
      additional_bindings { get: "/kinds/time/{time}" }
      additional_bindings { get: "/kinds/span/{span}" }
      additional_bindings { get: "/kinds/boxed/{boxed}" }
      additional_bindings { get: "/kinds/mask/{mask}" }
      additional_bindings { get: "/kinds/maybe/{maybe}" }
      additional_bindings { get: "/kinds/choice/{choice_text}" }
    };
  }
  rpc Text(All) returns (All) { option (google.api.http) = {post: "/body/text" body: "text"}; }
  rpc Number(All) returns (All) { option (google.api.http) = {post: "/body/i32" body: "i32"}; }
  rpc Enum(All) returns (All) { option (google.api.http) = {post: "/body/colour" body: "colour"}; }
  rpc List(All) returns (All) { option (google.api.http) = {post: "/body/texts" body: "texts"}; }
  rpc Inners(All) returns (All) { option (google.api.http) = {post: "/body/inners" body: "inners"}; }
  rpc Map(All) returns (All) { option (google.api.http) = {post: "/body/counts" body: "counts"}; }
  rpc Boxed(All) returns (All) { option (google.api.http) = {post: "/body/boxed" body: "boxed"}; }
  rpc Choice(All) returns (All) { option (google.api.http) = {post: "/body/choice" body: "choice_inner"}; }
  rpc ChoiceInPath(All) returns (All) { option (google.api.http) = {post: "/choice/{choice_text}" body: "*"}; }
  rpc PatchWhole(All) returns (All) { option (google.api.http) = {patch: "/patch/whole" body: "*"}; }
  rpc Deletes(All) returns (All) { option (google.api.http) = {delete: "/delete" body: "*"}; }
  rpc OutText(All) returns (All) { option (google.api.http) = {get: "/out/text" response_body: "text"}; }
  rpc OutList(All) returns (All) { option (google.api.http) = {get: "/out/inners" response_body: "inners"}; }
  rpc OutMap(All) returns (All) { option (google.api.http) = {get: "/out/counts" response_body: "counts"}; }
  rpc OutInner(All) returns (All) { option (google.api.http) = {get: "/out/inner" response_body: "inner"}; }
  rpc OutEnum(All) returns (All) { option (google.api.http) = {get: "/out/colour" response_body: "colour"}; }
  rpc Every(All) returns (All) { option (google.api.http) = {custom: {kind: "*" path: "/every"}}; }
}
message All {
  string text = 1;
  int32 i32 = 2;
  uint64 u64 = 3;
  sfixed64 s64 = 4;
  double f64 = 5;
  bool flag = 6;
  bytes raw = 7;
  Colour colour = 8;
  google.protobuf.Timestamp time = 9;
  google.protobuf.Duration span = 10;
  google.protobuf.Int32Value boxed = 11;
  google.protobuf.FieldMask mask = 12;
  optional int32 maybe = 13;
  Inner inner = 14;
  repeated string texts = 15;
  repeated Inner inners = 16;
  map<string, int32> counts = 17;
  oneof choice { string choice_text = 18; Inner choice_inner = 19; }
  google.protobuf.FieldMask update_mask = 20;
}
message Inner { string text = 1; Inner inner = 2; repeated int32 numbers = 3; }
enum Colour { NONE = 0; RED = 1; }
"#;

fn catalog() -> Catalog {
    // Compiled from memory: the file is of no use to anybody else.
    let vendor = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../api/vendor");
    let mut files = protox::file::ChainFileResolver::new();
    files.add(Memory);
    files.add(protox::file::IncludeFileResolver::new(vendor));
    files.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.include_imports(true).open_file("rules.proto").unwrap();
    Catalog::new(&[&compiler.encode_file_descriptor_set()], &[], |_| true).unwrap()
}

struct Memory;

impl protox::file::FileResolver for Memory {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        if name == "rules.proto" {
            protox::file::File::from_source(name, SOURCE)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

/// The method, and its request as JSON.
fn request(catalog: &Catalog, line: &str, body: &str) -> Result<(String, String), String> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let route = catalog.route(&method.parse::<Method>().unwrap(), path);
    let matched = route.map_err(|error| error.to_string())?;
    let parts = Parts {
        path,
        query,
        body: if body.is_empty() {
            Body::Empty
        } else {
            Body::Json(body.as_bytes())
        },
        if_match: None,
        resume: None,
    };
    let (mut wire, mut json) = (Vec::new(), Vec::new());
    bind::request(catalog, &matched, &parts, &DecodeOptions::default(), &mut wire)
        .map_err(|error| error.to_string())?;
    let options = EncodeOptions {
        unset: Unset::Omit,
        ..EncodeOptions::default()
    };
    let rpc = catalog.method(matched.binding.method);
    codec::encode(catalog.schema(), rpc.input, &wire, &options, &mut json).unwrap();
    let name = rpc.full_name.rsplit('.').next().unwrap();
    Ok((name.to_owned(), String::from_utf8(json).unwrap()))
}

#[track_caller]
fn check(catalog: &Catalog, line: &str, body: &str, method: &str, message: &str) {
    let got = request(catalog, line, body).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(got, (method.to_owned(), message.to_owned()), "{line}");
}

#[test]
fn templates_of_every_form_are_matched() {
    let catalog = catalog();
    for (line, method, message) in [
        ("GET /", "Root", "{}"),
        ("GET /wild/any/x/", "", ""),
        ("GET /wild/any/x/y/z", "Wild", "{}"),
        ("GET /rest/a/b%2Fc/d", "Rest", r#"{"text":"a/b%2Fc/d"}"#),
        ("GET /rest", "Rest", "{}"),
        ("GET /rest/", "", ""),
        ("GET /rest/a:other", "", ""),
        ("GET /rest/a%3Aother", "Rest", r#"{"text":"a:other"}"#),
        ("GET /rest/a:b/c", "Rest", r#"{"text":"a:b/c"}"#),
        ("GET /rest/a/b:verb", "RestVerb", r#"{"text":"a/b"}"#),
        ("GET /only:verb", "RootVerb", "{}"),
        (
            "GET /two/a/x/b/y/z",
            "Two",
            r#"{"text":"a/x","inner":{"text":"b/y/z"}}"#,
        ),
        ("GET /v1.0/a-b_c~d/x", "Literal", r#"{"text":"x"}"#),
        ("GET /exact/mine", "Exact", "{}"),
        ("GET /exact/other", "Any", r#"{"text":"other"}"#),
        ("GET /exact/%6Dine", "Exact", "{}"),
        ("PURGE /every", "Every", "{}"),
        ("GET /every", "Every", "{}"),
    ] {
        if method.is_empty() {
            assert!(request(&catalog, line, "").is_err(), "{line}");
        } else {
            check(&catalog, line, "", method, message);
        }
    }
    let wrong = catalog.route(&Method::POST, "/exact/mine");
    assert!(matches!(wrong, Err(RouteError::MethodNotAllowed { .. })));
}

#[test]
fn variables_of_every_kind_are_read() {
    let catalog = catalog();
    for (path, message) in [
        ("i32/-5", r#"{"i32":-5}"#),
        ("i32/1e2", r#"{"i32":100}"#),
        ("u64/18446744073709551615", r#"{"u64":"18446744073709551615"}"#),
        ("s64/-9223372036854775808", r#"{"s64":"-9223372036854775808"}"#),
        ("f64/-Infinity", r#"{"f64":"-Infinity"}"#),
        ("f64/2.5", r#"{"f64":2.5}"#),
        ("flag/true", r#"{"flag":true}"#),
        ("raw/_-8%3D", r#"{"raw":"/+8="}"#),
        ("colour/RED", r#"{"colour":"RED"}"#),
        ("colour/1", r#"{"colour":"RED"}"#),
        (
            "time/2026-01-31T12%3A00%3A00.5Z",
            r#"{"time":"2026-01-31T12:00:00.500Z"}"#,
        ),
        ("span/1.5s", r#"{"span":"1.500s"}"#),
        ("boxed/0", r#"{"boxed":0}"#),
        ("mask/text,inner.text", r#"{"mask":"text,inner.text"}"#),
        ("maybe/0", r#"{"maybe":0}"#),
        ("choice/x", r#"{"choiceText":"x"}"#),
    ] {
        check(&catalog, &format!("GET /kinds/{path}"), "", "Kinds", message);
    }
    for path in [
        "i32/x",
        "i32/2147483648",
        "i32/1.5",
        "u64/-1",
        "flag/yes",
        "flag/1",
        "raw/%25",
        "colour/BLUE",
        "time/now",
        "span/1.5",
        "f64/1x",
    ] {
        let error = request(&catalog, &format!("GET /kinds/{path}"), "").unwrap_err();
        assert!(error.starts_with(path.split('/').next().unwrap()), "{path}: {error}");
    }
}

#[test]
fn bodies_of_every_kind_are_read() {
    let catalog = catalog();
    for (line, body, method, message) in [
        ("POST /body/text", r#""x""#, "Text", r#"{"text":"x"}"#),
        ("POST /body/text?i32=1", r#""x""#, "Text", r#"{"text":"x","i32":1}"#),
        ("POST /body/i32", "-5", "Number", r#"{"i32":-5}"#),
        ("POST /body/colour", r#""RED""#, "Enum", r#"{"colour":"RED"}"#),
        ("POST /body/texts", r#"["a","b"]"#, "List", r#"{"texts":["a","b"]}"#),
        (
            "POST /body/inners",
            r#"[{"text":"a"},{}]"#,
            "Inners",
            r#"{"inners":[{"text":"a"},{}]}"#,
        ),
        ("POST /body/counts", r#"{"a":1}"#, "Map", r#"{"counts":{"a":1}}"#),
        ("POST /body/boxed", "0", "Boxed", r#"{"boxed":0}"#),
        (
            "POST /body/choice",
            r#"{"text":"a"}"#,
            "Choice",
            r#"{"choiceInner":{"text":"a"}}"#,
        ),
        ("POST /body/choice", "{}", "Choice", r#"{"choiceInner":{}}"#),
        ("POST /body/choice", "", "Choice", "{}"),
        ("PATCH /patch/whole", r#"{"text":"a"}"#, "PatchWhole", r#"{"text":"a"}"#),
        ("DELETE /delete", r#"{"text":"a"}"#, "Deletes", r#"{"text":"a"}"#),
    ] {
        check(&catalog, line, body, method, message);
    }
    for (line, body) in [
        ("POST /body/text", "{}"),
        ("POST /body/texts", r#""a""#),
        ("POST /body/texts", "[1]"),
        ("POST /body/counts", "[]"),
        ("POST /body/counts", r#"{"a":1,"a":2}"#),
        ("POST /body/text?text=x", r#""y""#),
        ("POST /body/choice?choiceText=x", "{}"),
        ("POST /choice/x", r#"{"choiceInner":{}}"#),
    ] {
        assert!(request(&catalog, line, body).is_err(), "{line} {body}");
    }
}

#[test]
fn queries_of_every_kind_are_read() {
    let catalog = catalog();
    for (query, message) in [
        (
            "inner.inner.text=x&inner.numbers=1&inner.numbers=2",
            r#"{"inner":{"inner":{"text":"x"},"numbers":[1,2]}}"#,
        ),
        ("texts=a&texts=&texts=b", r#"{"texts":["a","","b"]}"#),
        ("text=a%26b%3Dc+d", r#"{"text":"a&b=c d"}"#),
        ("text", "{}"),
        ("text=&flag=false", "{}"),
        ("maybe=0", r#"{"maybe":0}"#),
        ("choice_text=x", r#"{"choiceText":"x"}"#),
        ("choiceInner.text=x", r#"{"choiceInner":{"text":"x"}}"#),
        ("mask=text&span=1s&boxed=3", r#"{"span":"1s","boxed":3,"mask":"text"}"#),
        ("&&text=a&", r#"{"text":"a"}"#),
    ] {
        check(&catalog, &format!("GET /?{query}"), "", "Root", message);
    }
    for query in [
        "inners.text=a",
        "counts=a",
        "counts.a=1",
        "inner=x",
        "choiceText=a&choiceInner.text=b",
        "i32=",
        "boxed=x",
        "=x",
    ] {
        assert!(request(&catalog, &format!("GET /?{query}"), "").is_err(), "{query}");
    }
}

#[test]
fn replies_of_every_kind_are_written() {
    let catalog = catalog();
    let message =
        r#"{"text":"a","i32":1,"colour":"RED","inner":{"text":"b"},"inners":[{"numbers":[1]}],"counts":{"k":1}}"#;
    let (mut wire, all) = (Vec::new(), catalog.schema().find("rules.All").unwrap());
    codec::decode(
        catalog.schema(),
        all,
        message.as_bytes(),
        &DecodeOptions::default(),
        &mut wire,
    )
    .unwrap();
    for (path, full, empty) in [
        ("/out/text", r#""a""#, r#""""#),
        ("/out/inners", r#"[{"text":"","numbers":[1]}]"#, "[]"),
        ("/out/counts", r#"{"k":1}"#, "{}"),
        ("/out/inner", r#"{"text":"b","numbers":[]}"#, "null"),
        ("/out/colour", r#""RED""#, r#""NONE""#),
    ] {
        let matched = catalog.route(&Method::GET, path).unwrap();
        for (wire, expected) in [(wire.as_slice(), full), (&[], empty)] {
            let mut out = Vec::new();
            bind::response(
                &catalog,
                matched.binding,
                wire,
                bind::SystemParameters::default(),
                &EncodeOptions::default(),
                &mut out,
            )
            .unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{path}");
        }
    }
}
