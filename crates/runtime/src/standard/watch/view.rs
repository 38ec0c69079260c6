//! What a watch shows, and its events.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
};

use futures::Stream;
use prost::Message;
use steading_api::{
    error::RpcError,
    standard::Resource,
    types::v1::{ErrorReason, WatchEventType},
};
use steading_model::{filter::Filter, name::Within};

use crate::standard::{
    collection::{Collection, ParentOf},
    read::{passes, seal},
};

/// One event.
pub(in crate::standard) struct Event<R> {
    pub(in crate::standard) kind: WatchEventType,
    /// Absent when synced.
    pub(in crate::standard) resource: Option<R>,
    /// Where to resume after it; empty before SYNCED.
    pub(in crate::standard) token: String,
}

/// A stream of events; it ends with an error or not at all.
pub(in crate::standard) type EventStream<R> = Pin<Box<dyn Stream<Item = Result<Event<R>, RpcError>> + Send>>;

pub(in crate::standard::watch) fn malformed_token() -> RpcError {
    let text = "was not made by this service";
    RpcError::new(ErrorReason::InvalidField, format!("resume_token: {text}")).with_field("resume_token", text)
}

/// What a watch shows.
pub(in crate::standard) struct View<C: Collection> {
    pub(in crate::standard) collection: C,
    pub(in crate::standard) within: Within<ParentOf<C>>,
    pub(in crate::standard) filter: Filter,
}

impl<C: Collection> View<C> {
    /// Whether a resource belongs to what is watched at all.
    pub(in crate::standard) fn contains(&self, resource: &C::Resource) -> bool {
        resource
            .name()
            .parse()
            .is_ok_and(|name| self.within.contains::<C::Name>(&name))
    }

    pub(in crate::standard) fn passes(&self, resource: &C::Resource) -> Result<bool, RpcError> {
        passes(&self.filter, resource)
    }
}

pub(in crate::standard) fn event<R: Resource>(
    kind: WatchEventType,
    resource: R,
    token: &str,
) -> Result<Event<R>, RpcError> {
    Ok(Event {
        kind,
        resource: Some(seal(resource)?),
        token: token.to_owned(),
    })
}

pub(in crate::standard) fn synced<R>(token: String) -> Event<R> {
    Event {
        kind: WatchEventType::Synced,
        resource: None,
        token,
    }
}

pub(in crate::standard) fn expired() -> RpcError {
    RpcError::new(
        ErrorReason::ResumeTokenExpired,
        "the resume token has expired; watch again without one",
    )
}

/// A resource of which only the name is known.
pub(in crate::standard) fn named<R: Resource>(name: String) -> R {
    let mut resource = R::default();
    resource.set_name(name);
    resource
}

/// Tells a resource from what it was. Two equal ones may differ in it, as maps have no order: then an event comes twice.
pub(in crate::standard::watch) fn digest<R: Resource>(resource: &R) -> u64 {
    let mut hasher = DefaultHasher::new();
    Message::encode_to_vec(resource).hash(&mut hasher);
    hasher.finish()
}
