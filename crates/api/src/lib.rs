//! Steading's contracts as Rust: everything under `proto/`, generated, plus the descriptor set that the
//! gateway and reflection serve.
//!
//! Nothing in here decides anything. The hand-written part is the conversion of `steading.type` to and from
//! the vocabulary of [`steading_model`], and [`error`], the builder of every error that a client sees.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/steading.rs"));
}

pub mod convert;
pub mod error;
pub mod reflect;
pub mod standard;

pub use generated::google;
pub use generated::steading::r#type as types;
pub use generated::steading::{lifecycle, scheduling, storage, templating};

/// The encoded `FileDescriptorSet` of all contracts with their imports, comments and HTTP rules.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steading.binpb"));

/// The encoded `FileDescriptorSet` of what nearly all contracts import: protobuf's well-known types, and the parts of
/// `google.api` that say how methods look over HTTP.
pub const IMPORTS_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imports.binpb"));
