//! templating
pub mod domain;
pub mod render;
pub mod validate;
