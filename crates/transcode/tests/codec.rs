//! The codec: tables of the ProtoJSON mapping, and properties against prost-reflect.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a failure in a function beside a test is a failed test"
)]

mod support;

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use steading_transcode::codec::{self, EncodeError, EncodeOptions, Unset};
use support::{catalog, decode, encode, encode_with, id, reflect};

#[test]
fn every_kind_of_field_reads_back_as_it_was() {
    let catalog = catalog();
    for text in [
        r#"{"aDouble":1.5,"aFloat":3.4028235e+38,"anInt32":-5,"anInt64":"-9223372036854775808","aUint32":4294967295,"aUint64":"18446744073709551615"}"#,
        r#"{"aSint32":-2147483648,"aSint64":"-7","aFixed32":7,"aFixed64":"8","anSfixed32":-9,"anSfixed64":"-10","aBool":true}"#,
        r#"{"aDouble":"NaN","aFloat":"-Infinity","aString":"\"\\\n\u0001é😀","someBytes":"+/8=","color":"COLOR_RED"}"#,
        r#"{"child":{"child":{"maybe":0}},"either":"","numbers":[1,-2,3],"words":["","a"],"places":[{},{"city":"x"}]}"#,
        r#"{"or":{},"colors":["COLOR_INFRARED",7],"counts":{"":0,"a":1},"byNumber":{"-1":{},"10":{"city":"y"}},"byTruth":{"false":"COLOR_RED","true":"COLOR_UNSPECIFIED"}}"#,
        r#"{"time":"2026-01-31T12:00:00.250Z","span":"-1.500s","mask":"a.bC,d","object":{"a":[1,{"b":null}]},"value":null,"list":[true,"x",{}]}"#,
        r#"{"nothing":null,"boxedInt64":"0","boxedString":"","boxedBool":false,"times":["1970-01-01T00:00:00Z"],"values":[null,1.5,""],"@custom":"c","doubles":[0,"Infinity"],"nil":{}}"#,
        r#"{"any":{"@type":"type.googleapis.com/steading.testing.v1.Address","city":"z"}}"#,
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}"#,
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Empty"}}"#,
        r#"{"any":{}}"#,
        "{}",
    ] {
        let wire = decode(&catalog, "Everything", text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(encode(&catalog, "Everything", &wire), text);
    }
}

