//! One thing that is wrong.

/// One thing that is wrong with a request, as in `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable kind, as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong, for people.
    pub message: String,
    /// Path of the field, as `spec.replicas`.
    pub field: String,
}

impl Cause {
    /// A cause from its three parts.
    pub fn new(reason: &str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.into(),
        }
    }
}
