//! Watching for the Watch RPCs: what exists, a mark, then every change; resumable by resourceVersion.
//!
//! Reconcilers use `kube::runtime`'s reflectors. This stream is for clients who keep a resume token: it never
//! hides a gap. When history is gone it ends with [`InfraError::Expired`] and the client begins anew.

use std::collections::VecDeque;
use std::fmt::Debug;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use kube::ResourceExt;
use kube::api::{Api, Resource, WatchEvent as RawEvent, WatchParams};
use serde::de::DeserializeOwned;

use crate::error::{InfraError, Result};
use crate::list;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent<K> {
    /// The object exists: it was there at the start, or was made since.
    Added(K),
    /// The object changed.
    Modified(K),
    /// The object is gone, or the selector does not take it any more.
    Deleted(K),
    /// Everything that existed at the start was told. A watch may resume here.
    Synced {
        /// Resume token.
        token: String,
    },
}

impl<K: Resource> WatchEvent<K> {
    /// Token with which a later watch resumes right behind this event.
    pub fn resume_token(&self) -> String {
        match self {
            Self::Added(object) | Self::Modified(object) | Self::Deleted(object) => {
                object.resource_version().unwrap_or_default()
            }
            Self::Synced { token } => token.clone(),
        }
    }
}

/// What to watch, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// Label selector; empty takes everything.
    pub label_selector: String,
    /// Resume token; `None` begins with what exists.
    pub resume_token: Option<String>,
}

/// Seconds after which the API server ends one request of a watch; the stream goes on with the next one.
const WATCH_SECONDS: u32 = 290;
/// Requests in a row that brought nothing and failed, before the stream gives up.
const FAILURES: u32 = 5;

struct State<K> {
    api: Api<K>,
    selector: String,
    version: Option<String>,
    queue: VecDeque<WatchEvent<K>>,
    raw: Option<BoxStream<'static, kube::Result<RawEvent<K>>>>,
    failures: u32,
    ended: bool,
}

/// Watches. Objects during the initial list carry their own version as token; resume from `Synced` or later.
///
/// The stream ends with the first error: [`InfraError::Expired`] when the token is too old,
/// [`InfraError::Unavailable`] when the API server stays away.
pub fn watch<K>(api: Api<K>, request: WatchRequest) -> impl Stream<Item = Result<WatchEvent<K>>> + Send + 'static
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let state = State {
        api,
        selector: request.label_selector,
        version: request.resume_token.filter(|token| !token.is_empty()),
        queue: VecDeque::new(),
        raw: None,
        failures: 0,
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let item = state.next().await;
        state.ended = item.is_err();
        Some((item, state))
    })
}

impl<K> State<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    async fn next(&mut self) -> Result<WatchEvent<K>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(event);
            }
            let Some(version) = self.version.clone() else {
                self.begin().await?;
                continue;
            };
            if self.raw.is_none() {
                self.connect(&version).await?;
                continue;
            }
            let event = match self.raw.as_mut() {
                Some(raw) => raw.next().await,
                None => None,
            };
            if let Some(event) = self.take(event)? {
                return Ok(event);
            }
        }
    }

    async fn begin(&mut self) -> Result<()> {
        let page = list::all(&self.api, &self.selector).await?;
        self.queue.extend(page.items.into_iter().map(WatchEvent::Added));
        self.queue.push_back(WatchEvent::Synced {
            token: page.resource_version.clone(),
        });
        self.version = Some(page.resource_version);
        Ok(())
    }

    async fn connect(&mut self, version: &str) -> Result<()> {
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        if !self.selector.is_empty() {
            params = params.labels(&self.selector);
        }
        match self.api.watch(&params, version).await {
            Ok(raw) => self.raw = Some(raw.boxed()),
            Err(error) => self.failed(error.into()).await?,
        }
        Ok(())
    }

    /// Counts a failure; passes it on when it is not worth another try.
    async fn failed(&mut self, error: InfraError) -> Result<()> {
        self.raw = None;
        self.failures += 1;
        if !error.is_unknown() || self.failures >= FAILURES {
            return Err(error);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100 << self.failures)).await;
        Ok(())
    }

    fn take(&mut self, event: Option<kube::Result<RawEvent<K>>>) -> Result<Option<WatchEvent<K>>> {
        let Some(Ok(event)) = event else {
            // The request ended or broke: the next one goes on from the last version seen.
            self.raw = None;
            return Ok(None);
        };
        self.failures = 0;
        let event = match event {
            RawEvent::Added(object) => WatchEvent::Added(object),
            RawEvent::Modified(object) => WatchEvent::Modified(object),
            RawEvent::Deleted(object) => WatchEvent::Deleted(object),
            RawEvent::Bookmark(bookmark) => {
                self.version = Some(bookmark.metadata.resource_version);
                return Ok(None);
            }
            RawEvent::Error(status) => return Err(InfraError::from(status)),
        };
        self.version = Some(event.resume_token());
        Ok(Some(event))
    }
}
