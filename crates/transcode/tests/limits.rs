//! Input that is out to hurt: it is refused with a clear error, and without memory beyond its own size.

#![allow(
    clippy::unwrap_used,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use steading_transcode::codec::{self, DecodeOptions, EncodeError, EncodeOptions, Unknown};
use steading_transcode::{InvalidRequest, wire};
use support::{catalog, decode, id};

/// Far more levels than a message may have.
const LEVELS: usize = 10_000;

fn encode(bytes: &[u8]) -> (Result<(), EncodeError>, Vec<u8>) {
    let catalog = catalog();
    let mut out = Vec::new();
    let result = codec::encode(
        catalog.schema(),
        id(&catalog, "Everything"),
        bytes,
        &EncodeOptions::default(),
        &mut out,
    );
    (result, out)
}

fn decode_bytes(json: &[u8], unknown: Unknown) -> (Result<(), InvalidRequest>, Vec<u8>) {
    let catalog = catalog();
    let mut out = Vec::new();
    let message = id(&catalog, "Everything");
    let result = codec::decode(catalog.schema(), message, json, &DecodeOptions { unknown }, &mut out);
    (result, out)
}

fn number_of(field: &str) -> u32 {
    let catalog = catalog();
    let message = catalog.schema().message(id(&catalog, "Everything"));
    message.field_by_name(field).unwrap().number
}

#[test]
fn json_that_nests_too_deep_is_refused_wherever_it_stands() {
    let (open, close) = ("[".repeat(LEVELS), "]".repeat(LEVELS));
    for (json, path) in [
        (
            format!("{}{}", "{\"child\":".repeat(LEVELS), "}".repeat(LEVELS)),
            "child.child",
        ),
        (format!("{{\"value\":{open}{close}}}"), "value"),
        (format!("{{\"list\":{open}{close}}}"), "list"),
        (format!("{{\"object\":{{\"a\":{open}{close}}}}}"), "object"),
        (format!("{{\"value\":{open}"), "value"),
    ] {
        let (result, out) = decode_bytes(json.as_bytes(), Unknown::Refuse);
        let violations = result.unwrap_err().violations;
        let [violation] = violations.as_slice() else {
            unreachable!("one fault, not {violations:?}")
        };
        assert!(violation.field.starts_with(path), "{}", violation.field);
        assert!(violation.description.contains("deep"), "{}", violation.description);
        assert!(out.len() <= json.len());
    }
}

#[test]
fn nesting_is_counted_as_parsers_of_the_wire_count_it() {
    let nested = |open: &str, close: &str, levels: usize| format!("{}{}", open.repeat(levels), close.repeat(levels));
    for (name, json, taken) in [
        ("messages", nested("{\"child\":", "}", 98).replace(":}", ":{}}"), true),
        ("messages", nested("{\"child\":", "}", 99).replace(":}", ":{}}"), false),
        // A value and a list each.
        ("lists", format!("{{\"value\":{}}}", nested("[", "]", 49)), true),
        ("lists", format!("{{\"value\":{}}}", nested("[", "]", 50)), false),
        // A value, a struct and an entry each.
        (
            "objects",
            format!("{{\"value\":{}1{}}}", "{\"a\":".repeat(32), "}".repeat(32)),
            true,
        ),
        (
            "objects",
            format!("{{\"value\":{}1{}}}", "{\"a\":".repeat(33), "}".repeat(33)),
            false,
        ),
    ] {
        let (result, bytes) = decode_bytes(json.as_bytes(), Unknown::Refuse);
        assert_eq!(result.is_ok(), taken, "{name}: {result:?}");
        if taken {
            assert_eq!(encode(&bytes).0, Ok(()), "{name}");
        }
    }
}

#[test]
fn what_is_skipped_may_not_nest_too_deep_either() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let json = format!("{{\"nobody\":{}1{}}}", open.repeat(LEVELS), close.repeat(LEVELS));
        let (result, _) = decode_bytes(json.as_bytes(), Unknown::Ignore);
        assert!(result.unwrap_err().to_string().contains("deep"));
    }
}

