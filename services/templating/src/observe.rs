//! What is seen of the catalogue and of those who use it.
//!
//! Every replica runs the sources. Whatever is deleted is decided over fresh reads: what stands here is a reason to look, never a
//! reason to delete.

pub mod catalogue;
pub mod contents;
pub mod entry;
pub mod image;
pub mod index;
pub mod places;
pub mod revisions;
mod sources;
pub mod usage;

pub use index::{Observed, Subject};
pub use places::Places;
