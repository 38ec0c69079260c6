//! User data as cloud-init reads it: which texts are valid, and how several become one.
//!
//! ```text
//!  a user's text ─► check ─► its format, or why cloud-init would not take it
//!  parts (the user's, Steading's) ─► compose ─► one text ─► read ─► the parts again
//! ```
//!
//! Nothing in here rewrites a user's text. YAML that is parsed and written again changes its meaning (cloud-init reads
//! YAML 1.1, in which `0755` is an octal number), so parts stay the bytes that they were, and cloud-init itself merges
//! them by the rule that stands beside each part. Everything is a pure function of texts.

mod compose;
mod fault;
mod format;
mod mime;
mod read;
mod yaml;

pub use compose::{Merge, Part, compose};
pub use fault::{Fault, MAX_BYTES};
pub use format::{Format, check};
pub use read::{Entry, read};
