//! The engine below the behaviours: a cache that follows a watch, and a queue of keys that are worked off one at a time each.
//!
//! Waiting happens on the simulation's clock, so a behaviour that says "again in 200 ms" obeys explicit time too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    future::Future,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    stream::{BoxStream, FuturesUnordered},
};
use kube::{
    Api, Resource, ResourceExt,
    runtime::watcher::{self, Event},
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use steading_kubesim::{Key, time::SimTime};

/// Keys worked on at the same time: a simulation has few cores, and each key holds at most one request.
const MAX_RUNNING: usize = 64;
/// Pause after the first failure of a key; doubles.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
/// Longest pause: the simulated hardware should come back soon after a fault is lifted.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Pause before a watch that failed is taken up again, for example because its kind is not installed yet.
const REWATCH: Duration = Duration::from_millis(50);

/// What a watch has shown, by namespace and name. Clones share it.
#[derive(Debug)]
pub struct Cache<K>(Arc<RwLock<BTreeMap<Key, Arc<K>>>>);

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Cache<K> {
    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.0.read().get(key).cloned()
    }

    /// All objects of a namespace; of all namespaces, if it is empty.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        let items = self.0.read();
        if namespace.is_empty() {
            return items.values().cloned().collect();
        }
        let from = Key::new(namespace, "");
        items
            .range(from..)
            .take_while(|(k, _)| k.namespace == namespace)
            .map(|(_, v)| v.clone())
            .collect()
    }

    /// The objects that `wanted` takes.
    pub fn select(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.0
            .read()
            .values()
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }
}

/// The key of an object.
pub fn key_of<K: Resource>(object: &K) -> Key {
    Key::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

/// Names of objects by what they belong to, within a namespace. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Index(Arc<RwLock<HashMap<Key, BTreeSet<String>>>>);

impl Index {
    /// Takes note of an object that belongs to `of`, or that did.
    pub fn note(&self, of: Key, name: &str, gone: bool) {
        let mut map = self.0.write();
        let names = map.entry(of).or_default();
        if gone {
            names.remove(name);
        } else {
            names.insert(name.to_owned());
        }
    }

    /// Names of what belongs to `of`, `None` if there was never any.
    pub fn get(&self, of: &Key) -> Option<BTreeSet<String>> {
        self.0.read().get(of).cloned()
    }

    /// Forgets all that belongs to `of`.
    pub fn forget(&self, of: &Key) {
        self.0.write().remove(of);
    }
}

/// A change that a watch has shown; the cache has it already.
#[derive(Debug, Clone)]
pub struct Seen<K> {
    /// Whose.
    pub key: Key,
    /// The new state, or the last one of an object that is gone.
    pub object: Arc<K>,
    /// Whether it is gone.
    pub gone: bool,
}

/// Follows all objects of a resource: a cache, and the changes that were put into it.
///
/// The watch takes itself up again after any failure; objects that went meanwhile are told as gone.
pub fn follow<K>(api: Api<K>, config: watcher::Config) -> (Cache<K>, BoxStream<'static, Seen<K>>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let cache = Cache::default();
    let filled = cache.clone();
    let mut listing: BTreeSet<Key> = BTreeSet::new();
    let stream = watcher::watcher(api, config)
        .then(|event| async {
            if event.is_err() {
                tokio::time::sleep(REWATCH).await;
            }
            event
        })
        .map(move |event| {
            let Ok(event) = event else { return Vec::new() };
            match event {
                Event::Init => {
                    listing.clear();
                    Vec::new()
                }
                Event::InitApply(object) => {
                    listing.insert(key_of(&object));
                    vec![put(&filled, object)]
                }
                Event::InitDone => {
                    let stale: Vec<Key> = filled
                        .0
                        .read()
                        .keys()
                        .filter(|key| !listing.contains(*key))
                        .cloned()
                        .collect();
                    stale.iter().filter_map(|key| take(&filled, key)).collect()
                }
                Event::Apply(object) => vec![put(&filled, object)],
                Event::Delete(object) => {
                    let key = key_of(&object);
                    filled.0.write().remove(&key);
                    vec![Seen {
                        key,
                        object: Arc::new(object),
                        gone: true,
                    }]
                }
            }
        })
        .flat_map(futures::stream::iter);
    (cache, stream.boxed())
}

fn put<K: Resource>(cache: &Cache<K>, object: K) -> Seen<K> {
    let (key, object) = (key_of(&object), Arc::new(object));
    cache.0.write().insert(key.clone(), object.clone());
    Seen {
        key,
        object,
        gone: false,
    }
}

fn take<K>(cache: &Cache<K>, key: &Key) -> Option<Seen<K>> {
    let object = cache.0.write().remove(key)?;
    Some(Seen {
        key: key.clone(),
        object,
        gone: true,
    })
}

/// When a key is to be looked at again.
pub type Again = Option<Duration>;

/// Works off keys until `cancel`: never one key twice at once, failed ones again after a pause that grows.
///
/// `work` is called with a key for each of its changes (several changes may make one call), and again after the
/// duration that it returned.
pub async fn work_off<T, F>(
    time: &SimTime,
    cancel: CancellationToken,
    mut keys: impl Stream<Item = T> + Unpin,
    work: impl Fn(T) -> F,
) where
    T: Clone + Ord + Hash + Debug,
    F: Future<Output = kube::Result<Again>>,
{
    let mut queue: Queue<T> = Queue::default();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < MAX_RUNNING
            && let Some(key) = queue.take_due(time.elapsed())
        {
            running.push(work(key.clone()).map(move |result| (key, result)));
        }
        let wait = queue.next_due().filter(|_| running.len() < MAX_RUNNING);
        tokio::select! {
            () = cancel.cancelled() => return,
            key = keys.next() => match key {
                Some(key) => queue.push(key, time.elapsed()),
                None => return,
            },
            Some((key, result)) = running.next() => queue.finish(key, result, time.elapsed()),
            () = until(time, wait) => {}
        }
    }
}