#[test]
fn wire_messages_that_nest_too_deep_are_refused() {
    let child = number_of("child");
    let mut bytes = Vec::new();
    for _ in 0..200 {
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, child, &bytes);
        bytes = outer;
    }
    assert_eq!(encode(&bytes).0, Err(EncodeError::Depth));
}

#[test]
fn groups_that_nobody_knows_may_not_nest_too_deep() {
    let mut bytes = Vec::new();
    for _ in 0..LEVELS {
        wire::put_tag(&mut bytes, 9_999, 3);
    }
    for _ in 0..LEVELS {
        wire::put_tag(&mut bytes, 9_999, 4);
    }
    assert_eq!(encode(&bytes).0, Err(EncodeError::Malformed));
}

#[test]
fn a_length_beyond_the_message_is_refused_without_making_room_for_it() {
    for field in ["child", "aString", "someBytes", "numbers", "counts", "object"] {
        for length in [1, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut bytes = Vec::new();
            wire::put_tag(&mut bytes, number_of(field), 2);
            wire::put_varint(&mut bytes, length);
            let (result, out) = encode(&bytes);
            assert_eq!(result, Err(EncodeError::Malformed), "{field} {length}");
            assert!(out.capacity() < 64 << 10, "{field} {length}");
        }
    }
}

#[test]
fn numbers_that_end_early_or_never_are_refused() {
    let number = number_of("anInt32");
    let mut tag = Vec::new();
    wire::put_tag(&mut tag, number, 0);
    for tail in [&[][..], &[0x80], &[0xff; 9], &[0xff; 10], &[0xff; 11]] {
        assert_eq!(
            encode(&[&tag, tail].concat()).0,
            Err(EncodeError::Malformed),
            "{tail:?}"
        );
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_both_ways() {
    for bad in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"] {
        let mut bytes = Vec::new();
        wire::put_bytes(&mut bytes, number_of("aString"), bad);
        assert_eq!(encode(&bytes).0, Err(EncodeError::Utf8), "{bad:?}");
        let json = [b"{\"aString\":\"", bad, b"\"}"].concat();
        let (result, out) = decode_bytes(&json, Unknown::Refuse);
        assert!(result.is_err() && out.is_empty(), "{bad:?}");
    }
}

#[test]
fn a_key_given_twice_is_refused_with_its_path() {
    let catalog = catalog();
    for (json, path) in [
        (r#"{"child":{"aString":"a","aString":"b"}}"#, "child.aString"),
        (r#"{"child":{"aString":"a","a_string":"b"}}"#, "child.a_string"),
        (r#"{"child":{"aString":null,"aString":"b"}}"#, "child.aString"),
    ] {
        let error = decode(&catalog, "Everything", json).unwrap_err();
        assert!(error.violations.iter().any(|v| v.field == path), "{json}: {error}");
    }
    for json in [
        r#"{"counts":{"a":1,"a":2}}"#,
        r#"{"object":{"a":1,"a":2}}"#,
        r#"{"byNumber":{"1":{},"1":{}}}"#,
    ] {
        let error = decode(&catalog, "Everything", json).unwrap_err();
        assert!(error.to_string().contains("twice"), "{json}: {error}");
    }
}

#[test]
fn a_map_key_spelled_in_two_ways_on_the_wire_is_one_key() {
    let mut bytes = Vec::new();
    for (key, colour) in [(u64::MAX, 1), (1, 0)] {
        let entry = wire::open(&mut bytes, number_of("byTruth"));
        wire::put_tag(&mut bytes, 1, 0);
        wire::put_varint(&mut bytes, key);
        wire::put_tag(&mut bytes, 2, 0);
        wire::put_varint(&mut bytes, colour);
        wire::close(&mut bytes, entry);
    }
    let (result, out) = encode(&bytes);
    assert_eq!(result, Ok(()));
    assert_eq!(String::from_utf8_lossy(&out).matches("\"true\"").count(), 1);
}
