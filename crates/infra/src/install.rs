//! Installs Steading's CustomResourceDefinitions.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Api, Client, ResourceExt};

use crate::apply::{FieldManager, apply};
use crate::crd;
use crate::error::{InfraError, Result};
use crate::labels;

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
                Ok(Err(error)) => Err(InfraError::TimedOut(format!(
                    "CustomResourceDefinition {name}: {error}"
                ))),
                Err(_) => Err(InfraError::TimedOut(format!("CustomResourceDefinition {name}"))),
            }
        }
    });
    try_join_all(waits).await.map(|_| ())
}

/// Makes the namespace of Steading itself unless it is there: leases, golden images and revisions live in it.
///
/// Safe to run again and from several processes at once.
///
/// # Errors
/// If the API server does not answer or refuses.
pub async fn ensure_system_namespace(client: &Client, manager: FieldManager) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(labels::SYSTEM_NAMESPACE.into());
    namespace
        .labels_mut()
        .insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
    match crate::apply::create(&api, manager, &namespace).await {
        Ok(_) | Err(InfraError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
