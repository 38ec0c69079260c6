//! Any text as the template of a rule: it is refused, or serves paths.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use steading_transcode::bind::{self, Body, Parts};
use steading_transcode::codec::DecodeOptions;
use steading_transcode::{Catalog, wire};

const NAME: &str = "template.proto";
/// As long as any template that is tried, so that its place in the file can be filled.
const PLACE: usize = 96;

struct Memory;

impl protox::file::FileResolver for Memory {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        if name != NAME {
            return Err(protox::Error::file_not_found(name));
        }
        let source = format!(
            r#"syntax = "proto3"; package t; import "google/api/annotations.proto";
            service S {{ rpc M(A) returns (A) {{ option (google.api.http) = {{get: "{}"}}; }} }}
            message A {{ string a = 1; B b = 2; int64 c = 3; repeated string d = 4; }}
            message B {{ string e = 1; A f = 2; }}"#,
            "#".repeat(PLACE)
        );
        protox::file::File::from_source(name, &source)
    }
}

static SET: LazyLock<(Vec<u8>, usize)> = LazyLock::new(|| {
    let mut files = protox::file::ChainFileResolver::new();
    files.add(Memory);
    let vendor = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../api/vendor");
    files.add(protox::file::IncludeFileResolver::new(vendor));
    files.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.include_imports(true).open_file(NAME).expect("the source");
    let set = compiler.encode_file_descriptor_set();
    let at = set
        .windows(PLACE)
        .position(|window| window.iter().all(|b| *b == b'#'))
        .expect("the place");
    (set, at)
});

fuzz_target!(|input: &[u8]| {
    let _ = wire::find(input, &[1]);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (template, path) = text.split_once('\n').unwrap_or((text, "/v1/x"));
    if template.len() > PLACE || template.is_empty() {
        return;
    }
    // The place keeps its length: the template is followed by literals that cannot change what is before them.
    let (set, at) = &*SET;
    let mut set = set.clone();
    let filled = if template.ends_with('/') || template.len() == PLACE {
        format!("{template:x<PLACE$}")
    } else {
        format!("{template}/{}", "x".repeat(PLACE - template.len() - 1))
    };
    set[*at..*at + PLACE].copy_from_slice(&filled.as_bytes()[..PLACE]);
    let Ok(catalog) = Catalog::new(&[&set], &[], |_| true) else {
        return;
    };
    let path = format!("{path}/{}", "x".repeat(PLACE.saturating_sub(template.len() + 1)));
    let Ok(matched) = catalog.route(&http::Method::GET, &path) else {
        return;
    };
    let parts = Parts {
        path: &path,
        query: "",
        body: Body::Empty,
        if_match: None,
        resume: None,
    };
    let _ = bind::request(&catalog, &matched, &parts, &DecodeOptions::default(), &mut Vec::new());
});
