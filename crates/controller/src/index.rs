//! A typed store of what is seen of one kind: projections of objects by name and by secondary keys, with a log of their changes.
//!
//! Everything comes through one door, which compares versions: watch events, lists, and the replies of our own writes. So a late reply
//! never overwrites a newer event, and what was deleted does not come back. Lookups are synchronous; no lock is held across an await.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    ops::Bound,
    sync::Arc,
};

use ahash::AHashMap;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    changes::{Change, Changes, Cursor, Expired},
    object::ObjectRef,
    version::Version,
};

/// Changes that are kept for slow readers: minutes of a busy infra cluster, a few MiB at a few hundred bytes a projection.
pub const LOG_CAPACITY: usize = 8192;
/// Deleted objects whose last version is remembered, so that late replies do not bring them back: more than can be deleted while a
/// request is under way.
const TOMBSTONES: usize = 4096;

type KeyFunction<T> = Box<dyn Fn(&ObjectRef, &T) -> Vec<String> + Send + Sync>;

struct SecondaryKey<T> {
    name: &'static str,
    keys_of: KeyFunction<T>,
}

#[derive(Debug)]
struct Slot<T> {
    version: Version,
    value: Arc<T>,
}

struct State<T> {
    objects: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Slot<T>>>,
    count: usize,
    /// By number of the secondary key and its value.
    by_key: Vec<AHashMap<String, BTreeSet<ObjectRef>>>,
    tombstones: AHashMap<ObjectRef, Version>,
    buried: VecDeque<ObjectRef>,
    /// Up to here everything is in the index.
    version: Version,
    changes: Changes<T>,
}

/// The store; see the module.
pub struct Index<T> {
    state: RwLock<State<T>>,
    keys: Vec<SecondaryKey<T>>,
    version: watch::Sender<Version>,
    end: watch::Sender<Option<Cursor>>,
}

impl<T> fmt::Debug for Index<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.read();
        f.debug_struct("Index")
            .field("count", &state.count)
            .field("version", &state.version)
            .finish_non_exhaustive()
    }
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self::with_log(LOG_CAPACITY)
    }
}

