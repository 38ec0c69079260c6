//! What can be done to every resource alike, because its descriptor says how: update masks, filters, etags.

mod descriptor;
mod digest;
mod filter;
mod mask;

pub use descriptor::{descriptor, dynamic};
pub use digest::{etag, request_hash};
pub use filter::{Filterable, filter, filter_fields};
pub use mask::update;
