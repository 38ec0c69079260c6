//! A sequence of JSON values comes out the same however it arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steading_transcode::InvalidRequest;
use steading_transcode::values::Values;

fn split(body: &[u8], may_be_array: bool, size: usize) -> Result<Vec<Vec<u8>>, InvalidRequest> {
    let (mut values, mut out) = (Values::new(1 << 16, may_be_array), Vec::new());
    for piece in body.chunks(size) {
        values.push(piece);
        while let Some(value) = values.next_value()? {
            out.push(value);
        }
    }
    out.extend(values.finish()?);
    Ok(out)
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else {
        return;
    };
    let (array, size) = (choice & 1 == 1, usize::from(choice >> 1) + 1);
    let whole = split(body, array, usize::MAX);
    assert_eq!(split(body, array, size), whole);
    let Ok(values) = whole else { return };
    // Whatever is JSON by itself is so because it was cut where it ends.
    let text: Vec<&str> = values
        .iter()
        .filter_map(|value| std::str::from_utf8(value).ok())
        .collect();
    let is_json = |text: &&str| serde_json::from_str::<serde_json::Value>(text).is_ok();
    if !array && text.len() == values.len() && text.iter().all(is_json) {
        let stream = serde_json::Deserializer::from_slice(body).into_iter::<serde_json::Value>();
        if let Ok(theirs) = stream.collect::<Result<Vec<_>, _>>() {
            assert_eq!(theirs.len(), values.len());
        }
    }
});
