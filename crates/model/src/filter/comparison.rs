//! What a filter consists of, and why a text is none.

/// Longest filter that is parsed.
pub const MAX_FILTER: usize = 2048;
/// Most comparisons in a filter: each costs a look at every object.
pub const MAX_COMPARISONS: usize = 16;

/// Why a filter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The filter is longer than [`MAX_FILTER`].
    #[error("filter must have at most {MAX_FILTER} bytes")]
    TooLong,
    /// The filter has more than [`MAX_COMPARISONS`] comparisons.
    #[error("filter must have at most {MAX_COMPARISONS} comparisons")]
    TooMany,
    /// The text breaks the grammar.
    #[error("filter is not valid at byte {at}: expected {expected}")]
    Syntax {
        /// Where, in bytes from the start.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// The field cannot be filtered by.
    #[error("cannot filter by {field:?}; known fields are {known}")]
    UnknownField {
        /// The field as written.
        field: String,
        /// The fields that there are.
        known: String,
    },
    /// The field never has the value, so that the comparison can only be a mistake.
    #[error("{field} is never {value:?}; possible values are {known}")]
    UnknownValue {
        /// The field.
        field: String,
        /// The value as written.
        value: String,
        /// The values that there are.
        known: String,
    },
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Equals,
    /// `!=`
    Differs,
    /// `:` with a value.
    Has,
    /// `:*`, or `:` with a key on a map.
    Present,
}

/// One comparison of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Comparison {
    /// The field.
    pub field: String,
    /// The key, if the field is a map.
    pub key: Option<String>,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with; empty for [`Operator::Present`].
    pub value: String,
}
