//! What is wrong in a document, and where.

/// What is wrong in a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{text}", .path, if .path.is_empty() { "" } else { ": " })]
pub(super) struct Fault {
    /// The field, such as `rollout.maxSurge` or `nodeTaints[0].key`.
    pub(super) path: String,
    text: String,
}

impl Fault {
    pub(super) fn new(path: &str, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
        }
    }
}
