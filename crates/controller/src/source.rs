//! A watched kind: list, then watch, projected at the door into an index, with its health.
//!
//! ```text
//!          ┌────────── expired, silent, or not proven after a reconnect ──────────┐
//!          ▼                                                                      │
//!        LIST ──► index.replace, live ──► WATCH ──► events and bookmarks: live ───┤
//!          ▲  failed: stale, pause          ▲                                     │
//!          └────────────────┘               └─ dropped: stale, pause, go on from ─┘
//!                                              the last version
//! ```
//!
//! A dropped watch goes on from the last version and needs no list, if an event or bookmark proves it soon; else a list does. So one
//! dropped connection makes a view stale for moments, never until something happens to change.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    core::error_boundary::DeserializeGuard,
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    health::{Health, SharedHealth, StaleReason},
    index::Index,
    list::{ListError, list_all},
    metrics::SourceMetrics,
    object::ObjectRef,
    version::Version,
};

/// How a kind is watched.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Label selector; empty for all objects.
    pub labels: String,
    /// Field selector; empty for all objects.
    pub fields: String,
    /// For how long the API server keeps one watch open.
    pub watch_timeout: Duration,
    /// Longest silence of a live stream: two bookmark periods. The API server sends a bookmark about once a minute.
    pub silence: Duration,
    /// How long a reconnected watch may take to prove itself before a list does.
    pub proof: Duration,
    /// Deadline of one list or of opening a watch.
    pub request: Duration,
    /// Pause after the first failure in a row; doubled with each.
    pub first_pause: Duration,
    /// Longest pause after failures.
    pub last_pause: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            labels: String::new(),
            fields: String::new(),
            watch_timeout: Duration::from_secs(290),
            silence: Duration::from_secs(150),
            proof: Duration::from_secs(2),
            request: Duration::from_secs(60),
            first_pause: Duration::from_millis(200),
            last_pause: Duration::from_secs(15),
        }
    }
}

impl SourceConfig {
    /// Only objects with these labels.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = selector.into();
        self
    }

    /// Only objects with these fields.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = selector.into();
        self
    }

    fn list_params(&self) -> ListParams {
        ListParams {
            label_selector: (!self.labels.is_empty()).then(|| self.labels.clone()),
            field_selector: (!self.fields.is_empty()).then(|| self.fields.clone()),
            ..ListParams::default()
        }
    }

    fn watch_params(&self) -> WatchParams {
        WatchParams {
            label_selector: (!self.labels.is_empty()).then(|| self.labels.clone()),
            field_selector: (!self.fields.is_empty()).then(|| self.fields.clone()),
            timeout: Some(u32::try_from(self.watch_timeout.as_secs()).unwrap_or(290)),
            bookmarks: true,
            send_initial_events: false,
        }
    }
}

/// A watched kind: its index and its health. Cheap to clone; [`Source::run`] fills it.
#[derive(Debug)]
pub struct Source<T> {
    name: &'static str,
    config: Arc<SourceConfig>,
    index: Arc<Index<T>>,
    health: SharedHealth,
    metrics: SourceMetrics,
}

impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            config: Arc::clone(&self.config),
            index: Arc::clone(&self.index),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// Why one watch ended.
#[derive(Debug)]
enum End {
    /// The API server closed it at its timeout: go on.
    Closed,
    /// It broke: go on from the last version.
    Broken(StaleReason),
    /// Nothing came for too long, or the version is too old: list again.
    Lost(StaleReason),
    /// After a reconnect nothing proved it in time: list again.
    Unproven,
}

