//! What templating thinks in: images, revisions, and what a template refers to.

pub mod image;
pub mod machine;
pub mod revision;
pub mod standard;

pub use image::{ImageSpec, ImageStatus};
pub use machine::{Machine, Resolved, Size};

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
