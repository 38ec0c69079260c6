//! Reading lists whole.

use std::fmt::Debug;

use kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;
use steading_controller::list::{ListError, list_all};
use steading_infra::error::InfraError;

/// Every object that `params` select, of the infra cluster or of a tenant.
///
/// # Errors
/// If the API server refuses or cannot be reached, or there are more than may be held.
pub async fn everything<K>(api: &Api<K>, params: &ListParams) -> Result<Vec<K>, InfraError>
where
    K: Clone + Debug + DeserializeOwned,
{
    match list_all(api, params).await {
        Ok(listed) => Ok(listed.items),
        Err(ListError::Kube(error)) => Err(error.into()),
        Err(error @ ListError::TooMany) => Err(InfraError::Invalid(error.to_string())),
    }
}

/// Every object with these labels; all for an empty selector.
///
/// # Errors
/// As [`everything`].
pub async fn labelled<K>(api: &Api<K>, selector: &str) -> Result<Vec<K>, InfraError>
where
    K: Clone + Debug + DeserializeOwned,
{
    everything(api, &ListParams::default().labels(selector)).await
}