#[test]
fn other_spellings_mean_the_same() {
    let catalog = catalog();
    for (text, canonical) in [
        (r#"{"an_int32":1e5}"#, r#"{"anInt32":100000}"#),
        (
            r#" { "anInt32" : "1.0e2" , "aDouble":"2" } "#,
            r#"{"aDouble":2,"anInt32":100}"#,
        ),
        (
            r#"{"color":1,"colors":[-1]}"#,
            r#"{"color":"COLOR_RED","colors":["COLOR_INFRARED"]}"#,
        ),
        (r#"{"someBytes":"-_"}"#, r#"{"someBytes":"+w=="}"#),
        (
            r#"{"child":null,"numbers":null,"counts":null,"maybe":null,"either":null,"or":{}}"#,
            r#"{"or":{}}"#,
        ),
        (r#"{"anInt32":0,"aString":"","aBool":false}"#, "{}"),
        (
            r#"{"time":"1970-01-01T01:00:00+01:00"}"#,
            r#"{"time":"1970-01-01T00:00:00Z"}"#,
        ),
        (r#"{"aString":"\u00e9\ud83d\ude00\/"}"#, r#"{"aString":"é😀/"}"#),
        (
            r#"{"any":{"city":"z","@type":"x/steading.testing.v1.Address"}}"#,
            r#"{"any":{"@type":"x/steading.testing.v1.Address","city":"z"}}"#,
        ),
    ] {
        let wire = decode(&catalog, "Everything", text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(encode(&catalog, "Everything", &wire), canonical, "{text}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_path() {
    let catalog = catalog();
    let deep = format!("{}{}", r#"{"child":"#.repeat(200), "}".repeat(200));
    let deep_list = format!(r#"{{"value":{}"#, "[".repeat(10_000));
    for (text, path) in [
        (r#"{"nope":1}"#, "nope"),
        (r#"{"child":{"places":[{},{"town":1}]}}"#, "child.places[1].town"),
        (r#"{"counts":{"a":"x"}}"#, r#"counts["a"]"#),
        (r#"{"counts":{"a":1,"a":2}}"#, r#"counts["a"]"#),
        (r#"{"anInt32":1,"an_int32":2}"#, "an_int32"),
        (r#"{"anInt32":1,"anInt32":1}"#, "anInt32"),
        (r#"{"object":{"a":1,"a":2}}"#, "object.a"),
        (r#"{"either":"a","or":{}}"#, "or"),
        (r#"{"color":"COLOR_BLUE"}"#, "color"),
        (r#"{"color":true}"#, "color"),
        (r#"{"anInt32":0.5}"#, "anInt32"),
        (r#"{"anInt32":2147483648}"#, "anInt32"),
        (r#"{"anInt32":" 1"}"#, "anInt32"),
        (r#"{"aUint32":-1}"#, "aUint32"),
        (r#"{"aFloat":3.5e38}"#, "aFloat"),
        (r#"{"aBool":"true"}"#, "aBool"),
        (r#"{"aString":1}"#, "aString"),
        (r#"{"aString":"\ud800"}"#, "aString"),
        ("{\"aString\":\"\n\"}", "aString"),
        (r#"{"someBytes":"?"}"#, "someBytes"),
        (r#"{"words":["a",null]}"#, "words[1]"),
        (r#"{"words":["a",]}"#, "words[1]"),
        (r#"{"byTruth":{"yes":1}}"#, r#"byTruth["yes"]"#),
        (r#"{"time":"yesterday"}"#, "time"),
        (r#"{"mask":"a_b"}"#, "mask"),
        (r#"{"any":{"city":"z"}}"#, "any.@type"),
        (r#"{"any":{"@type":"x/unknown.Type"}}"#, "any.@type"),
        (
            r#"{"any":{"@type":"x/steading.testing.v1.Address","town":"z"}}"#,
            "any.town",
        ),
        (r#"{"nil":{"a":1}}"#, "nil.a"),
        ("{} {}", ""),
        ("{}x", ""),
        ("{", ""),
        ("", ""),
        ("[]", ""),
        ("null", ""),
        (r#"{"aBool":tru}"#, "aBool"),
        (r#"{"anInt32":01}"#, "anInt32"),
        ("{anInt32:1}", ""),
        (r#"{"anInt32":1,}"#, ""),
    ] {
        let error = decode(&catalog, "Everything", text).expect_err(text);
        assert_eq!(error.violations[0].field, path, "{text}: {error}");
    }
    assert!(
        decode(&catalog, "Everything", &deep).unwrap_err().violations[0]
            .description
            .contains("nested too deep")
    );
    assert!(decode(&catalog, "Everything", &deep_list).is_err());
}

#[test]
fn unset_fields_are_written_or_left_out_by_one_option() {
    let catalog = catalog();
    let text = encode_with(&catalog, "Book", &[], Unset::Emit);
    assert_eq!(
        text,
        r#"{"name":"","etag":"","title":"","pages":0,"tags":[],"labels":{}}"#
    );
    assert_eq!(encode(&catalog, "Book", &[]), "{}");
    let everything: Value = serde_json::from_str(&encode_with(&catalog, "Everything", &[], Unset::Emit)).unwrap();
    assert_eq!(everything["anInt64"], json!("0"));
    assert_eq!(everything["color"], json!("COLOR_UNSPECIFIED"));
    for absent in ["maybe", "either", "nothing", "time", "child", "value"] {
        assert!(everything.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn the_wire_is_merged_as_protobuf_says() {
    let catalog = catalog();
    let piece = |text: &str| decode(&catalog, "Everything", text).unwrap();
    let join = |parts: &[&str]| {
        encode(
            &catalog,
            "Everything",
            &parts.iter().flat_map(|text| piece(text)).collect::<Vec<_>>(),
        )
    };
    // Scalars: last wins; messages: merged; lists: joined; maps: last value of a key; oneofs: last member.
    assert_eq!(
        join(&[r#"{"anInt32":1}"#, r#"{"aBool":true,"anInt32":2}"#]),
        r#"{"anInt32":2,"aBool":true}"#
    );
    assert_eq!(
        join(&[
            r#"{"child":{"anInt32":1,"words":["a"]}}"#,
            r#"{"child":{"aBool":true,"words":["b"]}}"#
        ]),
        r#"{"child":{"anInt32":1,"aBool":true,"words":["a","b"]}}"#
    );
    assert_eq!(
        join(&[r#"{"counts":{"b":1,"a":1}}"#, r#"{"counts":{"b":2}}"#]),
        r#"{"counts":{"a":1,"b":2}}"#
    );
    assert_eq!(
        join(&[r#"{"or":{"city":"x"}}"#, r#"{"either":"e"}"#]),
        r#"{"either":"e"}"#
    );
    assert_eq!(
        join(&[r#"{"or":{"city":"x"}}"#, r#"{"either":"e"}"#, r#"{"or":{}}"#]),
        r#"{"or":{}}"#
    );
    // Packed and unpacked are one list; unknown fields and wrong wire types are passed over.
    assert_eq!(
        encode(
            &catalog,
            "Everything",
            &[0xb2, 1, 2, 1, 2, 0xb0, 1, 3, 0xf8, 0x3f, 1, 0x1d, 0, 0, 0, 0]
        ),
        r#"{"numbers":[1,2,3]}"#
    );
}

#[test]
fn old_messages_have_defaults_groups_extensions_and_closed_enums() {
    let catalog = catalog();
    let text = r#"{"must":1,"unpacked":[1,2],"mood":"MOOD_BAD","inner":{"text":"t","olds":[{"must":0}]},"[steading.testing.v1.extra]":"e"}"#;
    let wire = decode(&catalog, "Old", text).unwrap();
    assert_eq!(encode(&catalog, "Old", &wire), text);
    assert!(decode(&catalog, "Old", r#"{"mood":7}"#).is_err());
}

#[test]
fn bytes_that_are_no_message_are_an_error_and_an_unknown_any_is_not() {
    let catalog = catalog();
    let mut out = Vec::new();
    let mut try_encode = |wire: &[u8]| {
        codec::encode(
            catalog.schema(),
            id(&catalog, "Everything"),
            wire,
            &EncodeOptions::default(),
            &mut out,
        )
    };
    assert_eq!(try_encode(&[0xff]), Err(EncodeError::Malformed));
    assert_eq!(try_encode(&[0x72, 1, 0xff]), Err(EncodeError::Utf8));
    assert_eq!(try_encode(&[0x72, 5, b'a']), Err(EncodeError::Malformed));
    assert!(matches!(
        try_encode(&[0xf2, 1, 11, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        Err(EncodeError::Malformed | EncodeError::Unrepresentable(_))
    ));
    let any = [0xa2, 2, 10, 10, 3, b'a', b'/', b'b', 18, 3, 1, 2, 3];
    assert_eq!(
        encode(&catalog, "Everything", &any),
        r#"{"any":{"@type":"a/b","value":"AQID"}}"#
    );
}

fn a_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z\"]{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn scalars()(
        double in any::<f64>(), float in any::<f32>(), ints in any::<(i32, i64, u32, u64)>(), text in ".{0,12}",
        bytes in prop::collection::vec(any::<u8>(), 0..9), color in -2i32..4, flag in any::<bool>(),
    ) -> Value {
        let number = |value: f64| if value == 0.0 { json!(0) } else if value.is_nan() { json!("NaN") } else if value.is_infinite() { json!(if value > 0.0 { "Infinity" } else { "-Infinity" }) } else { json!(value) };
        let float = if float == 0.0 { json!(0) } else if float.is_finite() { serde_json::from_str(&format!("{float:e}")).unwrap() } else { number(f64::from(float)) };
        // Negative zero is a value of its own on the wire; prost-reflect takes it for the default.
        json!({
            "aDouble": number(double), "aFloat": float, "anInt32": ints.0, "anInt64": ints.1.to_string(), "aUint32": ints.2,
            "aUint64": ints.3.to_string(), "aSint32": ints.0, "aSint64": ints.1.to_string(), "aFixed32": ints.2, "aFixed64": ints.3.to_string(),
            "anSfixed32": ints.0, "anSfixed64": ints.1.to_string(), "aBool": flag, "aString": text.clone(), "color": color,
            "someBytes": base64::engine::general_purpose::STANDARD.encode(&bytes), "boxedString": text, "boxedInt64": ints.1.to_string(),
        })
    }
}

prop_compose! {
    fn everything()(
        mut base in scalars(), child in prop::option::of(scalars()), words in prop::collection::vec(".{0,4}", 0..4),
        numbers in prop::collection::vec(any::<i32>(), 0..6), counts in prop::collection::hash_map(".{0,3}", any::<i32>(), 0..4),
        seconds in -62_135_596_800i64..253_402_300_799, object in prop::collection::hash_map("[a-z]{0,3}", a_value(), 0..3), value in a_value(),
    ) -> Value {
        let fields = base.as_object_mut().unwrap();
        fields.extend(child.map(|child| ("child".to_owned(), child)));
        fields.insert("words".into(), json!(words));
        fields.insert("numbers".into(), json!(numbers));
        fields.insert("counts".into(), json!(counts));
        fields.insert("object".into(), json!(object));
        fields.insert("value".into(), value);
        fields.insert("span".into(), json!(format!("{}s", seconds / 1000)));
        base
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn json_becomes_canonical_and_both_codecs_agree(input in everything()) {
        let catalog = catalog_once();
        let wire = decode(catalog, "Everything", &input.to_string()).unwrap();
        let canonical = encode(catalog, "Everything", &wire);
        let again = decode(catalog, "Everything", &canonical).unwrap();
        prop_assert_eq!(&encode(catalog, "Everything", &again), &canonical);

        let message = reflect(catalog.pool(), "Everything", &wire);
        let theirs = serde_json::to_value(&message).unwrap();
        prop_assert!(same(&serde_json::from_str(&canonical).unwrap(), &theirs), "{} {}", canonical, theirs);
    }

    #[test]
    fn no_text_makes_the_decoder_panic(text in r#"[{}\[\]",:a-z0-9.eE+\\u -]{0,60}"#) {
        let _ = decode(catalog_once(), "Everything", &text);
    }

    #[test]
    fn no_bytes_make_the_encoder_panic(wire in prop::collection::vec(any::<u8>(), 0..80)) {
        let catalog = catalog_once();
        let _ = codec::encode(catalog.schema(), id(catalog, "Everything"), &wire, &EncodeOptions::default(), &mut Vec::new());
    }
}

fn catalog_once() -> &'static steading_transcode::Catalog {
    static ONCE: std::sync::OnceLock<steading_transcode::Catalog> = std::sync::OnceLock::new();
    ONCE.get_or_init(catalog)
}

/// Equal, whole numbers being the same with and without a fraction.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64() == b.as_f64() || a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn pieces_of_a_message_are_merged() {
    let catalog = catalog();
    let pieces = b"\x8a\x01\x02\x18\x01\x8a\x01\x02\x20\x02";
    assert_eq!(
        encode(&catalog, "Everything", pieces),
        r#"{"child":{"anInt32":1,"anInt64":"2"}}"#
    );
}

#[test]
fn a_number_that_a_closed_enum_does_not_have_is_an_unknown_field() {
    let catalog = catalog();
    // `mood`, once as it should be and then as 9.
    assert_eq!(
        encode(&catalog, "Old", b"\x08\x01\x20\x02\x20\x09"),
        r#"{"must":1,"mood":"MOOD_GOOD"}"#
    );
    assert_eq!(encode(&catalog, "Old", b"\x08\x01\x20\x09"), r#"{"must":1}"#);
    assert!(decode(&catalog, "Old", r#"{"must":1,"mood":9}"#).is_err());
    // An empty packed block sets nothing.
    assert_eq!(encode(&catalog, "Everything", b"\xb2\x01\x00"), "{}");
    assert_eq!(
        encode(&catalog, "Everything", b"\xb2\x01\x00\x80\x01\x01"),
        r#"{"color":"COLOR_RED"}"#
    );
    // Of a number that is too long for its kind the low bits count, and these are zero.
    assert_eq!(encode(&catalog, "Everything", b"\x18\x80\x80\x80\x80\x10"), "{}");
    // Open enums keep what they do not know.
    assert_eq!(encode(&catalog, "Everything", b"\x80\x01\x09"), r#"{"color":9}"#);
}
