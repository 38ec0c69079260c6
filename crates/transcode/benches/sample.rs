//! What the benchmarks work on.

use std::path::PathBuf;

use steading_transcode::Catalog;

/// The test service, compiled.
pub(crate) fn catalog() -> Catalog {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../api/vendor")]).unwrap();
    compiler
        .include_imports(true)
        .open_file("steading/testing/v1/library.proto")
        .unwrap();
    Catalog::new(&[&compiler.encode_file_descriptor_set()], &[], |_| true).unwrap()
}

/// About 750 bytes of JSON, the size of a small resource.
pub(crate) fn book(index: usize) -> serde_json::Value {
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
