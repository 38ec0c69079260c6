//! A watch of the API server, passed on event by event, and what is stirred beside it. Tokens are resource versions.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Resource as _, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use steading_api::{
    error::RpcError,
    standard::Resource,
    types::v1::{ErrorReason, WatchEventType},
};
use steading_controller::Version;

use super::view::{Event, EventStream, View, digest, event, expired, malformed_token, named, synced};
use crate::standard::{
    Collection,
    read::{Chunks, is_expired, listing_fault, seal, unsealed},
};

/// Pause before a watch that broke is opened again.
const RETRY: Duration = Duration::from_millis(500);
/// Failures in a row after which the stream ends, so that the client sees that something is wrong.
const MAX_FAILURES: u32 = 10;
/// Names that are remembered as gone, so that what a view still has of them is not shown again: it is behind by seconds.
const MAX_GONE: usize = 1024;
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
        stirred: view.collection.stirred(&view.within),
        known: BTreeMap::new(),
        gone: VecDeque::new(),
        is_resumed: !token.is_empty(),
        view,
    };
    Ok(relay.run(token))
}

struct Relay<C: Collection> {
    api: Api<C::Object>,
    selector: String,
    view: View<C>,
    stirred: BoxStream<'static, Result<C::Object, RpcError>>,
    /// What the client knows. Bounded by what the API server holds.
    known: BTreeMap<String, Known>,
    /// Names of what left last.
    gone: VecDeque<String>,
    /// Whether the client may know more than that.
    is_resumed: bool,
}

/// What a relay waits for.
enum Next<K> {
    /// The watch; `None` when it ended.
    Watched(Option<Result<WatchEvent<K>, kube::Error>>),
    /// Something that looks different.
    Stirred(Result<K, RpcError>),
}

/// What a client knows of a resource.
struct Known {
    /// Version of its object.
    version: Version,
    /// Tells it from what else it may be.
    digest: u64,
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
                for name in self.known.keys().filter(|name| !listed.contains(*name)).cloned().collect::<Vec<_>>() {
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
                        loop {
                            let next = tokio::select! {
                                event = events.next() => Next::Watched(event),
                                Some(object) = self.stirred.next() => Next::Stirred(object),
                            };
                            let event = match next {
                                Next::Watched(None) => break,
                                Next::Watched(Some(event)) => event,
                                Next::Stirred(object) => {
                                    if let Some(event) = self.stir(&object?, &version)? {
                                        yield event;
                                    }
                                    continue;
                                }
                            };
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
            let known = self.known.remove(&name).is_some() || self.is_resumed;
            let left = known.then(|| event(WatchEventType::Deleted, resource, version));
            return left.transpose();
        }
        let seen = event(WatchEventType::Modified, resource, version)?;
        let now = Known {
            version: Version::of(object.meta().resource_version.as_ref()),
            digest: seen.resource.as_ref().map(digest).unwrap_or_default(),
        };
        let known = self.known.insert(name, now).is_some() || self.is_resumed;
        let kind = if known {
            WatchEventType::Modified
        } else {
            WatchEventType::Added
        };
        Ok(Some(Event { kind, ..seen }))
    }

    /// What a view has of an object that may look different. Nothing is shown that is older than what the client knows.
    fn stir(&mut self, object: &C::Object, version: &str) -> Result<Option<Event<C::Resource>>, RpcError> {
        let Some(resource) = self.shown(object) else {
            return Ok(None);
        };
        let name = resource.name().to_owned();
        let Some(known) = self.known.get(&name) else {
            // The watch itself shows what is new.
            let may_be_known = self.is_resumed && !self.gone.contains(&name);
            return if may_be_known {
                self.changed(object, version)
            } else {
                Ok(None)
            };
        };
        let is_older = Version::of(object.meta().resource_version.as_ref()) < known.version;
        if is_older || seal(resource).map(|resource| digest(&resource))? == known.digest {
            return Ok(None);
        }
        self.changed(object, version)
    }

    fn gone(&mut self, object: &C::Object, version: &str) -> Result<Option<Event<C::Resource>>, RpcError> {
        let Some(resource) = self.shown(object) else {
            return Ok(None);
        };
        self.gone.push_back(resource.name().to_owned());
        if self.gone.len() > MAX_GONE {
            self.gone.pop_front();
        }
        let known = self.known.remove(resource.name()).is_some();
        if known || (self.is_resumed && self.view.passes(&resource)?) {
            return event(WatchEventType::Deleted, resource, version).map(Some);
        }
        Ok(None)
    }

    fn shown(&self, object: &C::Object) -> Option<C::Resource> {
        unsealed(&self.view.collection, object).filter(|resource| self.view.contains(resource))
    }
}
