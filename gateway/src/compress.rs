//! gzip and zstd for replies, gzip for requests with a cap on what unpacking may make.

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
/// The fastest of zstd's levels above zero: a reply is packed once and read once.
const ZSTD_LEVEL: i32 = 1;

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

/// How a body may be packed, in the order of preference between equal weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    const ALL: [Self; 2] = [Self::Zstd, Self::Gzip];

    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    fn pack(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }
}

/// What the client likes most of what there is; `None` where it wants the body as it is (RFC 9110, section 12.5.3).
pub(crate) fn accepted(headers: &HeaderMap) -> Option<Coding> {
    // Read again for each question rather than kept: most requests ask for nothing that is packed.
    let offers = || {
        let lists = headers.get_all(ACCEPT_ENCODING).iter();
        let lists = lists.filter_map(|value| value.to_str().ok());
        lists.flat_map(|list| list.split(',')).map(offer)
    };
    let weight = |name: &str| {
        let named = offers().find(|(coding, _)| coding.eq_ignore_ascii_case(name));
        let any = || offers().find(|(coding, _)| *coding == "*");
        named.or_else(any).map_or(0.0, |(_, weight)| weight)
    };
    let mut best = None;
    for coding in Coding::ALL {
        let weight = weight(coding.name());
        if weight > best.map_or(0.0, |(_, most)| most) {
            best = Some((coding, weight));
        }
    }
    best.map(|(coding, _)| coding)
}

/// `gzip;q=0.5`
fn offer(item: &str) -> (&str, f32) {
    let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
    let weight = parameters
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("q=")?.trim().parse().ok());
    (coding.trim(), weight.unwrap_or(1.0))
}

/// Packs a whole body that is worth it, if the client takes that; caches learn that it depends on what a client takes either way.
pub(crate) fn pack(coding: Option<Coding>, response: &mut Response<Body>) {
    let (Body::Full(bytes) | Body::Held(bytes, _)) = response.body() else {
        return;
    };
    if bytes.len() < LEAST || response.headers().contains_key(CONTENT_ENCODING) {
        return;
    }
    let packed = coding.and_then(|coding| Some((coding.name(), coding.pack(bytes).ok()?)));
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some((name, packed)) = packed {
        *response.body_mut() = Body::Full(Bytes::from(packed));
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, text.parse().unwrap());
        accepted(&headers)
    }

    #[test]
    fn the_clients_weights_decide() {
        assert_eq!(asked("gzip, deflate, br, zstd"), Some(Coding::Zstd));
        assert_eq!(asked("zstd;q=0.5, gzip;q=0.8"), Some(Coding::Gzip));
        assert_eq!(asked("*"), Some(Coding::Zstd));
        assert_eq!(asked("*;q=0.1, zstd;q=0"), Some(Coding::Gzip));
        assert_eq!(asked("GZIP"), Some(Coding::Gzip));
        for nothing in ["", "br", "identity", "gzip;q=0", "zstd;q=0.0, gzip; q=0"] {
            assert_eq!(asked(nothing), None, "{nothing}");
        }
        assert_eq!(accepted(&HeaderMap::new()), None);
    }
}
