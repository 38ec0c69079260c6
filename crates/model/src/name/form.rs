//! What all resource names have in common.

use crate::ids::{Id, IdError};

/// What parts a project from what is its own in an object's name.
pub const SEPARATOR: &str = "--";

/// Why a text is not the resource name that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The segments are not those of the collection.
    #[error("{text:?} must have the form {pattern}")]
    Pattern {
        /// The text as given.
        text: String,
        /// The expected pattern, such as `projects/{project}`.
        pattern: &'static str,
    },
    /// A segment is not an id of its kind.
    #[error("{segment} in {pattern} is not valid")]
    Segment {
        /// The variable of the pattern, such as `project`.
        segment: &'static str,
        /// The expected pattern.
        pattern: &'static str,
        /// What is wrong with the segment.
        #[source]
        source: IdError,
    },
}

impl NameError {
    /// The error and its cause in one sentence, as a client should read it.
    pub fn describe(&self) -> String {
        match self {
            Self::Pattern { .. } => self.to_string(),
            Self::Segment { source, .. } => format!("{self}: {source}"),
        }
    }
}

/// Splits an object's name into the project and what is its own.
pub(super) fn split_object_name(name: &str) -> Option<(Id, &str)> {
    let (project, rest) = name.split_once(SEPARATOR)?;
    Some((Id::parse(project).ok()?, rest))
}
