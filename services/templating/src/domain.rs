//! What templating thinks in: images, revisions, and what a template refers to.

mod digest;
pub mod image;
pub mod machine;
pub mod revision;
pub mod standard;

pub use image::{ImageSpec, ImageStatus};
pub use machine::{Machine, Resolved, Size};
