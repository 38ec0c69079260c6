//! Any text as the JSON of a message: what is taken is written canonically, in every style.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steading_transcode::codec::{EncodeOptions, EnumStyle, Unset};
use steading_transcode_fuzz::{decode, is_canonical, message};

fuzz_target!(|input: &[u8]| {
    let Some((id, _, json)) = message(input) else { return };
    let Ok(wire) = decode(id, json) else { return };
    for unset in [Unset::Omit, Unset::Emit] {
        for enums in [EnumStyle::Names, EnumStyle::Numbers] {
            let options = EncodeOptions {
                unset,
                enums,
                ..EncodeOptions::default()
            };
            is_canonical(id, &wire, options);
        }
    }
});
