//! What one request costs: routing, request and reply, against prost-reflect on the same bytes.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark that cannot start should say so"
)]

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::Method;
use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message as _;
use steading_transcode::bind::{self, Body, Parts};
use steading_transcode::codec::{self, DecodeOptions, EncodeOptions};
use steading_transcode::{Catalog, MessageId};

fn catalog() -> Catalog {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../api/vendor")]).unwrap();
    compiler
        .include_imports(true)
        .open_file("steading/testing/v1/library.proto")
        .unwrap();
    Catalog::new(&[&compiler.encode_file_descriptor_set()], &[], |_| true).unwrap()
}

/// About 1.1 KB of JSON, the size of one resource.
fn book(index: usize) -> serde_json::Value {
    let labels: serde_json::Map<String, serde_json::Value> = (0..12)
        .map(|n| (format!("example.com/label-{n}"), format!("value-{n}-{index}").into()))
        .collect();
    serde_json::json!({
        "name": format!("shelves/main/books/book-{index}"),
        "etag": "123456789",
        "title": "On the keeping of machines: \"a treatise\", in three volumes with many plates",
        "pages": 512,
        "author": {"fullName": "A. N. Author", "homeAddress": {"city": "Göteborg"}},
        "tags": ["machines", "keeping", "plates", "treatise", "volumes"],
        "labels": labels,
        "publishTime": "2026-01-31T12:00:00.250Z",
    })
}

fn codec(c: &mut Criterion, catalog: &Catalog, name: &str, json: &str) {
    let full_name = format!("steading.testing.v1.{name}");
    let id: MessageId = catalog.schema().find(&full_name).unwrap();
    let descriptor = catalog.pool().get_message_by_name(&full_name).unwrap();
    let mut wire = Vec::new();
    codec::decode(
        catalog.schema(),
        id,
        json.as_bytes(),
        &DecodeOptions::default(),
        &mut wire,
    )
    .unwrap();

    let mut group = c.benchmark_group(format!("codec/{name}"));
    group.throughput(Throughput::Bytes(json.len() as u64));
    let mut out = Vec::new();
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            codec::encode(
                catalog.schema(),
                id,
                black_box(&wire),
                &EncodeOptions::default(),
                &mut out,
            )
            .unwrap();
        });
    });
    group.bench_function("encode/prost-reflect", |b| {
        b.iter(|| serde_json::to_vec(&DynamicMessage::decode(descriptor.clone(), black_box(wire.as_slice())).unwrap()));
    });
    group.bench_function("decode", |b| {
        b.iter(|| {
            out.clear();
            let json = black_box(json.as_bytes());
            codec::decode(catalog.schema(), id, json, &DecodeOptions::default(), &mut out).unwrap();
        });
    });
    group.bench_function("decode/prost-reflect", |b| {
        b.iter(|| {
            let mut deserializer = serde_json::Deserializer::from_str(black_box(json));
            DynamicMessage::deserialize(descriptor.clone(), &mut deserializer)
                .unwrap()
                .encode_to_vec()
        });
    });
    group.finish();
}

fn requests(c: &mut Criterion, catalog: &Catalog) {
    let mut group = c.benchmark_group("request");
    let body = book(0).to_string();
    for (name, method, path, query, body) in [
        ("get", Method::GET, "/v1/shelves/main/books/book-1", "", ""),
        (
            "list",
            Method::GET,
            "/v1/shelves/main/books",
            "pageSize=50&pageToken=abc",
            "",
        ),
        (
            "create",
            Method::POST,
            "/v1/shelves/main/books",
            "bookId=b",
            body.as_str(),
        ),
    ] {
        let body = if body.is_empty() {
            Body::Empty
        } else {
            Body::Json(body.as_bytes())
        };
        let parts = Parts {
            path,
            query,
            body,
            if_match: None,
            resume: None,
        };
        let mut out = Vec::new();
        group.bench_function(format!("{name}/route"), |b| {
            b.iter(|| catalog.route(black_box(&method), path).unwrap());
        });
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                let matched = catalog.route(black_box(&method), path).unwrap();
                bind::request(catalog, &matched, &parts, &DecodeOptions::default(), &mut out).unwrap()
            });
        });
    }
    group.finish();
}

fn all(c: &mut Criterion) {
    let catalog = catalog();
    requests(c, &catalog);
    codec(c, &catalog, "Book", &book(0).to_string());
    let list = serde_json::json!({"books": (0..50).map(book).collect::<Vec<_>>()}).to_string();
    codec(c, &catalog, "ListBooksResponse", &list);
}

criterion_group!(benches, all);
criterion_main!(benches);
