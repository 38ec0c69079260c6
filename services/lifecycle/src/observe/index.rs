//! An index of one kind by namespace and name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{Resource, ResourceExt, runtime::watcher::Event};
use parking_lot::RwLock;

/// Pause after the first failure of a watch.
pub const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between failures of a watch.
pub const LAST_PAUSE: Duration = Duration::from_secs(10);

type ByName<K> = HashMap<String, BTreeMap<String, Arc<K>>>;

/// Objects of one kind. Reads share a lock and clone pointers only.
#[derive(Debug)]
pub struct Index<K> {
    objects: RwLock<ByName<K>>,
    /// What a listing under way has brought so far.
    fresh: RwLock<ByName<K>>,
    synced: AtomicBool,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
            fresh: RwLock::default(),
            synced: AtomicBool::new(false),
        }
    }
}

impl<K: Resource + Clone> Index<K> {
    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.read().get(namespace)?.get(name).cloned()
    }

    /// All objects of a namespace in order of their names; the empty namespace for cluster-scoped kinds.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects
            .read()
            .get(namespace)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.objects
            .read()
            .values()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    /// How many objects a namespace has.
    pub fn count(&self, namespace: &str) -> usize {
        self.objects.read().get(namespace).map_or(0, BTreeMap::len)
    }

    /// Whether a listing has been completed once.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Takes in what a write of ours returned, unless the watch has shown something newer by then.
    pub fn upsert(&self, object: K) {
        let mut objects = self.objects.write();
        let (namespace, name) = key(&object);
        let known = objects.get(&namespace).and_then(|names| names.get(&name));
        let is_late = known.is_some_and(|known| version(known.as_ref()) > version(&object));
        if !is_late {
            put(&mut objects, object);
        }
    }

    /// Takes an event in; returns whose objects changed.
    pub fn apply(&self, event: Event<K>) -> Vec<(String, String)> {
        match event {
            Event::Apply(object) => {
                let key = key(&object);
                put(&mut self.objects.write(), object);
                vec![key]
            }
            Event::Delete(object) => {
                let key = key(&object);
                let mut objects = self.objects.write();
                if let Some(names) = objects.get_mut(&key.0) {
                    names.remove(&key.1);
                    if names.is_empty() {
                        objects.remove(&key.0);
                    }
                }
                vec![key]
            }
            Event::Init => {
                self.fresh.write().clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                put(&mut self.fresh.write(), object);
                Vec::new()
            }
            Event::InitDone => {
                let fresh = std::mem::take(&mut *self.fresh.write());
                let before = std::mem::replace(&mut *self.objects.write(), fresh);
                self.synced.store(true, Ordering::Release);
                let mut changed = keys(&before);
                changed.extend(keys(&self.objects.read()));
                changed.sort();
                changed.dedup();
                changed
            }
        }
    }
}

/// What an event did to an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whose objects changed.
    pub changed: Vec<(String, String)>,
    /// Objects that were not kept because the index is full.
    pub refused: usize,
}

impl<K: Resource + Clone> Index<K> {
    /// As [`Self::apply`], for objects of a foreign cluster: keeps what `project` makes of each, at most `most` of them, and tells only
    /// of objects that `differs` calls changed.
    pub fn apply_projected(
        &self,
        event: Event<K>,
        project: fn(K) -> Option<K>,
        most: usize,
        differs: fn(&K, &K) -> bool,
    ) -> Applied {
        let none = Applied::default();
        match event {
            Event::Init => {
                self.fresh.write().clear();
                none
            }
            Event::InitApply(object) => {
                let Some(object) = project(object) else { return none };
                let mut fresh = self.fresh.write();
                if len(&fresh) >= most {
                    return Applied { refused: 1, ..none };
                }
                put(&mut fresh, object);
                none
            }
            Event::InitDone => {
                let fresh = std::mem::take(&mut *self.fresh.write());
                let before = std::mem::replace(&mut *self.objects.write(), fresh);
                self.synced.store(true, Ordering::Release);
                let after = self.objects.read();
                let mut changed = keys(&before);
                changed.extend(keys(&after));
                changed.sort();
                changed.dedup();
                changed.retain(|(namespace, name)| {
                    let of = |objects: &ByName<K>| objects.get(namespace).and_then(|names| names.get(name)).cloned();
                    match (of(&before), of(&after)) {
                        (Some(before), Some(after)) => differs(&before, &after),
                        (Some(_), None) | (None, Some(_)) => true,
                        (None, None) => false,
                    }
                });
                Applied { changed, refused: 0 }
            }
            Event::Delete(object) => Applied {
                changed: self.remove(&key(&object)),
                refused: 0,
            },
            Event::Apply(object) => {
                let key = key(&object);
                let Some(object) = project(object) else {
                    return Applied {
                        changed: self.remove(&key),
                        refused: 0,
                    };
                };
                let before = self.get(&key.0, &key.1);
                let mut objects = self.objects.write();
                if before.is_none() && len(&objects) >= most {
                    return Applied { refused: 1, ..none };
                }
                let same = before.is_some_and(|before| !differs(&before, &object));
                put(&mut objects, object);
                Applied {
                    changed: if same { Vec::new() } else { vec![key] },
                    refused: 0,
                }
            }
        }
    }

