//! What the fuzz targets share: the catalog of the test protos, and the codec as they call it.

use std::path::PathBuf;
use std::sync::LazyLock;

use steading_transcode::codec::{self, DecodeOptions, EncodeOptions};
use steading_transcode::{Catalog, InvalidRequest, MessageId};

/// The messages that bytes and texts are taken for.
const MESSAGES: [&str; 10] = [
    "steading.testing.v1.Everything",
    "steading.testing.v1.Old",
    "google.protobuf.Any",
    "google.protobuf.Struct",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
    "google.protobuf.Int64Value",
    "steading.testing.editions.Modern",
    "steading.testing.editions.Framed",
];

/// Files of editions, which the compiler of the others does not read.
const EDITIONS: &[u8] = include_bytes!("../../tests/editions/editions.binpb");

/// The test protos with their imports.
pub fn descriptor_set() -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let includes = [root.join("tests/proto"), root.join("../api/vendor")];
    let mut compiler = protox::Compiler::new(includes).expect("folders");
    compiler.include_imports(true);
    compiler
        .open_files(["steading/testing/v1/library.proto", "steading/testing/v1/old.proto"])
        .expect("protos");
    compiler.encode_file_descriptor_set()
}

/// The set that every target works on.
pub static SET: LazyLock<Vec<u8>> = LazyLock::new(descriptor_set);

/// Its catalog.
pub static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::new(&[&SET, EDITIONS], &[], |_| true).expect("the test protos can be served"));

/// A message by the first byte of the input, and the rest of it.
pub fn message(input: &[u8]) -> Option<(MessageId, &'static str, &[u8])> {
    let (choice, rest) = input.split_first()?;
    let name = MESSAGES[usize::from(*choice) % MESSAGES.len()];
    Some((CATALOG.schema().find(name)?, name, rest))
}

/// JSON to wire.
pub fn decode(id: MessageId, json: &[u8]) -> Result<Vec<u8>, InvalidRequest> {
    let mut wire = Vec::new();
    codec::decode(CATALOG.schema(), id, json, &DecodeOptions::default(), &mut wire)?;
    Ok(wire)
}

/// Wire to JSON.
pub fn encode(id: MessageId, wire: &[u8], options: EncodeOptions) -> Result<String, codec::EncodeError> {
    let mut json = Vec::new();
    codec::encode(CATALOG.schema(), id, wire, &options, &mut json)?;
    Ok(String::from_utf8(json).expect("JSON is text"))
}

/// What is written is JSON, reads back, and is written the same again.
pub fn is_canonical(id: MessageId, wire: &[u8], options: EncodeOptions) {
    let text = encode(id, wire, options).expect("what was read is written");
    serde_json::from_str::<serde_json::Value>(&text).expect("what is written is JSON");
    let again = decode(id, text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    let twice = encode(id, &again, options).expect("what was read is written");
    assert_eq!(twice, text);
}
