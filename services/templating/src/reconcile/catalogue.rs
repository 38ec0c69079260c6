//! Installs the standard catalogue, and deletes pinned objects that no revision needs. The entries are ours alone, so they are
//! applied and what was changed is put back.

use std::collections::BTreeSet;

use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::Value;
use steading_infra::{
    apply::{FieldManager, apply},
    kubevirt::{VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};

use steading_runtime::clock::Clock;

use super::{RESYNC, RETRY};
use crate::{apply::revision::PINNED, domain::standard, error::Error, observe::revisions};

/// How long a pinned object is kept that nothing names yet: its revision is stored right after it, and KubeVirt keeps a copy
/// for each machine that was made from it.
const YOUNG: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Applies every entry; returns when all are there.
pub async fn install(kube: &Client) {
    for (name, spec) in standard::instance_types() {
        let Ok(spec) = serde_json::from_value(spec) else {
            continue;
        };
        install_one(
            Api::all(kube.clone()),
            VirtualMachineClusterInstancetype::new(name, spec),
        )
        .await;
    }
    for (name, spec) in standard::preferences() {
        let Ok(spec) = serde_json::from_value::<_>(spec as Value) else {
            continue;
        };
        install_one(Api::all(kube.clone()), VirtualMachineClusterPreference::new(name, spec)).await;
    }
    tracing::info!("standard catalogue is in place");
}

/// Deletes pinned objects that no revision needs, now and then, for ever.
pub async fn run(kube: &Client, clock: &Clock) {
    loop {
        if let Err(error) = collect(kube, clock.now()).await {
            tracing::warn!(%error, "pinned catalogue entries cannot be looked through");
        }
        tokio::time::sleep(RESYNC).await;
    }
}

async fn collect(kube: &Client, now: jiff::Timestamp) -> Result<(), Error> {
    // The revisions come second: one that is stored in between pinned what it needs a moment before, and that is young.
    let types: Api<VirtualMachineClusterInstancetype> = Api::all(kube.clone());
    let preferences: Api<VirtualMachineClusterPreference> = Api::all(kube.clone());
    let (old_types, old_preferences) = (old(&types, now).await?, old(&preferences, now).await?);
    if old_types.is_empty() && old_preferences.is_empty() {
        return Ok(());
    }
    let (mut used_types, mut used_preferences) = (BTreeSet::new(), BTreeSet::new());
    for (_, revision) in revisions::all(kube).await? {
        used_types.extend(revision.resolved.instance_type.map(|entry| entry.pinned_object()));
        used_preferences.extend(revision.resolved.preference.map(|entry| entry.pinned_object()));
    }
    delete(&types, old_types.iter().filter(|name| !used_types.contains(*name))).await?;
    delete(
        &preferences,
        old_preferences.iter().filter(|name| !used_preferences.contains(*name)),
    )
    .await
}

/// Names of the pinned objects that are not young.
async fn old<K>(api: &Api<K>, now: jiff::Timestamp) -> Result<Vec<String>, Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let pinned = ListParams::default().labels(PINNED);
    let list = api
        .list_metadata(&pinned)
        .await
        .map_err(Error::infra("pinned object", ""))?;
    let is_old = |object: &kube::core::PartialObjectMeta<K>| {
        let created = object.metadata.creation_timestamp.as_ref();
        created.is_some_and(|time| now.duration_since(time.0) > YOUNG)
    };
    Ok(list
        .items
        .iter()
        .filter(|o| is_old(o))
        .map(ResourceExt::name_any)
        .collect())
}

async fn delete<K>(api: &Api<K>, names: impl Iterator<Item = &String>) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    for name in names {
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => tracing::info!(name, "pinned catalogue entry deleted"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(Error::infra("pinned object", name)(error)),
        }
    }
    Ok(())
}

async fn install_one<K>(api: Api<K>, mut object: K)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let ours = [
        (labels::MANAGED_BY, labels::MANAGED_BY_STEADING),
        (standard::CATALOGUE_LABEL, standard::STANDARD),
    ];
    object
        .labels_mut()
        .extend(ours.map(|(k, v)| (k.to_owned(), v.to_owned())));
    while let Err(error) = apply(&api, FieldManager::Templating, &object).await {
        tracing::warn!(%error, name = object.name_any(), "cannot install an entry of the standard catalogue yet");
        tokio::time::sleep(RETRY).await;
    }
}
