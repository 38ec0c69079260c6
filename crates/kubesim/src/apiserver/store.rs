//! Where objects live: one ordered collection a resource, with a bounded log of its changes.
//!
//! Revisions come from one counter for the whole server, as etcd's. Writers prepare an object without holding a lock and then
//! [`Collection::commit`] it against what they read; watchers read the log by revision, so a slow one costs nobody anything and in the
//! end finds that it has expired.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

use super::{dig, resource::ResourceDef};

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace, empty without one.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// From its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One state of one object; immutable, its JSON is written at most once.
#[derive(Debug)]
pub struct Object {
    /// The object in the storage version.
    pub value: Value,
    /// The revision that made this state.
    pub revision: u64,
    json: OnceLock<Bytes>,
}

impl Object {
    fn new(value: Value, revision: u64) -> Self {
        Self {
            value,
            revision,
            json: OnceLock::new(),
        }
    }

    /// The object's JSON text.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It has another state.
    Modified,
    /// It is gone.
    Deleted,
}

/// One entry of a collection's log.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The new state; for a deletion the last one, with the revision of the deletion.
    pub object: Arc<Object>,
    /// The state before.
    pub previous: Option<Arc<Object>>,
}

/// A commit found the object other than it had been read.
#[derive(Debug, PartialEq, Eq)]
pub struct Raced;

/// The log does not reach back that far.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired;

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<Key, Arc<Object>>,
    log: VecDeque<Arc<Event>>,
    /// The revision of the last event that was dropped from the log.
    floor: u64,
}

/// All objects of one resource.
#[derive(Debug)]
pub struct Collection {
    def: RwLock<Arc<ResourceDef>>,
    state: RwLock<State>,
    head: watch::Sender<u64>,
    revision: Arc<AtomicU64>,
    history: usize,
    /// Set once the resource is not served any longer.
    retired: AtomicBool,
}

impl Collection {
    fn new(def: ResourceDef, revision: Arc<AtomicU64>, history: usize) -> Self {
        let now = revision.load(Ordering::SeqCst);
        let (head, _) = watch::channel(now);
        let state = State {
            floor: now,
            ..State::default()
        };
        Self {
            def: RwLock::new(Arc::new(def)),
            state: RwLock::new(state),
            head,
            revision,
            history,
            retired: AtomicBool::new(false),
        }
    }

