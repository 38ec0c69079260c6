//! The test protos, compiled.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "each test uses its part, and a failure here is a failed test"
)]

use std::path::PathBuf;

use prost_reflect::{DescriptorPool, DynamicMessage};
use steading_transcode::codec::{self, DecodeOptions, EncodeOptions, Unset};
use steading_transcode::{Catalog, InvalidRequest, MessageId};

pub fn descriptor_set() -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("tests/proto"), root.join("../api/vendor")]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler
        .open_files(["steading/testing/v1/library.proto", "steading/testing/v1/old.proto"])
        .unwrap();
    compiler.encode_file_descriptor_set()
}

pub fn catalog() -> Catalog {
    Catalog::new(&[&descriptor_set()], &[], |_| true).unwrap()
}

pub fn id(catalog: &Catalog, name: &str) -> MessageId {
    catalog.schema().find(&format!("steading.testing.v1.{name}")).unwrap()
}

pub fn decode(catalog: &Catalog, name: &str, json: &str) -> Result<Vec<u8>, InvalidRequest> {
    let mut wire = Vec::new();
    codec::decode(
        catalog.schema(),
        id(catalog, name),
        json.as_bytes(),
        &DecodeOptions::default(),
        &mut wire,
    )?;
    Ok(wire)
}

pub fn encode_with(catalog: &Catalog, name: &str, wire: &[u8], unset: Unset) -> String {
    let mut json = Vec::new();
    let options = EncodeOptions {
        unset,
        ..EncodeOptions::default()
    };
    codec::encode(catalog.schema(), id(catalog, name), wire, &options, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

pub fn encode(catalog: &Catalog, name: &str, wire: &[u8]) -> String {
    encode_with(catalog, name, wire, Unset::Omit)
}

/// The same message by way of prost-reflect.
pub fn reflect(pool: &DescriptorPool, name: &str, wire: &[u8]) -> DynamicMessage {
    let descriptor = pool
        .get_message_by_name(&format!("steading.testing.v1.{name}"))
        .unwrap();
    DynamicMessage::decode(descriptor, wire).unwrap()
}
