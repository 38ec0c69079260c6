//! Any bytes as a message: what is written as JSON reads back and is written the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steading_transcode::codec::{EncodeOptions, UnknownAny, Unset};
use steading_transcode_fuzz::{encode, is_canonical, message};

fuzz_target!(|input: &[u8]| {
    let Some((id, _, wire)) = message(input) else { return };
    // An Any of unknown type is written for people; it does not read back.
    let options = EncodeOptions {
        unset: Unset::Omit,
        unknown_any: UnknownAny::Refuse,
        ..EncodeOptions::default()
    };
    let _ = encode(id, wire, EncodeOptions::default());
    if encode(id, wire, options).is_ok() {
        is_canonical(id, wire, options);
    }
});
