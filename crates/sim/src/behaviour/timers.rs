//! Moments at which steps of objects are over, and owner references.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;

use super::Context;
use steading_kubesim::Key;

/// When steps of objects are over, so that nobody has to sleep for them. Clones share it.
#[derive(Clone)]
pub struct Timers {
    context: Context,
    due: Arc<Mutex<HashMap<Key, BTreeMap<String, Duration>>>>,
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers")
            .field("objects", &self.due.lock().len())
            .finish_non_exhaustive()
    }
}

impl Timers {
    /// None started.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            due: Arc::default(),
        }
    }

    /// How much of a step is left, `None` when it is over. The first call starts it.
    pub fn left(&self, key: &Key, step: &str, takes: Duration) -> Option<Duration> {
        let now = self.context.time.elapsed();
        let mut due = self.due.lock();
        let steps = due.entry(key.clone()).or_default();
        let subject = format!("{}/{}/{step}", key.namespace, key.name);
        let at = *steps
            .entry(step.to_owned())
            .or_insert_with(|| now + self.context.vary(takes, subject.as_str()));
        Some(at.saturating_sub(now)).filter(|left| !left.is_zero())
    }

    /// Forgets the steps of an object whose names begin so.
    pub fn reset(&self, key: &Key, prefix: &str) {
        if let Some(steps) = self.due.lock().get_mut(key) {
            steps.retain(|step, _| !step.starts_with(prefix));
        }
    }

    /// Forgets everything of an object.
    pub fn forget(&self, key: &Key) {
        self.due.lock().remove(key);
    }
}

/// The controlling owner reference to an object.
pub fn owned_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Name of the controlling owner of a kind.
pub fn controller_of<K: Resource>(object: &K, kind: &str) -> Option<String> {
    let owners = object.owner_references();
    owners
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == kind)
        .map(|owner| owner.name.clone())
}
