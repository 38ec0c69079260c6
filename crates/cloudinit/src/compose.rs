//! Several texts of user data as one, each of them byte for byte as it was.
//!
//! A part is taken over as it is, not parsed and written again. cloud-init reads the parts in their order and merges what
//! each `#cloud-config` says into what came before, by the rule in that part's `Merge-Type` header; a `merge_how` or
//! `merge_type` inside a user's part comes before the header. Scripts run in the order of the parts.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use crate::format::Format;

/// Characters of a line of base64, by RFC 2045.
const BASE64_LINE: usize = 76;

/// How cloud-init merges a `#cloud-config` into what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// A key that is there already gets this part's value: what cloud-init does by itself.
    Replace,
    /// Lists are joined, earlier entries first; mappings are merged; a text replaces the one that is there already; numbers
    /// and flags that are there already stay.
    Append,
}

impl Merge {
    fn header(self) -> &'static str {
        match self {
            Self::Replace => "dict(replace)+list()+str()",
            Self::Append => "dict(no_replace,recurse_list,recurse_str)+list(append)+str()",
        }
    }
}

/// One text of user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it is.
    pub format: Format,
    /// The text; a multipart message is taken over with its headers.
    pub text: &'a str,
    /// How it is merged if it is a cloud-config.
    pub merge: Merge,
}

/// One text that holds all parts. A single part stays as it is.
pub fn compose(parts: &[Part<'_>]) -> String {
    if let [only] = parts {
        return only.text.to_owned();
    }
    let boundary = boundary(parts);
    let mut text = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n");
    for part in parts {
        // Writing to a String cannot fail.
        let _ = write!(text, "--{boundary}\n{}\n", entry(part));
    }
    let _ = writeln!(text, "--{boundary}--");
    text
}

/// A boundary that follows from the parts and is in none of them.
fn boundary(parts: &[Part<'_>]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.text.len().to_be_bytes());
        digest.update(part.text);
    }
    let mut boundary = "steading-".to_owned();
    for byte in digest.finalize().iter().take(10) {
        let _ = write!(boundary, "{byte:02x}");
    }
    while parts.iter().any(|part| part.text.contains(&boundary)) {
        boundary.push('x');
    }
    boundary
}

fn entry(part: &Part<'_>) -> String {
    if part.format == Format::Multipart {
        return part.text.to_owned();
    }
    let mut text = format!(
        "Content-Type: {}; charset=\"utf-8\"\nMIME-Version: 1.0\n",
        part.format.mime_type()
    );
    if part.format == Format::CloudConfig {
        let _ = writeln!(text, "Merge-Type: {}", part.merge.header());
    }
    // A carriage return at the very end would be taken for a part of the line end before the boundary.
    if part.text.is_ascii() && !part.text.ends_with('\r') {
        let _ = write!(text, "Content-Transfer-Encoding: 7bit\n\n{}", part.text);
    } else {
        // Python's email package alters bodies that are neither ASCII nor encoded.
        text.push_str("Content-Transfer-Encoding: base64\n\n");
        let packed = STANDARD.encode(part.text);
        for (index, letter) in packed.chars().enumerate() {
            if index > 0 && index % BASE64_LINE == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests;
