//! The one engine of methods: standard ones (AIP-131 to 135, and Watch) and custom ones (AIP-136), for resources that
//! are one Kubernetes object each.
//!
//! A service says how its resource and the object relate ([`Collection`], [`Writable`], [`Acts`], [`Revises`]), and its
//! handlers are one line each: `self.pools.create(request).await`. [`Methods`] does the rest in the same way everywhere:
//! authorise, parse names, page, filter, masks, etags, request ids, `validate_only`, and errors with reasons.
//!
//! Promises:
//! - A list gives every resource that exists throughout exactly once, in the order of resource names, however long it is.
//! - A watch resumed with the token of any event misses nothing, or is refused with `RESUME_TOKEN_EXPIRED`.
//! - A write never overwrites what it has not seen: it replaces exactly the version that was read, and otherwise
//!   reads and decides again.
//! - An etag changes when a client's part of the resource changes, and not with its status.
//! - A repeated request (same request id, same content) returns what the first one did. What is already as asked for is
//!   never refused for its etag.

mod act;
mod catch_up;
mod change;
mod collection;
mod create;
mod delete;
mod fault;
mod index;
mod list;
mod mark;
mod metadata;
mod methods;
mod read;
mod watch;

pub use collection::{Acts, Collection, Decision, ParentOf, Presence, Revises, Writable};
pub use fault::kube_error;
pub use index::{CATCH_UP, Change, Index, Indexed};
pub use metadata::{Keys, condition, time, update_time};
pub use methods::{Methods, ResponseStream};
