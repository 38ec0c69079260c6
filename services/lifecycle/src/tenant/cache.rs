//! What is kept of one kind of a tenant: bounded, projected, by namespace and name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kube::{Resource, ResourceExt, runtime::watcher::Event};
use parking_lot::RwLock;

type ByName<K> = HashMap<String, BTreeMap<String, Arc<K>>>;

/// Objects of one kind. Reads share a lock and clone pointers only.
#[derive(Debug)]
pub struct Cache<K> {
    objects: RwLock<ByName<K>>,
    /// What a listing under way has brought so far.
    fresh: RwLock<ByName<K>>,
    synced: AtomicBool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
            fresh: RwLock::default(),
            synced: AtomicBool::new(false),
        }
    }
}

impl<K: Resource + Clone> Cache<K> {
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
}

/// What an event did to a cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whose objects changed.
    pub changed: Vec<(String, String)>,
    /// Objects that were not kept because the cache is full.
    pub refused: usize,
}

impl<K: Resource + Clone> Cache<K> {
    /// Takes an event in: keeps what `project` makes of each object, at most `most` of them, and tells only of objects that `differs` calls
    /// changed.
    pub fn apply(
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
    fn a_flood_is_kept_to_the_bound_and_counted() {
        let cache = Cache::default();
        let apply = |event| cache.apply(event, Some, 2, |before, after| before != after);
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
