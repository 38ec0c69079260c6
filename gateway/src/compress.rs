//! gzip in both directions, with a cap on what unpacking may make.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, Response};

use crate::body::Body;

/// Bodies below this are sent as they are: they fit one packet either way.
const LEAST: usize = 1024;

/// Why a body cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GunzipError {
    TooLarge,
    Malformed,
}

pub(crate) fn gunzip(body: &Bytes, limit: usize) -> Result<Bytes, GunzipError> {
    let mut out = Vec::new();
    let mut reader = MultiGzDecoder::new(body.as_ref()).take(limit as u64 + 1);
    reader.read_to_end(&mut out).map_err(|_| GunzipError::Malformed)?;
    if out.len() > limit {
        Err(GunzipError::TooLarge)
    } else {
        Ok(Bytes::from(out))
    }
}

/// Whether the client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| {
        let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
        let refused = weight
            .replace(' ', "")
            .strip_prefix("q=")
            .and_then(|q| q.parse::<f32>().ok())
            .is_some_and(|q| q <= 0.0);
        matches!(coding.trim(), "gzip" | "*") && !refused
    })
}

/// Packs a whole body that is worth it.
pub(crate) fn gzip(response: &mut Response<Body>) {
    let Body::Full(bytes) = response.body() else { return };
    if bytes.len() < LEAST || response.headers().contains_key(CONTENT_ENCODING) {
        return;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let Ok(packed) = encoder.write_all(bytes).and_then(|()| encoder.finish()) else {
        return;
    };
    *response.body_mut() = Body::Full(Bytes::from(packed));
    response
        .headers_mut()
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("accept-encoding"));
}
