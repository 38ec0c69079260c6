//! Any bytes as a descriptor set, alone and in the place of a part of one that can be served.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steading_transcode::{Catalog, openapi};
use steading_transcode_fuzz::SET;

fn compile(set: &[u8]) {
    let Ok(catalog) = Catalog::new(&[set], &[], |_| true) else {
        return;
    };
    let document = openapi::document_of(&catalog, &openapi::Options::default());
    assert_eq!(document["openapi"], "3.1.0");
    for path in ["/", "/v1/shelves/a/books/b", "/v1/x:y"] {
        let _ = catalog.route(&http::Method::GET, path);
    }
}

// The catalog catches the panics of the library that links descriptors; those of its own still end the run.
fuzz_target!(init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))), |input: &[u8]| {
    compile(input);
    let Some((at, patch)) = input.split_first_chunk::<4>() else {
        return;
    };
    let mut set = SET.clone();
    let at = u32::from_be_bytes(*at) as usize % set.len();
    for (slot, byte) in set.iter_mut().skip(at).zip(patch) {
        *slot = *byte;
    }
    compile(&set);
});
