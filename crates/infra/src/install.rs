//! Installs Steading's CustomResourceDefinitions.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Api, Client, ResourceExt};

use crate::apply::{FieldManager, apply};
use crate::crd;
use crate::error::{InfraError, Result};

/// Applies all of Steading's kinds and waits until the API server serves them.
///
/// Safe to run again and from several processes at once.
///
/// # Errors
/// [`InfraError::TimedOut`] if a kind is not served before the deadline.
pub async fn install_crds(client: &Client, manager: FieldManager, deadline: Duration) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definitions = crd::all();
    let applied = try_join_all(definitions.iter().map(|definition| apply(&api, manager, definition)));
    let names = applied.await?.into_iter().map(|made| made.name_any());
    let waits = names.map(|name| {
        let api = api.clone();
        async move {
            let wait = await_condition(api, &name, is_crd_established());
            match tokio::time::timeout(deadline, wait).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(InfraError::TimedOut(format!("CustomResourceDefinition {name}: {error}"))),
                Err(_) => Err(InfraError::TimedOut(format!("CustomResourceDefinition {name}"))),
            }
        }
    });
    try_join_all(waits).await.map(|_| ())
}