async fn until(time: &SimTime, due: Option<Duration>) {
    match due {
        Some(due) => time.sleep(due.saturating_sub(time.elapsed())).await,
        None => std::future::pending().await,
    }
}

/// Keys by when they are due; a key that is worked on waits until that is over.
#[derive(Debug)]
struct Queue<T> {
    due: BTreeSet<(Duration, T)>,
    when: HashMap<T, Duration>,
    running: HashMap<T, bool>,
    failures: HashMap<T, u32>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            due: BTreeSet::new(),
            when: HashMap::new(),
            running: HashMap::new(),
            failures: HashMap::new(),
        }
    }
}

impl<T: Clone + Ord + Hash + Debug> Queue<T> {
    fn push(&mut self, key: T, due: Duration) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = true;
            return;
        }
        match self.when.get(&key) {
            Some(earlier) if *earlier <= due => return,
            Some(later) => {
                self.due.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.when.insert(key.clone(), due);
        self.due.insert((due, key));
    }

    fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    fn take_due(&mut self, now: Duration) -> Option<T> {
        if self.next_due()? > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.when.remove(&key);
        self.running.insert(key.clone(), false);
        Some(key)
    }

    fn finish(&mut self, key: T, result: kube::Result<Again>, now: Duration) {
        let changed = self.running.remove(&key).unwrap_or_default();
        match result {
            Ok(again) => {
                self.failures.remove(&key);
                if changed {
                    self.push(key, now);
                } else if let Some(after) = again {
                    self.push(key, now.saturating_add(after));
                }
            }
            Err(error) => {
                let failures = self.failures.entry(key.clone()).or_default();
                let pause = FIRST_BACKOFF.saturating_mul(1 << (*failures).min(10)).min(MAX_BACKOFF);
                *failures = failures.saturating_add(1);
                tracing::debug!(?key, %error, ?pause, "will be tried again");
                self.push(key, now.saturating_add(pause));
            }
        }
    }
}

/// Whether an error says that the object is not there (any more).
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Success as it is; "not there" counts as done.
///
/// # Errors
/// Every other error.
pub fn unless_gone<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Success as it is; "there already" counts as done.
///
/// # Errors
/// Every other error.
pub fn unless_there<T>(result: kube::Result<T>) -> kube::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_key_that_changes_while_it_is_worked_on_is_worked_on_again() {
        let mut queue = Queue::default();
        queue.push("a", Duration::ZERO);
        assert_eq!(queue.take_due(MS), Some("a"));
        queue.push("a", MS);
        assert_eq!(queue.take_due(MS), None);
        queue.finish("a", Ok(None), MS);
        assert_eq!(queue.take_due(MS), Some("a"));
    }

    #[test]
    fn an_earlier_date_wins() {
        let mut queue = Queue::default();
        queue.push("a", MS * 10);
        queue.push("a", MS * 5);
        queue.push("a", MS * 7);
        assert_eq!((queue.next_due(), queue.take_due(MS * 4)), (Some(MS * 5), None));
        assert_eq!(queue.take_due(MS * 5), Some("a"));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn pauses_after_failures_grow_to_a_bound() {
        let mut queue = Queue::default();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            queue.push("a", Duration::ZERO);
            assert!(queue.take_due(Duration::MAX).is_some());
            queue.finish("a", Err(kube::Error::LinesCodecMaxLineLengthExceeded), Duration::ZERO);
            let pause = queue.next_due().unwrap();
            assert!(pause >= last && pause <= MAX_BACKOFF);
            last = pause;
        }
        assert_eq!(last, MAX_BACKOFF);
    }
}
