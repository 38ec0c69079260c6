//! Writing to the infra cluster what was decided.

pub mod image;
pub mod revision;
