//! A watch that follows an index's log at the reader's pace. Tokens are places in the log.

use std::{collections::BTreeMap, sync::Arc};

use steading_api::{error::RpcError, standard::Resource, types::v1::WatchEventType};

use super::view::{Event, EventStream, View, digest, event, expired, named, synced};
use crate::standard::{Change, Collection, Index};

/// # Errors
/// If the log does not reach back to the token.
pub(super) fn follow<C: Collection>(
    view: View<C>,
    index: Arc<dyn Index<C::Resource>>,
    token: String,
) -> Result<EventStream<C::Resource>, RpcError> {
    if !token.is_empty() {
        index
            .since(&token, view.within.namespace().as_deref())
            .ok_or_else(expired)?;
    }
    let follower = Follower {
        view,
        index,
        known: BTreeMap::new(),
        is_resumed: !token.is_empty(),
    };
    Ok(follower.run(token))
}

struct Follower<C: Collection> {
    view: View<C>,
    index: Arc<dyn Index<C::Resource>>,
    /// What the client knows: digests by name, to leave out changes that it cannot see. Bounded by what the index holds.
    known: BTreeMap<String, u64>,
    /// Whether the client may know more than that.
    is_resumed: bool,
}

impl<C: Collection> Follower<C> {
    fn run(mut self, token: String) -> EventStream<C::Resource> {
        Box::pin(async_stream::try_stream! {
            if let Some(listed) = self.index.joined() {
                listed.await;
            }
            let namespace = self.view.within.namespace();
            let mut place = token;
            if place.is_empty() {
                // What changes while the names are read comes again afterwards.
                place = self.index.end();
                for name in self.index.names(namespace.as_deref()) {
                    if let Some(event) = self.changed(name, "")? {
                        yield event;
                    }
                }
                yield synced(place.clone());
            }
            loop {
                // A reader that fell behind the log begins again: nothing is left out silently.
                let end = self.index.end();
                let changes = self.index.since(&place, namespace.as_deref()).ok_or_else(expired)?;
                let mut last = end;
                for (token, change) in changes {
                    let event = match change {
                        Change::Present(name) => self.changed(name, &token)?,
                        Change::Gone(resource) => self.gone(*resource, &token)?,
                    };
                    last = token;
                    if let Some(event) = event {
                        yield event;
                    }
                }
                place = last;
                self.index.grows(&place).await;
            }
        })
    }

    fn changed(&mut self, name: String, token: &str) -> Result<Option<Event<C::Resource>>, RpcError> {
        let Some(resource) = self.index.get(&name) else {
            // Gone since; the log has that too, unless it came between the cursor and the names.
            let known = self.known.remove(&name).is_some();
            let left = known.then(|| event(WatchEventType::Deleted, named(name), token));
            return left.transpose();
        };
        if !self.view.contains(&resource) {
            return Ok(None);
        }
        if !self.view.passes(&resource)? {
            let known = self.known.remove(&name).is_some() || self.is_resumed;
            let left = known.then(|| event(WatchEventType::Deleted, resource, token));
            return left.transpose();
        }
        let seen = event(WatchEventType::Modified, resource, token)?;
        let digest = seen.resource.as_ref().map(digest).unwrap_or_default();
        let kind = match self.known.insert(name, digest) {
            Some(before) if before == digest => return Ok(None),
            Some(_) => WatchEventType::Modified,
            None if self.is_resumed => WatchEventType::Modified,
            None => WatchEventType::Added,
        };
        Ok(Some(Event { kind, ..seen }))
    }

    fn gone(&mut self, resource: C::Resource, token: &str) -> Result<Option<Event<C::Resource>>, RpcError> {
        if !self.view.contains(&resource) {
            return Ok(None);
        }
        let known = self.known.remove(resource.name()).is_some();
        if known || (self.is_resumed && self.view.passes(&resource)?) {
            return event(WatchEventType::Deleted, resource, token).map(Some);
        }
        Ok(None)
    }
}
