//! The service that is called: its descriptors, and the messages that it answers with.

use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};
use steading_transcode::{
    Catalog,
    codec::{self, DecodeOptions},
};

/// The file of the service.
pub(crate) const FILE: &str = "steading/load/v1/catalog.proto";
/// The service.
pub(crate) const SERVICE: &str = "steading.load.v1.Catalog";
/// Items on a page.
const PAGE: usize = 50;

/// An encoded FileDescriptorSet with all imports.
pub(crate) fn descriptor_set() -> anyhow::Result<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("benches/load/proto"), root.join("../crates/api/vendor")])?;
    compiler.include_imports(true).open_files([FILE])?;
    Ok(compiler.encode_file_descriptor_set())
}

/// 1.1 KB of JSON.
pub(crate) fn item(number: usize) -> Value {
    let words = "kept dry, sold by the piece, made to order and carried to the door ";
    json!({
        "name": format!("shops/north/items/item-{number}"),
        "displayName": format!("Item {number} of the northern shop"),
        "description": words.repeat(9),
        "count": 12 + number, "price": "129900", "weight": 2.75, "available": true, "storage": "STORAGE_DRY",
        "tags": ["garden", "wood", "sale", "new"],
        "labels": { "shelf": "b-12", "supplier": "meadow", "season": "autumn" },
        "createTime": "2026-03-04T05:06:07.089Z",
        "parts": (1..=6).map(|part| json!({ "number": format!("part-{part:04}"), "count": part })).collect::<Vec<_>>(),
    })
}

/// What a client posts: 0.5 KB.
pub(crate) fn draft() -> Value {
    let mut item = item(7);
    for field in ["name", "createTime", "parts"] {
        item[field].take();
    }
    item["description"] = json!("kept dry, sold by the piece, made to order and carried to the door");
    item
}

/// Replies as gRPC frames.
pub(crate) struct Replies {
    /// One item.
    pub(crate) item: Bytes,
    /// A page of items.
    pub(crate) page: Bytes,
}

impl Replies {
    /// Encodes them.
    ///
    /// # Errors
    /// If the contract does not have what they say.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let catalog = Catalog::new(&[&descriptor_set()?], &[], |_| true)?;
        let items: Vec<Value> = (1..=PAGE).map(item).collect();
        Ok(Self {
            item: framed(&catalog, "Item", &item(1))?,
            page: framed(&catalog, "ListItemsResponse", &json!({ "items": items }))?,
        })
    }
}

fn framed(catalog: &Catalog, message: &str, value: &Value) -> anyhow::Result<Bytes> {
    let name = format!("steading.load.v1.{message}");
    let id = catalog.schema().find(&name).with_context(|| name.clone())?;
    let mut encoded = Vec::new();
    let json = value.to_string();
    codec::decode(
        catalog.schema(),
        id,
        json.as_bytes(),
        &DecodeOptions::default(),
        &mut encoded,
    )
    .map_err(|error| anyhow::anyhow!("{name}: {error:?}"))?;
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(encoded.len())?.to_be_bytes());
    frame.extend_from_slice(&encoded);
    Ok(frame.into())
}