    /// Takes an object out; its key if it was there.
    fn remove(&self, key: &(String, String)) -> Vec<(String, String)> {
        let mut objects = self.objects.write();
        let Some(names) = objects.get_mut(&key.0) else {
            return Vec::new();
        };
        let was_there = names.remove(&key.1).is_some();
        if names.is_empty() {
            objects.remove(&key.0);
        }
        if was_there { vec![key.clone()] } else { Vec::new() }
    }
}

fn len<K>(objects: &ByName<K>) -> usize {
    objects.values().map(BTreeMap::len).sum()
}

fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Versions of one kind are comparable numbers (KEP-5504).
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

fn keys<K>(objects: &ByName<K>) -> Vec<(String, String)> {
    objects
        .iter()
        .flat_map(|(namespace, names)| names.keys().map(|name| (namespace.clone(), name.clone())))
        .collect()
}

fn put<K: Resource + Clone>(objects: &mut ByName<K>, mut object: K) {
    // By far the largest part of most objects, and nobody here reads it.
    object.meta_mut().managed_fields = None;
    let (namespace, name) = key(&object);
    objects.entry(namespace).or_default().insert(name, Arc::new(object));
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn mk_map(namespace: &str, name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some(namespace.into());
        map.metadata.name = Some(name.into());
        map
    }

    #[test]
    fn a_late_reply_does_not_overwrite_a_newer_event() {
        let index = Index::default();
        let at = |version: &str| {
            let mut map = mk_map("a", "x");
            map.metadata.resource_version = Some(version.into());
            map
        };
        index.apply(Event::Apply(at("10")));
        index.upsert(at("9"));
        let seen = || {
            index
                .get("a", "x")
                .and_then(|map| map.metadata.resource_version.clone())
        };
        assert_eq!(seen().as_deref(), Some("10"));
        index.upsert(at("11"));
        assert_eq!(seen().as_deref(), Some("11"));
    }

    #[test]
    fn a_listing_replaces_what_was_there_and_tells_of_both() {
        let index = Index::default();
        index.apply(Event::Apply(mk_map("a", "old")));
        index.apply(Event::Init);
        index.apply(Event::InitApply(mk_map("b", "new")));
        assert!(!index.is_synced());
        assert!(
            index.get("a", "old").is_some(),
            "the old view holds until the listing is complete"
        );
        let changed = index.apply(Event::InitDone);
        assert_eq!(changed, [("a".into(), "old".into()), ("b".into(), "new".into())]);
        assert!(index.is_synced() && index.get("a", "old").is_none() && index.get("b", "new").is_some());
    }

    #[test]
    fn a_flood_is_kept_to_the_bound_and_counted() {
        let index = Index::default();
        let apply = |event| index.apply_projected(event, Some, 2, |before, after| before != after);
        apply(Event::Init);
        let mut refused = 0;
        for at in 0..100 {
            refused += apply(Event::InitApply(mk_map("a", &format!("m{at}")))).refused;
        }
        assert_eq!(apply(Event::InitDone).changed.len(), 2);
        assert_eq!(refused, 98);
        assert_eq!(apply(Event::Apply(mk_map("a", "m5"))).refused, 1);
        assert_eq!(
            apply(Event::Apply(mk_map("a", "m0"))),
            Applied::default(),
            "the same again is no change"
        );
        assert_eq!(
            apply(Event::Delete(mk_map("a", "m5"))),
            Applied::default(),
            "it was never kept"
        );
        assert_eq!(apply(Event::Delete(mk_map("a", "m0"))).changed.len(), 1);
        assert_eq!(apply(Event::Apply(mk_map("a", "m5"))).changed.len(), 1);
    }
}
