//! Watch: what exists, then every change, resumable.

use std::{collections::BTreeSet, pin::Pin, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use steading_api::{
    error::RpcError,
    types::v1::{ErrorReason, WatchEventType},
};
use steading_model::filter::Filter;

use super::{
    Collection, kube_error,
    read::{list_all, parse_filter, passes},
};
use crate::{
    CallContext,
    auth::{Action, Verb},
};

/// Pause before a watch that broke is opened again.
const RETRY: Duration = Duration::from_millis(500);
/// Failures in a row after which the stream ends, so that the client sees that something is wrong.
const MAX_FAILURES: u32 = 10;

/// What a watch call asks for.
#[derive(Debug, Clone, Default)]
pub struct WatchRequest {
    /// The parent; empty for shared collections.
    pub parent: String,
    /// Filter; what leaves it is told as deleted.
    pub filter: String,
    /// Token of the last message that was seen.
    pub resume_token: String,
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<M> {
    /// What happened.
    pub kind: WatchEventType,
    /// To what; absent when synced.
    pub message: Option<M>,
    /// Where to resume after it.
    pub resume_token: String,
}

/// A stream of events; it ends with an error or not at all.
pub type EventStream<M> = Pin<Box<dyn Stream<Item = Result<Event<M>, RpcError>> + Send>>;

/// Watches a collection. The reader's pace is the stream's: nothing is queued here.
///
/// # Errors
/// If a parameter is wrong or the caller may not.
pub async fn watch<C: Collection>(
    collection: &C,
    context: &CallContext,
    request: &WatchRequest,
) -> Result<EventStream<C::Message>, RpcError> {
    let scope = collection.scope(&request.parent)?;
    let filter = parse_filter::<C>(&request.filter)?;
    let token = &request.resume_token;
    if !token.is_empty() && (token.len() > 40 || !token.bytes().all(|b| b.is_ascii_digit())) {
        return Err(
            RpcError::new(ErrorReason::InvalidField, "resume_token: was not made by this service")
                .with_field("resume_token", "was not made by this service"),
        );
    }
    context
        .authorize(Action::new(Verb::Watch, C::KIND, &request.parent))
        .await?;
    let watcher = Watcher {
        api: collection.api(&request.parent)?,
        collection: collection.clone(),
        selector: scope.selector,
        filter,
        seen: BTreeSet::new(),
        resumed: !token.is_empty(),
    };
    Ok(Box::pin(watcher.run(request.resume_token.clone())))
}

struct Watcher<C: Collection> {
    api: Api<C::Object>,
    collection: C,
    selector: String,
    filter: Filter,
    /// Objects that the client knows.
    seen: BTreeSet<String>,
    /// Whether the client may know objects that are not in `seen`.
    resumed: bool,
}

impl<C: Collection> Watcher<C> {
    fn run(mut self, token: String) -> impl Stream<Item = Result<Event<C::Message>, RpcError>> + Send {
        async_stream::try_stream! {
            let mut version = token;
            if version.is_empty() {
                let (objects, listed) = list_all(&self.api, &self.selector).await.map_err(|e| fault::<C>(&e))?;
                for object in &objects {
                    // No token before SYNCED: it would skip what is still to come.
                    if let Some(event) = self.changed(object, "")? {
                        yield event;
                    }
                }
                version = listed;
                yield Event { kind: WatchEventType::Synced, message: None, resume_token: version.clone() };
            }
            let mut failures = 0;
            loop {
                let params = WatchParams::default().labels(&self.selector);
                let opened = self.api.watch(&params, &version).await;
                match opened {
                    Err(kube::Error::Api(status)) if status.code == 410 => Err(fault::<C>(&kube::Error::Api(status)))?,
                    Err(error) => {
                        failures += 1;
                        if failures > MAX_FAILURES {
                            Err(fault::<C>(&error))?;
                        }
                        tokio::time::sleep(RETRY).await;
                    }
                    Ok(events) => {
                        let mut events = Box::pin(events);
                        while let Some(event) = events.next().await {
                            match event {
                                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                                    failures = 0;
                                    version = object.resource_version().unwrap_or_default();
                                    if let Some(event) = self.changed(&object, &version)? {
                                        yield event;
                                    }
                                }
                                Ok(WatchEvent::Deleted(object)) => {
                                    failures = 0;
                                    version = object.resource_version().unwrap_or_default();
                                    if let Some(event) = self.gone(&object, &version)? {
                                        yield event;
                                    }
                                }
                                Ok(WatchEvent::Bookmark(bookmark)) => {
                                    failures = 0;
                                    version = bookmark.metadata.resource_version;
                                }
                                Ok(WatchEvent::Error(status)) => {
                                    if status.code == 410 {
                                        Err(fault::<C>(&kube::Error::Api(status)))?;
                                    }
                                    failures += 1;
                                    break;
                                }
                                Err(_) => {
                                    failures += 1;
                                    break;
                                }
                            }
                        }
                        if failures > 0 {
                            tokio::time::sleep(RETRY).await;
                        }
                        if failures > MAX_FAILURES {
                            Err(RpcError::new(ErrorReason::InfraUnavailable, "the infra cluster's api server breaks off every watch"))?;
                        }
                    }
                }
            }
        }
    }

    fn changed(&mut self, object: &C::Object, version: &str) -> Result<Option<Event<C::Message>>, RpcError> {
        let Some(message) = self.collection.message(object) else {
            return Ok(None);
        };
        let key = self.collection.identity(&message).0.to_owned();
        if !passes::<C>(&self.filter, &message)? {
            let known = self.seen.remove(&key) || self.resumed;
            return Ok(known.then(|| event(WatchEventType::Deleted, message, version)));
        }
        let known = !self.seen.insert(key) || self.resumed;
        let kind = if known {
            WatchEventType::Modified
        } else {
            WatchEventType::Added
        };
        Ok(Some(event(kind, message, version)))
    }

    fn gone(&mut self, object: &C::Object, version: &str) -> Result<Option<Event<C::Message>>, RpcError> {
        let Some(message) = self.collection.message(object) else {
            return Ok(None);
        };
        let known = self.seen.remove(self.collection.identity(&message).0);
        let tell = known || (self.resumed && passes::<C>(&self.filter, &message)?);
        Ok(tell.then(|| event(WatchEventType::Deleted, message, version)))
    }
}

fn event<M>(kind: WatchEventType, message: M, version: &str) -> Event<M> {
    Event {
        kind,
        message: Some(message),
        resume_token: version.to_owned(),
    }
}

fn fault<C: Collection>(error: &kube::Error) -> RpcError {
    kube_error(C::KIND, C::KIND, error)
}
