//! Parts of user data.

use steading_cloudinit::{Fault, Format, Merge, Part};

/// A part as it is; its first line says what it is.
///
/// # Errors
/// If it has no format that cloud-init knows.
pub(super) fn part(text: &str, merge: Merge) -> Result<Part<'_>, Fault> {
    Ok(Part {
        format: Format::of(text)?,
        text,
        merge,
    })
}
