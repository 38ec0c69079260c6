//! The messages of the codec's benchmark as pbjson generates them: code that knows its types when it is compiled, the
//! other way to take protobuf to JSON and back.
//!
//! For the benchmark only. pbjson misses parts of the ProtoJSON mapping, so nothing that ships may depend on this.

#![allow(
    missing_docs,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated code"
)]

include!(concat!(env!("OUT_DIR"), "/steading.testing.v1.rs"));
include!(concat!(env!("OUT_DIR"), "/steading.testing.v1.serde.rs"));