    /// Ends the watches of this resource, which is not served any longer.
    fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.head.send_modify(|_| {});
    }

    /// Whether the resource is not served any longer.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// What this resource is.
    pub fn def(&self) -> Arc<ResourceDef> {
        self.def.read().clone()
    }

    pub(crate) fn redefine(&self, def: ResourceDef) {
        *self.def.write() = Arc::new(def);
    }

    /// The current state of one object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.state.read().items.get(key).cloned()
    }

    /// All objects of a namespace (of all, if empty), in key order, and the revision of this view.
    pub fn list(&self, namespace: &str) -> (Vec<Arc<Object>>, u64) {
        let state = self.state.read();
        let objects = if namespace.is_empty() {
            state.items.values().cloned().collect()
        } else {
            state
                .items
                .range(Key::new(namespace, "")..)
                .take_while(|(key, _)| key.namespace == namespace)
                .map(|(_, object)| object.clone())
                .collect()
        };
        (objects, self.revision.load(Ordering::SeqCst))
    }

    /// The objects of a namespace (of all, if empty) as they were at `revision`.
    ///
    /// # Errors
    ///
    /// [`Expired`] when changes since then have been dropped.
    pub fn list_at(&self, namespace: &str, revision: u64) -> Result<Vec<Arc<Object>>, Expired> {
        let state = self.state.read();
        if revision < state.floor {
            return Err(Expired);
        }
        let mut items = state.items.clone();
        let later = state
            .log
            .iter()
            .rev()
            .take_while(|event| event.object.revision > revision);
        for event in later {
            let value = &event.object.value;
            let key = Key::new(dig::meta(value, "namespace"), dig::meta(value, "name"));
            match &event.previous {
                Some(previous) => items.insert(key, previous.clone()),
                None => items.remove(&key),
            };
        }
        let wanted = |key: &Key| namespace.is_empty() || key.namespace == namespace;
        Ok(items
            .into_iter()
            .filter(|(key, _)| wanted(key))
            .map(|(_, object)| object)
            .collect())
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.state.read().items.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revision of the last change in this collection.
    pub fn last_change(&self) -> u64 {
        *self.head.borrow()
    }

    /// Puts `value` in the place of the state with revision `read` (`None`: there must be none).
    ///
    /// # Errors
    ///
    /// [`Raced`] when the current state is another.
    pub fn commit(&self, key: &Key, read: Option<u64>, mut value: Value) -> Result<Arc<Object>, Raced> {
        let mut state = self.state.write();
        let previous = state.items.get(key).cloned();
        if previous.as_ref().map(|object| object.revision) != read {
            return Err(Raced);
        }
        let revision = self.next_revision();
        dig::set_meta(&mut value, "resourceVersion", revision.to_string());
        let object = Arc::new(Object::new(value, revision));
        state.items.insert(key.clone(), object.clone());
        let change = if previous.is_some() {
            Change::Modified
        } else {
            Change::Added
        };
        self.publish(
            &mut state,
            Event {
                change,
                object: object.clone(),
                previous,
            },
        );
        Ok(object)
    }

    /// Takes away the state with revision `read`; `last` is what watchers see.
    ///
    /// # Errors
    ///
    /// [`Raced`] when the current state is another.
    pub fn remove(&self, key: &Key, read: u64, mut last: Value) -> Result<Arc<Object>, Raced> {
        let mut state = self.state.write();
        let previous = match state.items.get(key) {
            Some(object) if object.revision == read => object.clone(),
            _ => return Err(Raced),
        };
        state.items.remove(key);
        let revision = self.next_revision();
        dig::set_meta(&mut last, "resourceVersion", revision.to_string());
        let object = Arc::new(Object::new(last, revision));
        self.publish(
            &mut state,
            Event {
                change: Change::Deleted,
                object: object.clone(),
                previous: Some(previous),
            },
        );
        Ok(object)
    }

    fn next_revision(&self) -> u64 {
        self.revision.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn publish(&self, state: &mut State, event: Event) {
        let revision = event.object.revision;
        state.log.push_back(Arc::new(event));
        while state.log.len() > self.history {
            if let Some(dropped) = state.log.pop_front() {
                state.floor = dropped.object.revision;
            }
        }
        self.head.send_replace(revision);
    }

    /// Forgets the log: every watch and list from an older revision finds that it has expired.
    pub fn compact(&self) {
        let mut state = self.state.write();
        state.log.clear();
        state.floor = self.revision.load(Ordering::SeqCst);
    }

    /// Up to `limit` events after `revision`, oldest first, and the revision up to which nothing is missing.
    ///
    /// # Errors
    ///
    /// [`Expired`] when events after `revision` have been dropped.
    pub fn events_after(&self, revision: u64, limit: usize) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        let state = self.state.read();
        if revision < state.floor {
            return Err(Expired);
        }
        let from = state.log.partition_point(|event| event.object.revision <= revision);
        let events: Vec<Arc<Event>> = state.log.iter().skip(from).take(limit).cloned().collect();
        let seen = if from + events.len() < state.log.len() {
            events.last().map_or(revision, |event| event.object.revision)
        } else {
            self.revision.load(Ordering::SeqCst).max(revision)
        };
        Ok((events, seen))
    }

    /// Wakes at every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }
}

/// All collections of a server.
#[derive(Debug)]
pub struct Store {
    revision: Arc<AtomicU64>,
    history: usize,
    collections: RwLock<BTreeMap<(String, String), Arc<Collection>>>,
    aliases: RwLock<BTreeMap<(String, String), Alias>>,
}

/// A resource that shows the objects of another.
#[derive(Clone, Debug)]
struct Alias {
    def: Arc<ResourceDef>,
    of: (String, String),
}

