//! Lists and watches that are served from an index, as consistently as from the API server.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use steading_api::standard::Resource;
use steading_controller::{ObjectRef, Source, Version};
use steading_model::name::ResourceName;

/// Longest wait until an index has what the API server has: a watch delivers in milliseconds. An index of a kind that is quiet
/// hears of newer versions by bookmarks only, and then the API server is read.
pub const CATCH_UP: Duration = Duration::from_millis(100);

/// Resources as they are seen through watches, by their names, with a log of what changed.
///
/// Resources carry the fields of [`steading_api::standard::Meta`]; etags are put on by the engine. A place in the log is a text
/// with a dot in it, as resource versions of the API server have none.
pub trait Index<R>: Send + Sync + 'static {
    /// Waits until everything is in that the API server had at `version`; `false` if that takes longer than a caller should
    /// wait, or nobody knows when it will be.
    fn reaches<'a>(&'a self, version: &'a str) -> BoxFuture<'a, bool>;

    /// The version that the index has at the least, while its watch is live.
    fn newest(&self) -> Option<String>;

    /// Where a resource shows more than its object, the API server cannot stand in for the index: then this waits until
    /// everything that resources are joined from has been listed once.
    fn joined(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// Names of the resources whose objects are in the namespace; `None` for all.
    fn names(&self, namespace: Option<&str>) -> Vec<String>;

    /// A resource as it is now.
    fn get(&self, name: &str) -> Option<R>;

    /// The end of the log.
    fn end(&self) -> String;

    /// What changed behind a place in the namespace (`None` for all), each change with the place behind it; `None` if the log
    /// does not reach back so far.
    fn since(&self, place: &str, namespace: Option<&str>) -> Option<Vec<(String, Change<R>)>>;

    /// Waits until the log goes beyond a place.
    fn grows<'a>(&'a self, beyond: &'a str) -> BoxFuture<'a, ()>;
}

/// What the log has of a resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<R> {
    /// It was added or changed.
    Present(String),
    /// It is gone; this is how it was.
    Gone(Box<R>),
}

/// Makes the resource of an object, without its etag.
type Show<T, R> = Box<dyn Fn(&ObjectRef, &T) -> Option<R> + Send + Sync>;

/// A watched kind of which each object is one resource.
pub struct Indexed<T, N, R> {
    source: Source<T>,
    /// The name of an object's resource; `None` if it is none.
    name: fn(&ObjectRef, &T) -> Option<N>,
    show: Show<T, R>,
}

impl<T: PartialEq + Send + Sync + 'static, N: ResourceName, R: Resource> Indexed<T, N, R> {
    /// A view of a source.
    pub fn new(
        source: Source<T>,
        name: fn(&ObjectRef, &T) -> Option<N>,
        show: impl Fn(&ObjectRef, &T) -> Option<R> + Send + Sync + 'static,
    ) -> Self {
        Self {
            source,
            name,
            show: Box::new(show),
        }
    }

    fn change(&self, change: &steading_controller::changes::Change<T>) -> Option<Change<R>> {
        let name = |value: &Arc<T>| (self.name)(&change.object, value);
        if let Some(name) = change.after.as_ref().and_then(name) {
            return Some(Change::Present(name.to_string()));
        }
        let before = change.before.as_ref()?;
        (self.show)(&change.object, before).map(|last| Change::Gone(Box::new(last)))
    }
}

impl<T: PartialEq + Send + Sync + 'static, N: ResourceName, R: Resource> Index<R> for Indexed<T, N, R> {
    fn reaches<'a>(&'a self, version: &'a str) -> BoxFuture<'a, bool> {
        async move {
            let reached = self.source.index().reaches(Version::parse(version));
            self.source.health().is_live() && tokio::time::timeout(CATCH_UP, reached).await.is_ok()
        }
        .boxed()
    }

    fn newest(&self) -> Option<String> {
        let is_live = self.source.health().is_live();
        is_live.then(|| self.source.index().version().to_string())
    }

    fn names(&self, namespace: Option<&str>) -> Vec<String> {
        let index = self.source.index();
        let objects = namespace.map_or_else(|| index.all(), |namespace| index.in_namespace(namespace));
        let names = objects.iter().filter_map(|(object, value)| (self.name)(object, value));
        names.map(|name| name.to_string()).collect()
    }

    fn get(&self, name: &str) -> Option<R> {
        let name: N = name.parse().ok()?;
        let object = ObjectRef::new(&name.namespace().unwrap_or_default(), &name.object_name());
        let value = self.source.index().get(&object.namespace, &object.name)?;
        (self.show)(&object, &value)
    }

    fn end(&self) -> String {
        self.source.index().end().to_string()
    }

    fn since(&self, place: &str, namespace: Option<&str>) -> Option<Vec<(String, Change<R>)>> {
        let changes = self.source.index().since(place.parse().ok()?).ok()?;
        let ours = changes
            .iter()
            .filter(|(_, change)| namespace.is_none_or(|wanted| wanted == &*change.object.namespace))
            .filter_map(|(place, change)| Some((place.to_string(), self.change(change)?)));
        Some(ours.collect())
    }

    fn grows<'a>(&'a self, beyond: &'a str) -> BoxFuture<'a, ()> {
        async move {
            let mut changed = self.source.index().changed();
            while self.end() == beyond {
                if changed.changed().await.is_err() {
                    // The index ended with its process.
                    std::future::pending::<()>().await;
                }
            }
        }
        .boxed()
    }
}
