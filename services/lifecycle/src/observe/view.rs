//! What is seen of one kind of the infra cluster.

use std::{fmt::Debug, sync::Arc};

use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use steading_controller::{Index, ObjectRef, Source, SourceConfig, Version, metrics::ControllerMetrics, object::slim};
use steading_runtime::tasks::Spawner;

use super::changes::{Changes, Kind};

/// A watched kind with its objects, less what nobody here reads.
#[derive(Debug)]
pub struct View<K>(Source<K>);

impl<K> View<K>
where
    K: Resource<DynamicType = ()> + PartialEq + Send + Sync + 'static,
{
    /// A view that nothing fills yet. `name` is the plural of the kind.
    pub(super) fn new(name: &'static str, config: SourceConfig, metrics: &ControllerMetrics) -> Self {
        Self(Source::new(
            name,
            config,
            Index::new(),
            metrics.source("lifecycle", name),
        ))
    }

    /// One object; the empty namespace for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.index().get(namespace, name)
    }

    /// All objects of a namespace in order of their names; the empty namespace for cluster-scoped kinds.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        let found = self.0.index().in_namespace(namespace).into_iter();
        found.map(|(_, object)| object).collect()
    }

    /// All objects in order of namespace and name.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.0.index().all().into_iter().map(|(_, object)| object).collect()
    }

    /// How many objects a namespace has.
    pub fn count(&self, namespace: &str) -> usize {
        self.0.index().in_namespace(namespace).len()
    }

    /// Takes in what a read or a write of ours returned, unless something newer has been seen.
    pub fn upsert(&self, object: K) {
        let version = Version::of(object.meta().resource_version.as_ref());
        self.0.index().upsert(ObjectRef::of(&object), version, slim(object));
    }

    /// Where it comes from.
    pub fn source(&self) -> &Source<K> {
        &self.0
    }

    /// Fills it, and tells everybody of what changes, until the service ends.
    pub(super) fn start(&self, changes: &Changes, kind: Kind, client: &Client, spawner: &Spawner)
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let token = spawner.token().clone();
        let source = self.0.clone().run(client.clone(), |object| Some(slim(object)), token);
        spawner.spawn(&format!("watch {kind:?}"), source);
        tell(changes, kind, self.0.index(), spawner);
    }
}

/// Tells everybody of each object of an index that changes.
pub(super) fn tell<T>(changes: &Changes, kind: Kind, index: &Arc<Index<T>>, spawner: &Spawner)
where
    T: Send + Sync + 'static,
{
    let (changes, index, token) = (changes.clone(), Arc::clone(index), spawner.token().clone());
    let (mut place, mut changed) = (index.end(), index.changed());
    spawner.spawn(&format!("changes {kind:?}"), async move {
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                outcome = changed.changed() => if outcome.is_err() { return },
            }
            let objects: Vec<ObjectRef> = match index.news(&mut place) {
                Ok(news) => news.into_iter().map(|change| change.object).collect(),
                // More than the log holds: everything that is there may have changed.
                Err(_) => index.all().into_iter().map(|(object, _)| object).collect(),
            };
            for object in objects {
                changes.notify(kind, &object.namespace, &object.name);
            }
        }
    });
}