impl<T: PartialEq + Send + Sync + 'static> Source<T> {
    /// A source that nothing fills yet. `name` is the plural of the kind, such as `virtualmachines`.
    pub fn new(name: &'static str, config: SourceConfig, index: Index<T>, metrics: SourceMetrics) -> Self {
        Self {
            name,
            health: SharedHealth::new(config.silence),
            config: Arc::new(config),
            index: Arc::new(index),
            metrics,
        }
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is seen.
    pub fn index(&self) -> &Arc<Index<T>> {
        &self.index
    }

    /// How fresh it is.
    pub fn health(&self) -> &SharedHealth {
        &self.health
    }

    /// Lists and watches all objects of a kind until cancelled. `project` takes what is needed of an object; `None` for objects that do
    /// not belong here.
    pub async fn run<K>(self, client: Client, project: impl Fn(K) -> Option<T>, cancel: CancellationToken)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        // Objects are decoded one by one: one that does not decode must not blind the whole kind.
        let api: Api<DeserializeGuard<K>> = Api::all(client);
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.follow(&api, &project) => {}
        }
    }

    async fn follow<K>(&self, api: &Api<DeserializeGuard<K>>, project: &impl Fn(K) -> Option<T>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let mut pause = self.config.first_pause;
        loop {
            let listed = match self.list(api, project).await {
                Ok(version) => version,
                Err(why) => {
                    self.failed(why);
                    self.wait(&mut pause).await;
                    continue;
                }
            };
            let mut version = listed;
            let mut proven = true;
            loop {
                let began = Instant::now();
                let mut heard = false;
                let end = self.watch(api, project, &mut version, proven, &mut heard).await;
                if heard {
                    pause = self.config.first_pause;
                }
                match end {
                    End::Closed => {
                        // A server that closes at once must not be asked in a loop.
                        if !heard && began.elapsed() < self.config.first_pause {
                            self.wait(&mut pause).await;
                        }
                        proven = true;
                    }
                    End::Broken(why) => {
                        self.failed(why);
                        self.wait(&mut pause).await;
                        proven = false;
                    }
                    End::Lost(why) => {
                        self.failed(why);
                        self.wait(&mut pause).await;
                        break;
                    }
                    End::Unproven => break,
                }
            }
        }
    }

    async fn list<K>(
        &self,
        api: &Api<DeserializeGuard<K>>,
        project: &impl Fn(K) -> Option<T>,
    ) -> Result<String, StaleReason>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let params = self.config.list_params();
        let listed = tokio::time::timeout(self.config.request, list_all(api, &params))
            .await
            .map_err(|_| StaleReason::Unreachable("the list did not end in time".to_owned()))?
            .map_err(|error| match error {
                ListError::Kube(error) => StaleReason::of(&error),
                ListError::TooMany => StaleReason::Undecodable(error.to_string()),
            })?;
        let mut objects = Vec::with_capacity(listed.items.len());
        for guard in listed.items {
            let object = ObjectRef::of(&guard);
            let version = Version::of(guard.meta().resource_version.as_ref());
            match guard.0 {
                Ok(decoded) => objects.extend(project(decoded).map(|value| (object, version, Some(value)))),
                Err(error) => {
                    self.undecodable(&object, &error.error);
                    objects.push((object, version, None));
                }
            }
        }
        self.index.replace(objects, listed.version);
        self.metrics.objects(self.index.len());
        self.noted(self.health.note(|record, now| record.listed(listed.version, now)));
        Ok(listed.resource_version)
    }

    async fn watch<K>(
        &self,
        api: &Api<DeserializeGuard<K>>,
        project: &impl Fn(K) -> Option<T>,
        version: &mut String,
        mut proven: bool,
        heard: &mut bool,
    ) -> End
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let params = self.config.watch_params();
        let events = match tokio::time::timeout(self.config.request, api.watch(&params, version)).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return ended(&error),
            Err(_) => return End::Lost(StaleReason::Unreachable("the watch did not open in time".to_owned())),
        };
        pin_mut!(events);
        loop {
            let patience = if proven { self.config.silence } else { self.config.proof };
            let event = match tokio::time::timeout(patience, events.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return ended(&error),
                Ok(None) if proven => return End::Closed,
                Ok(None) | Err(_) if !proven => return End::Unproven,
                Ok(None) | Err(_) => return End::Lost(StaleReason::Silent),
            };
            let seen = match event {
                WatchEvent::Added(guard) | WatchEvent::Modified(guard) => self.put(guard, project),
                WatchEvent::Deleted(guard) => {
                    let seen = guard.meta().resource_version.clone().unwrap_or_default();
                    self.index.remove(&ObjectRef::of(&guard), Version::parse(&seen));
                    seen
                }
                WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return ended(&kube::Error::Api(status)),
            };
            proven = true;
            *heard = true;
            let parsed = Version::parse(&seen);
            if !seen.is_empty() {
                *version = seen;
            }
            self.index.advance(parsed);
            self.metrics.objects(self.index.len());
            self.noted(self.health.note(|record, now| record.proven(parsed, now)));
        }
    }

    /// Puts in what an event brought; returns its version.
    fn put<K>(&self, guard: DeserializeGuard<K>, project: &impl Fn(K) -> Option<T>) -> String
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let object = ObjectRef::of(&guard);
        let seen = guard.meta().resource_version.clone().unwrap_or_default();
        let version = Version::parse(&seen);
        match guard.0 {
            Ok(decoded) => match project(decoded) {
                Some(value) => {
                    self.index.upsert(object, version, value);
                }
                None => {
                    self.index.remove(&object, version);
                }
            },
            // What is known of it stays: unreadable is not gone.
            Err(error) => self.undecodable(&object, &error.error),
        }
        seen
    }

    fn undecodable(&self, object: &ObjectRef, reason: &str) {
        tracing::warn!(source = self.name, %object, reason, "an object does not decode and is not updated");
        self.metrics.failed("undecodable");
    }

    fn failed(&self, why: StaleReason) {
        self.metrics.failed(why.word());
        self.noted(self.health.note(|record, now| record.failed(why, now)));
    }

    /// Tells a change of health once, whatever the number of failures behind it.
    fn noted(&self, (before, after): (Health, Health)) {
        self.metrics.health(&after);
        match (before, after) {
            (Health::Live { .. } | Health::Syncing, Health::Stale { why, .. }) => {
                tracing::warn!(source = self.name, %why, "the view is stale");
            }
            (Health::Stale { since, .. }, Health::Live { .. }) => {
                tracing::info!(source = self.name, after = ?since.elapsed(), "the view is live again");
            }
            _ => {}
        }
    }

    async fn wait(&self, pause: &mut Duration) {
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
        *pause = (*pause * 2).min(self.config.last_pause);
    }
}

