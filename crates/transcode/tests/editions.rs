//! Files of editions: presence, enums, packing and framing as their features say.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure in a function beside a test is a failed test"
)]

use steading_transcode::codec::{self, DecodeOptions, EncodeOptions, Unset};
use steading_transcode::{Catalog, CatalogError, InvalidRequest};

const SET: &[u8] = include_bytes!("editions/editions.binpb");

fn catalog() -> Catalog {
    Catalog::new(&[SET], &[], |_| true).unwrap()
}

fn decode(catalog: &Catalog, json: &str) -> Result<Vec<u8>, InvalidRequest> {
    decode_as(catalog, "Modern", json)
}

fn decode_as(catalog: &Catalog, name: &str, json: &str) -> Result<Vec<u8>, InvalidRequest> {
    let id = catalog
        .schema()
        .find(&format!("steading.testing.editions.{name}"))
        .unwrap();
    let mut wire = Vec::new();
    codec::decode(
        catalog.schema(),
        id,
        json.as_bytes(),
        &DecodeOptions::default(),
        &mut wire,
    )?;
    Ok(wire)
}

fn encode(catalog: &Catalog, wire: &[u8], unset: Unset) -> String {
    let id = catalog.schema().find("steading.testing.editions.Modern").unwrap();
    let options = EncodeOptions {
        unset,
        ..EncodeOptions::default()
    };
    let mut json = Vec::new();
    codec::encode(catalog.schema(), id, wire, &options, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

#[test]
fn features_decide_what_is_on_the_wire() {
    let catalog = catalog();
    for (json, wire) in [
        (r#"{"explicit":0}"#, &b"\x08\x00"[..]),
        (r#"{"required":0}"#, b"\x18\x00"),
        (r#"{"packed":[1,2]}"#, b"\x22\x02\x01\x02"),
        (r#"{"expanded":[1,2]}"#, b"\x28\x01\x28\x02"),
        (r#"{"framed":{"explicit":1}}"#, b"\x33\x08\x01\x34"),
        (r#"{"framedList":[{"name":"a"},{}]}"#, b"\x3b\x0a\x01a\x3c\x3b\x3c"),
        (r#"{"open":7}"#, b"\x40\x07"),
        (r#"{"closed":"CLOSED_ONE"}"#, b"\x48\x01"),
        (r#"{"map":{"k":{"name":"a"}}}"#, b"\x52\x08\x0a\x01k\x12\x03\x0a\x01a"),
        (r#"{"text":""}"#, b"\x5a\x00"),
        (r#"{"inner":{"kept":0}}"#, b"\x63\x10\x00\x64"),
        (
            r#"{"[steading.testing.editions.extra]":{"name":"a"}}"#,
            b"\xa3\x06\x0a\x01a\xa4\x06",
        ),
        (r#"{"[steading.testing.editions.numbers]":[1]}"#, b"\xaa\x06\x01\x01"),
    ] {
        assert_eq!(decode(&catalog, json).unwrap(), wire, "{json}");
        assert_eq!(encode(&catalog, wire, Unset::Omit), json);
    }
    assert_eq!(
        decode(
            &catalog,
            r#"{"implicit":0,"implicitText":"","inner":{"name":"","mood":0}}"#
        )
        .unwrap(),
        b"\x63\x64"
    );
    assert!(decode(&catalog, r#"{"closed":7}"#).is_err());
    assert!(decode(&catalog, r#"{"inner":{"mood":7}}"#).is_ok());
}

#[test]
fn pieces_of_a_value_in_one_entry_of_a_map_are_merged() {
    let catalog = catalog();
    let pieces = b"\x52\x0c\x0a\x01k\x12\x03\x0a\x01a\x12\x02\x10\x05";
    assert_eq!(
        encode(&catalog, pieces, Unset::Omit),
        r#"{"map":{"k":{"name":"a","kept":5}}}"#
    );
    // A further entry of the same key replaces it.
    let replaced = [&pieces[..], b"\x52\x07\x0a\x01k\x12\x02\x10\x06"].concat();
    assert_eq!(encode(&catalog, &replaced, Unset::Omit), r#"{"map":{"k":{"kept":6}}}"#);
}

#[test]
fn a_file_hands_its_features_down() {
    let catalog = catalog();
    for (json, wire) in [
        (r#"{"inner":{"number":1}}"#, &b"\x0b\x18\x01\x0c"[..]),
        // Entries of maps, and their values, have a length in every file.
        (r#"{"map":{"k":{"number":1}}}"#, b"\x12\x07\x0a\x01k\x12\x02\x18\x01"),
        (r#"{"number":0}"#, b""),
        (r#"{"numbers":[1,2]}"#, b"\x20\x01\x20\x02"),
        (r#"{"packed":[1,2]}"#, b"\x2a\x02\x01\x02"),
        (r#"{"either":0}"#, b"\x38\x00"),
    ] {
        assert_eq!(decode_as(&catalog, "Framed", json).unwrap(), wire, "{json}");
    }
    assert!(decode_as(&catalog, "Framed", r#"{"mood":7}"#).is_err());
}

#[test]
fn only_implicit_scalars_have_a_default_that_is_written() {
    let catalog = catalog();
    let json: serde_json::Value = serde_json::from_str(&encode(&catalog, b"\x63\x64", Unset::Emit)).unwrap();
    assert_eq!((&json["implicit"], &json["implicitText"]), (&0.into(), &"".into()));
    assert_eq!(
        (&json["inner"]["name"], &json["inner"]["mood"]),
        (&"".into(), &"MOOD_NONE".into())
    );
    for absent in ["explicit", "required", "open", "closed", "framed", "text"] {
        assert!(json.get(absent).is_none(), "{absent}");
    }
    assert!(json["inner"].get("kept").is_none());
}

#[test]
fn what_is_no_known_syntax_is_refused_by_name() {
    // `syntax` stands last but for the edition; both are replaced by others of the same length.
    let patched = |old: &[u8], new: &[u8]| {
        let at = SET.windows(old.len()).rposition(|window| window == old).unwrap();
        [&SET[..at], new, &SET[at + old.len()..]].concat()
    };
    for (set, part) in [
        (patched(b"editions", b"edibles!"), "edibles!"),
        (patched(b"\x70\xe8\x07", b"\x70\xea\x07"), "edition 1002"),
    ] {
        let Err(error @ CatalogError::Syntax { .. }) = Catalog::new(&[&set], &[], |_| true) else {
            panic!("{part} is served");
        };
        let text = error.to_string();
        assert!(text.contains("editions.proto") && text.contains(part), "{text}");
    }
}

#[test]
fn descriptors_that_no_compiler_makes_are_refused() {
    // A map whose entries have no value: the name of the entry's second field, and its number, are replaced.
    let old = b"\x0a\x05value\x18\x02";
    let at = SET.windows(old.len()).position(|window| window == old).unwrap();
    let set = [&SET[..at], b"\x0a\x05value\x18\x03", &SET[at + old.len()..]].concat();
    assert!(matches!(
        Catalog::new(&[&set], &[], |_| true),
        Err(CatalogError::Malformed)
    ));
}
