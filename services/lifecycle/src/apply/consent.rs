//! Consent to a deletion that takes along what is in an object.

use kube::{Api, Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use steading_infra::{
    apply::{self, FieldManager},
    error::{InfraError, Result},
    labels,
};

use crate::plan::teardown::Consent;

/// Whether an object carries the consent to its deletion. The value is its own name, so that a copied annotation is none.
pub fn consent_of<K: Resource>(object: &K) -> Consent {
    if object.annotations().get(labels::DELETION_CONSENT) == Some(&object.name_any()) {
        Consent::Given
    } else {
        Consent::Missing
    }
}

/// Gives the consent; an object that does not exist needs none.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn give<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let patch = json!({"metadata": {"annotations": {labels::DELETION_CONSENT: name}}});
    match apply::patch_merge(api, FieldManager::Lifecycle, name, &patch).await {
        Ok(_) | Err(InfraError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the consent to what was read, and to nothing that changed since; whether the object is another one now and has to be read
/// again.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn give_to<K>(api: &Api<K>, read: &K) -> Result<bool>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    if consent_of(read) == Consent::Given {
        return Ok(false);
    }
    let name = read.name_any();
    let patch = json!({"metadata": {
        "uid": read.uid(), "resourceVersion": read.resource_version(),
        "annotations": {labels::DELETION_CONSENT: name},
    }});
    match apply::patch_merge(api, FieldManager::Lifecycle, &name, &patch).await {
        Ok(_) | Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => Ok(true),
        Err(error) => Err(error),
    }
}
