//! Why descriptor sets cannot be served.

use crate::template::TemplateError;

/// Why descriptor sets cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Bytes that are not a `FileDescriptorSet`.
    #[error("not a file descriptor set")]
    NotASet,
    /// Descriptors that no compiler makes, such as a map without values.
    #[error("descriptors are malformed")]
    Malformed,
    /// A message has more fields than a message may have.
    #[error("message {0} has more than 65535 fields")]
    Fields(String),
    /// Two sets have different files of one name.
    #[error("file {0} differs between two descriptor sets")]
    ConflictingFile(String),
    /// A file of a syntax or an edition that is not known.
    #[error("file {file}: {syntax} is not supported: it must be proto2, proto3, or edition 2023 or 2024")]
    Syntax {
        /// The file.
        file: String,
        /// What it says.
        syntax: String,
    },
    /// The files do not fit together.
    #[error("descriptors cannot be linked")]
    Link(#[source] Box<prost_reflect::DescriptorError>),
    /// A rule's template cannot be served.
    #[error("{method}: template {template:?} cannot be served")]
    Template {
        /// Full name of the method.
        method: String,
        /// The template.
        template: String,
        /// What is wrong with it.
        #[source]
        source: TemplateError,
    },
    /// A rule names a field that is not there or cannot be used so.
    #[error("{method}: {template:?}: field {field:?} {problem}")]
    Field {
        /// Full name of the method.
        method: String,
        /// The template.
        template: String,
        /// The field path.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A rule's HTTP method is not one.
    #[error("{method}: {kind:?} is not an HTTP method")]
    HttpMethod {
        /// Full name of the method.
        method: String,
        /// What stands in its place.
        kind: String,
    },
    /// Two rules fit the same requests.
    #[error("{method} and {other} both bind {template:?}")]
    Ambiguous {
        /// Full name of the later method.
        method: String,
        /// Full name of the earlier one.
        other: String,
        /// The later method's template.
        template: String,
    },
}
