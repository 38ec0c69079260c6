//! Installs the standard catalogue. The entries are ours alone, so they are applied and what was changed is put back.

use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use steading_infra::{
    apply::{FieldManager, apply},
    kubevirt::{VirtualMachineClusterInstancetype, VirtualMachineClusterPreference},
    labels,
};

use super::RETRY;
use crate::domain::standard;

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
