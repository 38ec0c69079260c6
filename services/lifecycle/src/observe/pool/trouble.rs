//! What is wrong with a pool.

/// Why a pool is not worked on, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Trouble {
    /// A reason in CamelCase, and a text for people.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// Whether what is asked for can never be done as it is.
    pub fn is_final(&self) -> bool {
        matches!(self.reason, "TemplateRefused" | "VersionSkew")
    }
}
