//! A watch of the API server, passed on event by event. Tokens are resource versions.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use steading_api::{
    error::RpcError,
    standard::Resource,
    types::v1::{ErrorReason, WatchEventType},
};

use super::view::{Event, EventStream, View, event, expired, malformed_token, named, synced};
use crate::standard::{
    Collection,
    read::{Chunks, is_expired, listing_fault, unsealed},
};

/// Pause before a watch that broke is opened again.
const RETRY: Duration = Duration::from_millis(500);
/// Failures in a row after which the stream ends, so that the client sees that something is wrong.
const MAX_FAILURES: u32 = 10;
/// Longest resource version: etcd's are numbers of 64 bits.
const MAX_TOKEN: usize = 20;

pub(super) fn relay<C: Collection>(view: View<C>, token: String) -> Result<EventStream<C::Resource>, RpcError> {
    if token.len() > MAX_TOKEN || !token.bytes().all(|b| b.is_ascii_digit()) {
        // Of an index that served this before: the client begins again.
        return Err(if token.contains('.') {
            expired()
        } else {
            malformed_token()
        });
    }
    let namespace = view.within.namespace();
    let relay = Relay {
        api: view.collection.api(namespace.as_deref()),
        selector: view.collection.selector(&view.within),
        known: BTreeSet::new(),
        is_resumed: !token.is_empty(),
        view,
    };
    Ok(relay.run(token))
}

struct Relay<C: Collection> {
    api: Api<C::Object>,
    selector: String,
    view: View<C>,
    /// Names of what the client knows. Bounded by what the API server holds.
    known: BTreeSet<String>,
    /// Whether the client may know more than that.
    is_resumed: bool,
}

impl<C: Collection> Relay<C> {
    fn run(mut self, token: String) -> EventStream<C::Resource> {
        Box::pin(async_stream::try_stream! {
            let mut version = token;
            if version.is_empty() {
                let mut chunks = Chunks::new(self.api.clone(), &self.selector);
                let mut listed = BTreeSet::new();
                loop {
                    match chunks.next().await {
                        Ok(None) => break,
                        Ok(Some(chunk)) => {
                            for object in &chunk {
                                listed.extend(self.name(object));
                                if let Some(event) = self.changed(object, "")? {
                                    yield event;
                                }
                            }
                        }
                        Err(error) if is_expired(&error) => {
                            chunks = Chunks::new(self.api.clone(), &self.selector);
                            listed.clear();
                        }
                        Err(error) => Err(listing_fault::<C>("", &error))?,
                    }
                }
                // Left over from a list that had to begin again.
                for name in self.known.difference(&listed).cloned().collect::<Vec<_>>() {
                    self.known.remove(&name);
                    yield event(WatchEventType::Deleted, named(name), "")?;
                }
                version = chunks.version;
                yield synced(version.clone());
            }
            let mut failures = 0;
            loop {
                let mut params = WatchParams::default();
                if !self.selector.is_empty() {
                    params = params.labels(&self.selector);
                }
                match self.api.watch(&params, &version).await {
                    Err(error) if is_expired(&error) => Err(expired())?,
                    Err(_) => failures += 1,
                    Ok(events) => {
                        let mut events = Box::pin(events);
                        while let Some(event) = events.next().await {
                            let event = match event {
                                Ok(WatchEvent::Error(status)) if status.code == 410 => Err(expired())?,
                                Ok(WatchEvent::Error(_)) | Err(_) => {
                                    failures += 1;
                                    break;
                                }
                                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                                    version = object.resource_version().unwrap_or_default();
                                    self.changed(&object, &version)?
                                }
                                Ok(WatchEvent::Deleted(object)) => {
                                    version = object.resource_version().unwrap_or_default();
                                    self.gone(&object, &version)?
                                }
                                Ok(WatchEvent::Bookmark(bookmark)) => {
                                    version = bookmark.metadata.resource_version;
                                    None
                                }
                            };
                            failures = 0;
                            if let Some(event) = event {
                                yield event;
                            }
                        }
                    }
                }
                if failures > MAX_FAILURES {
                    Err(RpcError::new(ErrorReason::InfraUnavailable, "the infra cluster's api server breaks off every watch"))?;
                }
                if failures > 0 {
                    tokio::time::sleep(RETRY).await;
                }
            }
        })
    }

    fn name(&self, object: &C::Object) -> Option<String> {
        let resource = self.view.collection.resource(object)?;
        Some(resource.name().to_owned())
    }

    fn changed(&mut self, object: &C::Object, version: &str) -> Result<Option<Event<C::Resource>>, RpcError> {
        let Some(resource) = self.shown(object) else {
            return Ok(None);
        };
        let name = resource.name().to_owned();
        if !self.view.passes(&resource)? {
            let known = self.known.remove(&name) || self.is_resumed;
            let left = known.then(|| event(WatchEventType::Deleted, resource, version));
            return left.transpose();
        }
        let known = !self.known.insert(name) || self.is_resumed;
        let kind = if known {
            WatchEventType::Modified
        } else {
            WatchEventType::Added
        };
        event(kind, resource, version).map(Some)
    }

    fn gone(&mut self, object: &C::Object, version: &str) -> Result<Option<Event<C::Resource>>, RpcError> {
        let Some(resource) = self.shown(object) else {
            return Ok(None);
        };
        let known = self.known.remove(resource.name());
        if known || (self.is_resumed && self.view.passes(&resource)?) {
            return event(WatchEventType::Deleted, resource, version).map(Some);
        }
        Ok(None)
    }

    fn shown(&self, object: &C::Object) -> Option<C::Resource> {
        unsealed(&self.view.collection, object).filter(|resource| self.view.contains(resource))
    }
}
