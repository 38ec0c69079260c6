//! Any message, written by this codec and by prost-reflect: where both write something, it means the same.
//!
//! The message is one that this codec has made: a field with another wire type than its own is unknown here, as protobuf has it, and
//! read by prost-reflect where it is a map.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;
use steading_transcode::codec::{EncodeOptions, UnknownAny, Unset};
use steading_transcode_fuzz::{CATALOG, decode, encode, message};

/// Numbers may be spelled in several ways.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        // A float is written by prost-reflect with the digits of a double.
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64() == b.as_f64() || a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            // A closed enum's unknown number is an unknown field, which prost-reflect writes.
            let is_theirs = |(key, value): &(&String, &Value)| *key != "mood" || !value.is_number();
            // Minus zero is not the default, which prost-reflect takes it for.
            let is_minus_zero = |value: &Value| {
                value
                    .as_f64()
                    .is_some_and(|value| value == 0.0 && value.is_sign_negative())
            };
            let is_ours = |(key, value): &(&String, &Value)| b.contains_key(*key) || !is_minus_zero(value);
            a.iter().filter(is_ours).count() == b.iter().filter(is_theirs).count()
                && a.iter()
                    .filter(is_ours)
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => ours == theirs,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((id, name, wire)) = message(input) else { return };
    // What features say prost-reflect does not know.
    if name.starts_with("steading.testing.editions.") {
        return;
    }
    let options = EncodeOptions {
        unset: Unset::Omit,
        unknown_any: UnknownAny::Refuse,
        ..EncodeOptions::default()
    };
    let Ok(wire) = encode(id, wire, options).map(|json| decode(id, json.as_bytes())) else {
        return;
    };
    let wire = wire.expect("what is written reads back");
    let ours = encode(id, &wire, options);
    let Some(descriptor) = CATALOG.pool().get_message_by_name(name) else {
        return;
    };
    let theirs = DynamicMessage::decode(descriptor, wire.as_slice())
        .ok()
        .and_then(|message| {
            let options = SerializeOptions::new().stringify_64_bit_integers(true);
            message
                .serialize_with_options(serde_json::value::Serializer, &options)
                .ok()
        });
    if let (Ok(ours), Some(theirs)) = (&ours, &theirs) {
        let ours: Value = serde_json::from_str(ours).expect("what is written is JSON");
        assert!(same(&ours, theirs), "ours   {ours}\ntheirs {theirs}");
    }
});