impl Store {
    /// An empty store that keeps `history` events a resource.
    pub fn new(history: usize) -> Self {
        Self {
            revision: Arc::new(AtomicU64::new(1)),
            history: history.max(1),
            collections: RwLock::default(),
            aliases: RwLock::default(),
        }
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    /// Serves a resource; one that is there already keeps its objects and gets the new definition.
    pub fn register(&self, def: ResourceDef) -> Arc<Collection> {
        let key = (def.group.clone(), def.plural.clone());
        let mut collections = self.collections.write();
        if let Some(collection) = collections.get(&key) {
            collection.redefine(def);
            return collection.clone();
        }
        let collection = Arc::new(Collection::new(def, self.revision.clone(), self.history));
        collections.insert(key, collection.clone());
        collection
    }

    /// Serves a resource no longer.
    pub fn unregister(&self, group: &str, plural: &str) {
        let removed = self.collections.write().remove(&(group.to_owned(), plural.to_owned()));
        if let Some(collection) = removed {
            collection.retire();
        }
    }

    /// The collection of a resource.
    pub fn collection(&self, group: &str, plural: &str) -> Option<Arc<Collection>> {
        self.collections
            .read()
            .get(&(group.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// Shows the objects of `of` (group, plural) as another resource too.
    pub(crate) fn alias(&self, def: ResourceDef, of: (&str, &str)) {
        let key = (def.group.clone(), def.plural.clone());
        self.aliases.write().insert(
            key,
            Alias {
                def: Arc::new(def),
                of: (of.0.to_owned(), of.1.to_owned()),
            },
        );
    }

    /// A resource's collection and definition, through aliases.
    pub(crate) fn lookup(&self, group: &str, plural: &str) -> Option<(Arc<Collection>, Arc<ResourceDef>)> {
        if let Some(collection) = self.collection(group, plural) {
            let def = collection.def();
            return Some((collection, def));
        }
        let alias = self
            .aliases
            .read()
            .get(&(group.to_owned(), plural.to_owned()))
            .cloned()?;
        Some((self.collection(&alias.of.0, &alias.of.1)?, alias.def))
    }

    /// All resources, aliases too.
    pub(crate) fn definitions(&self) -> Vec<Arc<ResourceDef>> {
        let own = self.collections().into_iter().map(|collection| collection.def());
        own.chain(self.aliases.read().values().map(|alias| alias.def.clone()))
            .collect()
    }

    /// All collections, ordered by group and plural.
    pub fn collections(&self) -> Vec<Arc<Collection>> {
        self.collections.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::resource::Scope, *};

    fn store() -> (Store, Arc<Collection>) {
        let store = Store::new(4);
        let things = store.register(ResourceDef::built_in("", "v1", "things", "Thing", Scope::Namespaced));
        (store, things)
    }

    #[test]
    fn a_commit_against_a_stale_read_is_raced() {
        let (_, things) = store();
        let key = Key::new("a", "x");
        let first = things.commit(&key, None, json!({})).unwrap();
        assert_eq!(things.commit(&key, None, json!({})).unwrap_err(), Raced);
        let second = things.commit(&key, Some(first.revision), json!({"v": 2})).unwrap();
        assert_eq!(things.remove(&key, first.revision, json!({})).unwrap_err(), Raced);
        assert!(second.revision > first.revision);
    }

    #[test]
    fn the_log_is_bounded_and_says_when_it_is_too_short() {
        let (store, things) = store();
        let begin = store.revision();
        for index in 0..4 {
            things
                .commit(&Key::new("a", &index.to_string()), None, json!({}))
                .unwrap();
        }
        assert_eq!(things.events_after(begin, 10).unwrap().0.len(), 4);
        things.commit(&Key::new("a", "last"), None, json!({})).unwrap();
        assert_eq!(things.events_after(begin, 10).unwrap_err(), Expired);
        let (events, seen) = things.events_after(begin + 1, 2).unwrap();
        assert_eq!((events.len(), seen), (2, begin + 3));
    }

    #[test]
    fn a_namespace_lists_only_its_own() {
        let (_, things) = store();
        for (namespace, name) in [("a", "1"), ("a", "2"), ("ab", "1"), ("b", "1")] {
            things.commit(&Key::new(namespace, name), None, json!({})).unwrap();
        }
        assert_eq!(things.list("a").0.len(), 2);
        assert_eq!(things.list("").0.len(), 4);
    }
}
