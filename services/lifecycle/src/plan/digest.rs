//! Short digests for names that have to be bounded and distinct.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The first `bytes` bytes of the text's SHA-256 in hexadecimal.
pub fn short_digest(text: &str, bytes: usize) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(bytes)
        .fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
