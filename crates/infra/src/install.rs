//! Installs Steading's CustomResourceDefinitions, or upgrades older ones.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Api, Client, ResourceExt};

use crate::apply::{FieldManager, apply};
use crate::crd;
use crate::error::{InfraError, Result, optional};
use crate::{labels, protection};

/// What became of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallOutcome {
    /// It was not there.
    Installed,
    /// It was there with other content.
    Upgraded,
    /// It was there as it should be.
    Unchanged,
}

/// A kind and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledKind {
    /// Name of its CustomResourceDefinition.
    pub name: String,
    /// What became of it.
    pub outcome: InstallOutcome,
}

/// Applies all of Steading's kinds with what protects them, and waits until the API server serves them. Says what became of each.
///
/// Safe to run again and from several processes at once.
///
/// # Errors
/// [`InfraError::TimedOut`] if a kind is not served before the deadline.
pub async fn install_crds(client: &Client, manager: FieldManager, deadline: Duration) -> Result<Vec<InstalledKind>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definitions = crd::all();
    let installed = try_join_all(definitions.iter().map(|definition| install(&api, manager, definition))).await?;
    let waits = installed.iter().map(|kind| {
        let (api, name) = (api.clone(), kind.name.as_str());
        async move {
            let wait = await_condition(api, name, is_crd_established());
            match tokio::time::timeout(deadline, wait).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(InfraError::TimedOut(format!(
                    "CustomResourceDefinition {name}: {error}"
                ))),
                Err(_) => Err(InfraError::TimedOut(format!("CustomResourceDefinition {name}"))),
            }
        }
    });
    try_join_all(waits).await?;
    protection::install(client, manager).await?;
    Ok(installed)
}

/// Whether an upgrade happened is told by the generation, which grows when the API server stores another spec: comparing
/// specs here would have to know all its defaults.
async fn install(
    api: &Api<CustomResourceDefinition>,
    manager: FieldManager,
    definition: &CustomResourceDefinition,
) -> Result<InstalledKind> {
    let name = definition.name_any();
    let before = optional(api.get(&name).await)?.and_then(|found| found.metadata.generation);
    let after = apply(api, manager, definition).await?.metadata.generation;
    let outcome = match before {
        None => InstallOutcome::Installed,
        Some(_) if before == after => InstallOutcome::Unchanged,
        Some(_) => InstallOutcome::Upgraded,
    };
    Ok(InstalledKind { name, outcome })
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
