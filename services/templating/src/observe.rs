//! Looking things up in the infra cluster: what templates refer to, what is stored of them, and who uses what.

pub mod catalogue;
pub mod image;
pub mod revisions;
pub mod usage;
