//! The examples of an API document are requests that are bound.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use steading_transcode::bind::{self, Body, Parts};
use steading_transcode::codec::DecodeOptions;
use steading_transcode::openapi::{self, Options};

/// A path of the document with something in each place.
fn filled(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (_, after) = after.split_once('}').unwrap();
        out.push_str(before);
        out.push('x');
        rest = after;
    }
    out + rest
}

#[test]
fn every_example_is_bound() {
    let catalog = support::catalog();
    let document = openapi::document_of(&catalog, &Options::default());
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            let Some(example) = operation.pointer("/requestBody/content/application~1json/example") else {
                continue;
            };
            seen += 1;
            let (path, body) = (filled(path), example.to_string());
            let matched = catalog.route(&verb.to_uppercase().parse().unwrap(), &path).unwrap();
            let parts = Parts {
                path: &path,
                query: "",
                body: Body::Json(body.as_bytes()),
                if_match: None,
                resume: None,
            };
            let bound = bind::request(&catalog, &matched, &parts, &DecodeOptions::default(), &mut Vec::new());
            assert!(bound.is_ok(), "{verb} {path} {body}: {bound:?}");
        }
    }
    assert_eq!(seen, 4, "creating, updating, lending and echoing have one");
}
