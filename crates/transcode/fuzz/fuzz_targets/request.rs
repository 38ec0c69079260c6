//! A whole request: `METHOD path?query`, a line with an etag, and the body. What is bound is a message that is written and read back.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use steading_transcode::bind::{self, Body, Parts, SystemParameters};
use steading_transcode::codec::{DecodeOptions, EncodeError, EncodeOptions, UnknownAny, Unset};
use steading_transcode_fuzz::{CATALOG, encode, is_canonical};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let head = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let etag = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let body = lines.next().unwrap_or_default();
    let Some((method, target)) = head.and_then(|head| head.split_once(' ')) else {
        return;
    };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Ok(matched) = CATALOG.route(&method, path) else {
        return;
    };
    let raw = matched.binding.takes_raw_body(&CATALOG);
    let parts = Parts {
        path,
        query,
        body: match (body.is_empty(), raw) {
            (true, _) => Body::Empty,
            (_, true) => Body::Raw {
                content_type: "text/plain",
                data: body,
            },
            _ => Body::Json(body),
        },
        if_match: etag.filter(|etag| !etag.is_empty()),
        resume: Some("token"),
    };
    let mut wire = Vec::new();
    if bind::request(&CATALOG, &matched, &parts, &DecodeOptions::default(), &mut wire).is_err() {
        return;
    }
    let rpc = CATALOG.method(matched.binding.method);
    let options = EncodeOptions {
        unset: Unset::Omit,
        unknown_any: UnknownAny::Refuse,
        ..EncodeOptions::default()
    };
    // A request that is bound is a message: everything in it was checked. Only the mask of a query may name fields that JSON cannot.
    match encode(rpc.input, &wire, options) {
        Ok(_) => is_canonical(rpc.input, &wire, options),
        Err(EncodeError::Unrepresentable("field mask")) => {}
        Err(error) => panic!("{error}"),
    }
    if rpc.input == rpc.output {
        let _ = bind::response_etag(&CATALOG, matched.binding, &wire);
        let _ = bind::response(
            &CATALOG,
            matched.binding,
            &wire,
            SystemParameters::default(),
            &options,
            &mut Vec::new(),
        );
    }
});
