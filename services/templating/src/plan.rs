//! Decisions, without IO.

pub mod image;
pub mod status;
