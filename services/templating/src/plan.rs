//! Decisions, without IO.

pub mod image;
pub mod resolve;
pub mod status;
