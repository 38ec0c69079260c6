//! What it costs to route a request and to make the upstream message of it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark that cannot start should say so"
)]

mod sample;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use steading_transcode::bind::{self, Body, Parts};
use steading_transcode::codec::DecodeOptions;

use sample::{book, catalog};

fn requests(c: &mut Criterion) {
    let catalog = catalog();
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
                bind::request(&catalog, &matched, &parts, &DecodeOptions::default(), &mut out).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
