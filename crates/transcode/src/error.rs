//! What is wrong with a request, in terms that its sender can act on.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field in the request message, in the spelling of the JSON names; empty for the whole request.
    pub field: String,
    /// What is wrong with it, lowercase, no full stop.
    pub description: String,
}

/// A request that cannot be right whatever the service thinks of it: HTTP 400, `INVALID_ARGUMENT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRequest {
    /// What is wrong, in the order found. Never empty.
    pub violations: Vec<FieldViolation>,
}

impl InvalidRequest {
    /// A request with one fault.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            violations: vec![FieldViolation {
                field: field.into(),
                description: description.into(),
            }],
        }
    }

    /// The same fault seen from the message that holds `prefix`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        for violation in &mut self.violations {
            violation.field = join(prefix, &violation.field);
        }
        self
    }
}

/// `prefix` and `path` as one field path.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => prefix.to_owned(),
        _ if path.starts_with('[') => format!("{prefix}{path}"),
        _ => format!("{prefix}.{path}"),
    }
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.violations.first() else {
            return f.write_str("invalid request");
        };
        if first.field.is_empty() {
            f.write_str(&first.description)
        } else {
            write!(f, "{}: {}", first.field, first.description)
        }
    }
}

impl std::error::Error for InvalidRequest {}