fn ended(error: &kube::Error) -> End {
    match StaleReason::of(error) {
        why @ StaleReason::Expired => End::Lost(why),
        why => End::Broken(why),
    }
}

/// The sources of a process by name, for readiness and for people. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sources(Arc<RwLock<Vec<(&'static str, SharedHealth)>>>);

impl Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.report()).finish()
    }
}

impl Sources {
    /// Adds a source.
    pub fn add<T: PartialEq + Send + Sync + 'static>(&self, source: &Source<T>) {
        self.0.write().push((source.name(), source.health().clone()));
    }

    /// Every source with its health.
    pub fn report(&self) -> Vec<(&'static str, Health)> {
        self.0
            .read()
            .iter()
            .map(|(name, health)| (*name, health.judge()))
            .collect()
    }

    /// Whether every source was listed once.
    pub fn is_synced(&self) -> bool {
        self.0.read().iter().all(|(_, health)| health.is_listed())
    }

    /// Whether every source is live.
    pub fn is_live(&self) -> bool {
        self.0.read().iter().all(|(_, health)| health.is_live())
    }

    /// Waits until every source was listed once.
    pub fn synced(&self) -> impl Future<Output = ()> + Send + use<> {
        let sources = self.clone();
        async move {
            while !sources.is_synced() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
