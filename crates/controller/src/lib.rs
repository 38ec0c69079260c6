//! What every controller needs below its domain: to see objects and know how fresh that view is, to work through keys, and to
//! act only on what was just read.
//!
//! ```text
//!  API server ──list, watch──► source ──projection──► index ──► changes ──► watch streams
//!                                │                      │
//!                              health                   └─keys──► queue ──► work (pure plan) ──► Fresh<K> ──► API server
//!                                                                   ▲
//!                                                                  term (leadership)
//! ```
//!
//! Invariants:
//! - [`health`] is the only judge of freshness: a source is live because its stream has proven itself lately, never because it
//!   was complete once.
//! - An [`index`] never goes back: it compares resource versions, so a late reply cannot overwrite a newer event, nor bring back what
//!   was deleted.
//! - A key of a [`queue`] never runs twice at once, and no tenant takes more than its share of the slots.
//! - What cannot be undone takes a [`fresh::Fresh`], which only a read of the API server makes.
//! - What is remembered about acting lives in a [`term::Term`] and ends with it.
//!
//! When the API server is away, sources become stale and say why; nothing is removed from an index by a failure.

pub mod changes;
pub mod fresh;
pub mod health;
pub mod index;
pub mod list;
pub mod metrics;
pub mod object;
pub mod outcome;
pub mod queue;
pub mod source;
pub mod term;
pub mod version;
pub mod work;

pub use fresh::Fresh;
pub use health::{Health, StaleReason};
pub use index::Index;
pub use object::ObjectRef;
pub use outcome::{Outcome, Retry, RetryPolicy};
pub use queue::{Keyed, Queue, QueueConfig};
pub use source::{Source, SourceConfig, Sources};
pub use term::Term;
pub use version::Version;
