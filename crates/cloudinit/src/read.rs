//! Reading user data as a guest does: which parts there are, in which order.

use crate::{fault::Fault, format::Format, mime};

/// One part of user data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type that cloud-init hands it to a handler by.
    pub mime_type: String,
    /// The text.
    pub content: String,
}

/// The parts of a text; one that is no message is its own only part.
///
/// # Errors
/// If it has no format that cloud-init knows, or a message is broken.
pub fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let format = Format::of(text)?;
    if format != Format::Multipart {
        return Ok(vec![Entry {
            mime_type: format.mime_type().to_owned(),
            content: text.to_owned(),
        }]);
    }
    mime::parts(text)?
        .into_iter()
        .map(|part| {
            Ok(Entry {
                content: part.content()?,
                mime_type: part.mime_type,
            })
        })
        .collect()
}
