//! HTTP and JSON to protobuf and back, by descriptors alone.
//!
//! The crate turns a `FileDescriptorSet` whose methods carry `google.api.http` rules into a [`Catalog`]: a routing
//! table plus a compiled [`Schema`]. With it a server takes an HTTP request apart and gets the wire bytes of the
//! gRPC request, and turns the wire bytes of the reply into JSON:
//!
//! ```text
//! method, path ── Catalog::route ──► Matched { binding, captures }
//! captures, query, body ── bind::request ──► request message, wire format
//! reply message, wire format ── bind::response ──► JSON
//! ```
//!
//! There is no dynamic message in between: [`codec::encode`] walks the wire bytes and writes JSON, [`codec::decode`]
//! walks the JSON and writes wire bytes, both driven by the schema.
//!
//! Invariants:
//! - Nothing in here does IO, spawns, sleeps or reads a clock.
//! - No input makes it panic, recurse without bound, or allocate more than a small factor of its size.
//! - What is ambiguous is refused: at start ([`CatalogError`]) for templates, with a field path
//!   ([`InvalidRequest`]) for requests.

mod behavior;
pub mod bind;
pub mod catalog;
pub mod codec;
mod error;
mod mask;
pub mod openapi;
mod percent;
mod query;
mod router;
pub mod rule;
pub mod schema;
mod template;
pub mod values;
pub mod wire;

pub use catalog::{Binding, BodyRule, Catalog, CatalogError, Matched, Method, MethodId};
pub use error::{FieldViolation, InvalidRequest};
pub use router::RouteError;
pub use schema::{MessageId, Schema};
pub use template::TemplateError;
