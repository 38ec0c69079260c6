//! The gRPC services: parse, authorise, ask the domain, convert.

pub mod catalog;
pub mod convert;
pub mod diff;
pub mod images;
pub mod instance_types;
pub mod metadata;
pub mod preferences;
pub mod render;
pub mod revisions;
pub mod status;
pub mod template;
pub mod templates;