impl<T> Index<T> {
    /// An empty index without secondary keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty index whose log keeps `capacity` changes.
    pub fn with_log(capacity: usize) -> Self {
        Self {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                count: 0,
                by_key: Vec::new(),
                tombstones: AHashMap::new(),
                buried: VecDeque::new(),
                version: Version::NONE,
                changes: Changes::new(capacity),
            }),
            keys: Vec::new(),
            version: watch::Sender::new(Version::NONE),
            end: watch::Sender::new(None),
        }
    }

    /// Adds a secondary key: `keys_of` gives the values under which an object is found. To be called before objects are put in.
    #[must_use]
    pub fn with_key(
        mut self,
        name: &'static str,
        keys_of: impl Fn(&ObjectRef, &T) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.keys.push(SecondaryKey {
            name,
            keys_of: Box::new(keys_of),
        });
        self.state.get_mut().by_key.push(AHashMap::new());
        self
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let state = self.state.read();
        state.objects.get(namespace)?.get(name).map(|slot| slot.value.clone())
    }

    /// The version in which an object was seen last.
    pub fn version_of(&self, object: &ObjectRef) -> Option<Version> {
        let state = self.state.read();
        state.slot(object).map(|slot| slot.version)
    }

    /// The objects of a namespace in order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<(ObjectRef, Arc<T>)> {
        let state = self.state.read();
        let Some((key, objects)) = state.objects.get_key_value(namespace) else {
            return Vec::new();
        };
        let entry = |(name, slot): (&Arc<str>, &Slot<T>)| {
            let object = ObjectRef {
                namespace: key.clone(),
                name: name.clone(),
            };
            (object, slot.value.clone())
        };
        objects.iter().map(entry).collect()
    }

    /// All objects in order of namespace and name.
    pub fn all(&self) -> Vec<(ObjectRef, Arc<T>)> {
        self.state.read().entries()
    }

    /// At most `limit` objects behind `after`, in order of namespace and name.
    pub fn page(&self, namespace: Option<&str>, after: Option<&ObjectRef>, limit: usize) -> Vec<(ObjectRef, Arc<T>)> {
        let state = self.state.read();
        let first: Arc<str> = namespace.map_or_else(
            || after.map_or_else(|| Arc::from(""), |object| object.namespace.clone()),
            Arc::from,
        );
        let mut page = Vec::new();
        for (space, objects) in state.objects.range(first..) {
            if namespace.is_some_and(|wanted| wanted != &**space) {
                break;
            }
            let lower = match after {
                Some(object) if object.namespace == *space => Bound::Excluded(object.name.clone()),
                Some(_) | None => Bound::Unbounded,
            };
            for (name, slot) in objects.range((lower, Bound::Unbounded)) {
                if page.len() >= limit {
                    return page;
                }
                let object = ObjectRef {
                    namespace: space.clone(),
                    name: name.clone(),
                };
                page.push((object, slot.value.clone()));
            }
        }
        page
    }

    /// The objects with a value of a secondary key, in order of namespace and name. Empty for a key that the index does not have.
    pub fn by(&self, key: &str, value: &str) -> Vec<(ObjectRef, Arc<T>)> {
        let Some(number) = self.keys.iter().position(|k| k.name == key) else {
            return Vec::new();
        };
        let state = self.state.read();
        let found = state.by_key.get(number).and_then(|index| index.get(value));
        let entry = |object: &ObjectRef| state.slot(object).map(|slot| (object.clone(), slot.value.clone()));
        found.into_iter().flatten().filter_map(entry).collect()
    }

    /// How many objects have a value of a secondary key.
    pub fn count_by(&self, key: &str, value: &str) -> usize {
        let Some(number) = self.keys.iter().position(|k| k.name == key) else {
            return 0;
        };
        let state = self.state.read();
        let found = state.by_key.get(number).and_then(|index| index.get(value));
        found.map_or(0, BTreeSet::len)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to which version everything is in the index.
    pub fn version(&self) -> Version {
        self.state.read().version
    }

    /// All objects, and the place in the log from which their changes follow: nothing is missed in between.
    pub fn snapshot(&self) -> (Vec<(ObjectRef, Arc<T>)>, Cursor) {
        let state = self.state.read();
        (state.entries(), state.changes.end())
    }

    /// The place behind the newest change.
    pub fn end(&self) -> Cursor {
        self.state.read().changes.end()
    }

    /// The changes behind a place.
    ///
    /// # Errors
    /// If the log does not reach back so far.
    pub fn since(&self, cursor: Cursor) -> Result<Vec<(Cursor, Change<T>)>, Expired> {
        self.state.read().changes.since(cursor)
    }

    /// The changes behind a place, which moves to the end.
    ///
    /// # Errors
    /// If the log does not reach back so far. The place has moved all the same.
    pub fn news(&self, place: &mut Cursor) -> Result<Vec<Change<T>>, Expired> {
        match self.since(*place) {
            Ok(changes) => {
                if let Some((last, _)) = changes.last() {
                    *place = *last;
                }
                Ok(changes.into_iter().map(|(_, change)| change).collect())
            }
            Err(expired) => {
                *place = self.end();
                Err(expired)
            }
        }
    }

    /// Wakes whenever something changed; read it with [`Self::since`].
    pub fn changed(&self) -> watch::Receiver<Option<Cursor>> {
        self.end.subscribe()
    }

    /// Waits until everything up to a version is in the index. Bound it with a timeout: a quiet watch brings no version.
    pub async fn reaches(&self, version: Version) {
        let mut versions = self.version.subscribe();
        // The sender lives as long as the index.
        let _ = versions.wait_for(|present| *present >= version).await;
    }

    /// Notes that everything up to a version has been put in.
    pub fn advance(&self, version: Version) {
        let mut state = self.state.write();
        state.version = state.version.max(version);
        let version = state.version;
        drop(state);
        self.version
            .send_if_modified(|present| std::mem::replace(present, version) != version);
    }
}

impl<T: PartialEq> Index<T> {
    /// Puts in an object as of a version; returns whether anything changed. Older words than the last one are ignored.
    pub fn upsert(&self, object: ObjectRef, version: Version, value: T) -> bool {
        let mut state = self.state.write();
        let changed = state.upsert(&self.keys, object, version, value);
        self.wake(&state, changed);
        changed
    }

    /// Takes out an object that was deleted at a version; returns whether it was there.
    pub fn remove(&self, object: &ObjectRef, version: Version) -> bool {
        let mut state = self.state.write();
        let changed = state.remove(&self.keys, object, version);
        self.wake(&state, changed);
        changed
    }

