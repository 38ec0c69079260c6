//! Watch: what exists, SYNCED, then every change, resumable.
//!
//! The events before SYNCED carry no token: a client that is cut off there begins again. Every later token stands for all
//! events up to its own. The reader's pace is the stream's: nothing is queued here.

use steading_api::{
    error::RpcError,
    reflect,
    standard::{Resource, WatchQuery},
};
use steading_model::name::ParentName;

use self::view::{EventStream, View, expired, malformed_token};
use super::{Collection, ParentOf, catch_up::is_caught_up, collection::kind, read::require_parent};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

mod follow;
mod relay;
mod view;

pub(super) async fn watch<C: Collection>(
    collection: &C,
    context: &CallContext,
    query: WatchQuery,
) -> Result<EventStream<C::Resource>, RpcError> {
    let within = ParentOf::<C>::parse_within(&query.parent).map_err(|e| RpcError::invalid_name("parent", &e))?;
    let filter = reflect::filter(<C::Resource as Resource>::MESSAGE, &query.filter)?;
    context
        .authorize(Action::new(Verb::Watch, kind::<C>(), &query.parent))
        .await?;
    collection.available().await?;
    // A watch is held for long, so one request more does not count.
    require_parent(collection, &within, &query.parent).await?;
    // A token goes on where it was made: places in an index's log have a dot, versions of the API server have none.
    let token = query.resume_token;
    let of_index = token.contains('.');
    let index = match collection.index() {
        Some(index) if of_index => Some(index),
        Some(index) if index.joined().is_some() => {
            if !token.is_empty() {
                return Err(malformed_token());
            }
            Some(index)
        }
        Some(index) if token.is_empty() => {
            let caught_up = is_caught_up(collection, index.as_ref(), &within, "").await?;
            caught_up.map(|_| index)
        }
        Some(_) | None => None,
    };
    let view = View {
        collection: collection.clone(),
        within,
        filter,
    };
    match index {
        Some(index) => follow::follow(view, index, token),
        None if of_index => Err(expired()),
        None => relay::relay(view, token),
    }
}
