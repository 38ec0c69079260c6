//! JSON ⇄ wire beside the two other ways to do it: prost-reflect's dynamic messages, and code that pbjson generated for
//! just these types. Each goes from bytes to bytes, as a gateway needs it.
//!
//! The codecs take turns in short rounds and ratios are of one round, so that a busy machine slows all of them alike.
//! `--test` plays every case once.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and one that cannot start should say so"
)]

mod sample;

use std::hint::black_box;
use std::time::{Duration, Instant};

use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use steading_transcode::Catalog;
use steading_transcode::codec::{self, DecodeOptions, EncodeOptions};
use steading_transcode_peers::{Book, ListBooksResponse};

use sample::{book, catalog};

/// Long enough that the clock's own cost vanishes.
const ROUND: Duration = Duration::from_millis(20);
const ROUNDS: usize = 41;

/// Appends its result for `input` to `out`.
type Codec<'a> = Box<dyn Fn(&[u8], &mut Vec<u8>) + 'a>;

/// The codecs of one direction, ours first, and what they are given.
struct Case<'a> {
    name: String,
    input: Vec<u8>,
    codecs: Vec<(&'static str, Codec<'a>)>,
    /// Brings results to one form: maps have no order, and a time of day has more than one text.
    canonical: Codec<'a>,
}

fn main() {
    let once = std::env::args().any(|argument| argument == "--test");
    let catalog = catalog();
    let list = serde_json::json!({
        "books": (0..50).map(book).collect::<Vec<_>>(),
        "nextPageToken": "50",
    });
    let mut all = cases::<Book>(&catalog, "Book", &book(0));
    all.extend(cases::<ListBooksResponse>(&catalog, "ListBooksResponse", &list));
    for case in &all {
        agree(case);
    }
    if once {
        return;
    }
    println!(
        "{:<24} {:<14} {:>10} {:>10} {:>12}",
        "case", "codec", "µs", "MB/s", "slower by"
    );
    for case in &all {
        measure(case);
    }
}

/// Both directions of one message; `P` is what pbjson generated for it.
fn cases<'a, P: Message + Default + Serialize + DeserializeOwned>(
    catalog: &'a Catalog,
    name: &str,
    value: &serde_json::Value,
) -> Vec<Case<'a>> {
    let full_name = format!("steading.testing.v1.{name}");
    let schema = catalog.schema();
    let id = schema.find(&full_name).unwrap();
    let descriptor = catalog.pool().get_message_by_name(&full_name).unwrap();
    let json = value.to_string().into_bytes();
    let mut wire = Vec::new();
    codec::decode(schema, id, &json, &DecodeOptions::default(), &mut wire).unwrap();

    let from_wire = move |wire: &[u8], out: &mut Vec<u8>| {
        codec::encode(schema, id, wire, &EncodeOptions::default(), out).unwrap();
    };
    let to_wire = move |json: &[u8], out: &mut Vec<u8>| {
        codec::decode(schema, id, json, &DecodeOptions::default(), out).unwrap();
    };
    let (to_json, from_json) = (descriptor.clone(), descriptor);
    let encoders: Vec<(&str, Codec<'a>)> = vec![
        ("ours", Box::new(from_wire)),
        (
            "pbjson",
            Box::new(|wire, out| serde_json::to_writer(out, &P::decode(wire).unwrap()).unwrap()),
        ),
        (
            "prost-reflect",
            Box::new(move |wire, out| {
                serde_json::to_writer(out, &DynamicMessage::decode(to_json.clone(), wire).unwrap()).unwrap();
            }),
        ),
    ];
    let decoders: Vec<(&str, Codec<'a>)> = vec![
        ("ours", Box::new(to_wire)),
        (
            "pbjson",
            Box::new(|json, out| {
                let message: P = serde_json::from_slice(json).unwrap();
                message.encode(out).unwrap();
            }),
        ),
        (
            "prost-reflect",
            Box::new(move |json, out| {
                let mut deserializer = serde_json::Deserializer::from_slice(json);
                let message = DynamicMessage::deserialize(from_json.clone(), &mut deserializer).unwrap();
                message.encode(out).unwrap();
            }),
        ),
    ];
    vec![
        Case {
            name: format!("{name} out"),
            input: wire,
            codecs: encoders,
            canonical: Box::new(move |json, out| {
                let mut wire = Vec::new();
                to_wire(json, &mut wire);
                from_wire(&wire, out);
            }),
        },
        Case {
            name: format!("{name} in"),
            input: json,
            codecs: decoders,
            canonical: Box::new(from_wire),
        },
    ]
}

/// Figures of codecs that do not do the same would say nothing.
fn agree(case: &Case<'_>) {
    let mut wanted = None;
    for (name, codec) in &case.codecs {
        let (mut result, mut canonical) = (Vec::new(), Vec::new());
        codec(&case.input, &mut result);
        (case.canonical)(&result, &mut canonical);
        let canonical = String::from_utf8(canonical).unwrap();
        let wanted = wanted.get_or_insert_with(|| canonical.clone());
        assert_eq!(canonical, *wanted, "{}: {name} gives something else", case.name);
    }
}

/// Prints what each codec takes: the median of its rounds, and the median of its rounds' ratios to ours.
fn measure(case: &Case<'_>) {
    let mut out = Vec::new();
    let repeats: Vec<u32> = case
        .codecs
        .iter()
        .map(|(_, codec)| repeats(codec, &case.input, &mut out))
        .collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); case.codecs.len()];
    for _ in 0..ROUNDS {
        for (((_, codec), repeats), times) in case.codecs.iter().zip(&repeats).zip(&mut times) {
            times.push(round(codec, &case.input, &mut out, *repeats).as_secs_f64() / f64::from(*repeats));
        }
    }
    let Some(ours) = times.first() else { return };
    for ((name, _), times) in case.codecs.iter().zip(&times) {
        let ratios = times.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
        let seconds = median(times.clone());
        #[allow(clippy::cast_precision_loss, reason = "a length in bytes is far below 2^52")]
        let rate = case.input.len() as f64 / seconds / 1e6;
        println!(
            "{:<24} {name:<14} {:>10.2} {rate:>10.0} {:>10.2} ×",
            case.name,
            seconds * 1e6,
            median(ratios)
        );
    }
}

fn round(codec: &Codec<'_>, input: &[u8], out: &mut Vec<u8>, repeats: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..repeats {
        out.clear();
        codec(black_box(input), out);
        black_box(&out);
    }
    start.elapsed()
}

/// How often a codec fits into a round; this warms it up, too.
fn repeats(codec: &Codec<'_>, input: &[u8], out: &mut Vec<u8>) -> u32 {
    let mut repeats = 1;
    while round(codec, input, out, repeats) < ROUND {
        repeats *= 2;
    }
    repeats
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