    /// Replaces everything by a complete list of a version. What was put in with a newer version stays; so does what is known of an object
    /// that exists without a readable value (`None`).
    pub fn replace(&self, list: Vec<(ObjectRef, Version, Option<T>)>, version: Version) {
        let mut state = self.state.write();
        let listed: BTreeSet<ObjectRef> = list.iter().map(|(object, ..)| object.clone()).collect();
        let mut gone = Vec::new();
        for (namespace, objects) in &state.objects {
            for (name, slot) in objects {
                let object = ObjectRef {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                if slot.version <= version && !listed.contains(&object) {
                    gone.push(object);
                }
            }
        }
        let mut changed = false;
        for object in gone {
            changed |= state.remove(&self.keys, &object, version);
        }
        for (object, seen, value) in list {
            let Some(value) = value else { continue };
            changed |= state.upsert(&self.keys, object, seen, value);
        }
        state.version = state.version.max(version);
        let version = state.version;
        self.wake(&state, changed);
        drop(state);
        self.version
            .send_if_modified(|present| std::mem::replace(present, version) != version);
    }

    fn wake(&self, state: &State<T>, changed: bool) {
        if changed {
            self.end.send_replace(Some(state.changes.end()));
        }
    }
}

impl<T> State<T> {
    fn slot(&self, object: &ObjectRef) -> Option<&Slot<T>> {
        self.objects.get(&object.namespace)?.get(&object.name)
    }

    fn entries(&self) -> Vec<(ObjectRef, Arc<T>)> {
        let mut entries = Vec::with_capacity(self.count);
        for (namespace, objects) in &self.objects {
            for (name, slot) in objects {
                let object = ObjectRef {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                entries.push((object, slot.value.clone()));
            }
        }
        entries
    }

    fn set_keys(&mut self, keys: &[SecondaryKey<T>], object: &ObjectRef, before: Option<&T>, after: Option<&T>) {
        for (key, index) in keys.iter().zip(&mut self.by_key) {
            let old = before.map(|value| (key.keys_of)(object, value)).unwrap_or_default();
            let new = after.map(|value| (key.keys_of)(object, value)).unwrap_or_default();
            for value in old.iter().filter(|value| !new.contains(value)) {
                if let Some(objects) = index.get_mut(value) {
                    objects.remove(object);
                    if objects.is_empty() {
                        index.remove(value);
                    }
                }
            }
            for value in new {
                if !old.contains(&value) {
                    index.entry(value).or_default().insert(object.clone());
                }
            }
        }
    }

    fn bury(&mut self, object: &ObjectRef, version: Version) {
        let newest = self.tombstones.get(object).copied().unwrap_or_default().max(version);
        if self.tombstones.insert(object.clone(), newest).is_none() {
            self.buried.push_back(object.clone());
            if self.buried.len() > TOMBSTONES
                && let Some(oldest) = self.buried.pop_front()
            {
                self.tombstones.remove(&oldest);
            }
        }
    }
}

impl<T: PartialEq> State<T> {
    fn upsert(&mut self, keys: &[SecondaryKey<T>], object: ObjectRef, version: Version, value: T) -> bool {
        // A version that cannot be compared is taken as news.
        let comparable = version != Version::NONE;
        if comparable && self.tombstones.get(&object).is_some_and(|deleted| *deleted >= version) {
            return false;
        }
        if let Some(slot) = self
            .objects
            .get_mut(&object.namespace)
            .and_then(|objects| objects.get_mut(&object.name))
        {
            if comparable && slot.version >= version {
                return false;
            }
            slot.version = version;
            if *slot.value == value {
                return false;
            }
        }
        let value = Arc::new(value);
        let objects = self.objects.entry(object.namespace.clone()).or_default();
        let slot = Slot {
            version,
            value: value.clone(),
        };
        let before = objects.insert(object.name.clone(), slot).map(|slot| slot.value);
        if before.is_none() {
            self.count += 1;
        }
        self.set_keys(keys, &object, before.as_deref(), Some(&value));
        self.changes.push(Change {
            object,
            before,
            after: Some(value),
            version,
        });
        true
    }

    fn remove(&mut self, keys: &[SecondaryKey<T>], object: &ObjectRef, version: Version) -> bool {
        let newer = self.slot(object).is_some_and(|slot| slot.version > version);
        if version != Version::NONE && newer {
            return false;
        }
        self.bury(object, version);
        let Some(objects) = self.objects.get_mut(&object.namespace) else {
            return false;
        };
        let Some(slot) = objects.remove(&object.name) else {
            return false;
        };
        if objects.is_empty() {
            self.objects.remove(&object.namespace);
        }
        self.count = self.count.saturating_sub(1);
        self.set_keys(keys, object, Some(&slot.value), None);
        self.changes.push(Change {
            object: object.clone(),
            before: Some(slot.value),
            after: None,
            version,
        });
        true
    }
}

#[cfg(test)]
mod tests;
