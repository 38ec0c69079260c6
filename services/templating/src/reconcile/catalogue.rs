//! The standard catalogue, and the objects that keep what revisions are made of. The standard entries are ours alone, so they
//! are applied, and what somebody changed is put back.

use std::fmt::Debug;

use kube::{Api, Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use steading_controller::{Fresh, Index, Outcome, fresh::Deletion};
use steading_infra::{
    apply::{FieldManager, apply},
    kubevirt::{VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};

use super::pass::{Memory, Pass};
use crate::{
    domain::{revision::PINNED, standard},
    error::Error,
    observe::{entry::Entry, revisions},
};

/// How long a pinned object is kept that nothing names yet: its revision is stored right after it, and KubeVirt keeps a copy
/// for each machine that was made from it.
const YOUNG: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

impl Pass {
    pub(super) async fn reconcile_standard(&self, memory: &Memory) -> Result<Outcome, Error> {
        for (name, spec) in standard::instance_types() {
            let seen = self.seen.instance_types.index();
            self.put_back(
                "InstanceType",
                name,
                spec,
                seen,
                memory,
                VirtualMachineClusterInstancetype::new,
            )
            .await?;
        }
        for (name, spec) in standard::preferences() {
            let seen = self.seen.preferences.index();
            self.put_back(
                "Preference",
                name,
                spec,
                seen,
                memory,
                VirtualMachineClusterPreference::new,
            )
            .await?;
        }
        Ok(Outcome::Settled)
    }

    /// Applies an entry that is not seen as it was applied in this term.
    async fn put_back<K, S>(
        &self,
        kind: &'static str,
        name: &'static str,
        spec: Value,
        seen: &Index<Entry>,
        memory: &Memory,
        new: impl FnOnce(&str, S) -> K,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
        S: DeserializeOwned,
    {
        let applied = memory.lock().get(&(kind, name)).copied();
        let seen = seen.get("", name);
        if applied.is_some() && seen.is_some_and(|entry| Some(entry.generation) == applied) {
            return Ok(());
        }
        let spec = serde_json::from_value(spec).map_err(|_| Error::Unreadable(name.to_owned()))?;
        let mut object = new(name, spec);
        let ours = [
            (labels::MANAGED_BY, labels::MANAGED_BY_STEADING),
            (standard::CATALOGUE_LABEL, standard::STANDARD),
        ];
        let ours = ours.map(|(key, value)| (key.to_owned(), value.to_owned()));
        object.labels_mut().extend(ours);
        let api: Api<K> = Api::all(self.kube.clone());
        let stored = apply(&api, FieldManager::Templating, &object).await;
        let stored = stored.map_err(Error::write(kind, name))?;
        let generation = stored.meta().generation.unwrap_or_default();
        if memory.lock().insert((kind, name), generation) != Some(generation) {
            tracing::info!(kind, name, "an entry of the standard catalogue is in place");
        }
        Ok(())
    }

    /// Deletes pinned objects that no revision needs.
    pub(super) async fn reconcile_pinned(&self) -> Result<Outcome, Error> {
        let types = self.unneeded(self.seen.instance_types.index());
        let preferences = self.unneeded(self.seen.preferences.index());
        if types.is_empty() && preferences.is_empty() {
            return Ok(Outcome::Settled);
        }
        // What is seen of revisions is a reason to look; what is stored of them decides.
        let mut used = std::collections::BTreeSet::new();
        for (_, revision) in revisions::all(&self.kube).await? {
            let resolved = revision.resolved;
            let entries = resolved.instance_type.into_iter().chain(resolved.preference);
            used.extend(entries.map(|entry| entry.pinned_object()));
        }
        let free = |names: Vec<String>| {
            names
                .into_iter()
                .filter(|name| !used.contains(name))
                .collect::<Vec<_>>()
        };
        self.delete_pinned::<VirtualMachineClusterInstancetype>(free(types))
            .await?;
        self.delete_pinned::<VirtualMachineClusterPreference>(free(preferences))
            .await?;
        Ok(Outcome::Settled)
    }

    /// Names of pinned objects that are not young and that no revision is seen to need.
    fn unneeded(&self, seen: &Index<Entry>) -> Vec<String> {
        let now = self.now();
        let is_old = |entry: &Entry| entry.created.is_some_and(|created| now.duration_since(created) > YOUNG);
        let all = seen.all().into_iter();
        all.filter(|(object, entry)| {
            entry.is_pinned && is_old(entry) && !self.seen.is_pinned_for_somebody(&object.name)
        })
        .map(|(object, _)| object.name.to_string())
        .collect()
    }

    async fn delete_pinned<K>(&self, names: Vec<String>) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.kube.clone());
        for name in names {
            let fault = || Error::infra("pinned object", name.clone());
            let Some(object) = Fresh::get(&api, &name).await.map_err(fault())? else {
                continue;
            };
            // Somebody may have made it his own.
            if !object.labels().contains_key(PINNED) {
                continue;
            }
            match object.delete(&api).await.map_err(fault())? {
                Deletion::Accepted => tracing::info!(name, "pinned catalogue entry deleted"),
                Deletion::Gone | Deletion::Changed => {}
            }
        }
        Ok(())
    }
}
