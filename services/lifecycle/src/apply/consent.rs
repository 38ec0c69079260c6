//! Consent to a deletion that takes along what is in an object.

use kube::{Api, Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use steading_infra::{
    apply::{self, FieldManager},
    error::{InfraError, Result, optional},
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
pub async fn give<K>(api: &Api<K>, name: &str) -> Result<Option<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let patch = json!({"metadata": {"annotations": {labels::DELETION_CONSENT: name}}});
    match apply::patch_merge(api, FieldManager::Lifecycle, name, &patch).await {
        Ok(object) => Ok(Some(object)),
        Err(InfraError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives the consent for a call that names the version that it means; the version after it. A call that means another version is left
/// to the deletion to refuse.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn give_at<K>(api: &Api<K>, name: &str, etag: &str) -> Result<String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    if etag.is_empty() {
        give(api, name).await?;
        return Ok(String::new());
    }
    let current = optional(api.get(name).await)?;
    if current.and_then(|one| one.resource_version()).as_deref() != Some(etag) {
        return Ok(etag.to_owned());
    }
    let given = give(api, name).await?;
    Ok(given
        .and_then(|one| one.resource_version())
        .unwrap_or_else(|| etag.to_owned()))
}
