//! The namespace of a cluster: made once for a Cluster object, and deleted only if it was made for that one.

use k8s_openapi::api::{core::v1::Namespace, rbac::v1::RoleBinding};
use kube::{Api, ResourceExt};
use steading_controller::Fresh;
use steading_infra::{
    apply::{self, FieldManager},
    crd::Cluster,
    error::InfraError,
    labels,
};

use crate::{
    context::Context,
    error::Error,
    plan::{
        cluster::namespace,
        ownership::{NamespaceOwnership, whose},
    },
};

/// What was read of a namespace within this pass, and whose it is.
#[derive(Debug)]
pub struct FreshNamespace {
    /// Whose it is.
    pub ownership: NamespaceOwnership,
    /// The object.
    pub object: Option<Fresh<Namespace>>,
}

/// Reads the namespace of a cluster from the API server.
///
/// # Errors
/// If the infra cluster cannot be reached.
pub async fn read(context: &Context, cluster: &Cluster) -> Result<FreshNamespace, Error> {
    let object = Fresh::get(&context.all::<Namespace>(), &cluster.name_any()).await?;
    Ok(FreshNamespace {
        ownership: whose(object.as_deref(), cluster),
        object,
    })
}

/// Makes the namespace of a cluster unless there is one; says whose it is. Creating, not applying, tells apart what was made here
/// from what was there.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn ensure(context: &Context, cluster: &Cluster) -> Result<NamespaceOwnership, Error> {
    let name = cluster.name_any();
    let found = read(context, cluster).await?.ownership;
    if found != NamespaceOwnership::Absent {
        return Ok(found);
    }
    let api = context.all::<Namespace>();
    match apply::create(&api, FieldManager::Lifecycle, &namespace(cluster, &name)).await {
        Ok(_) => {
            tracing::info!(cluster = %name, "namespace created");
            Ok(NamespaceOwnership::Made)
        }
        Err(InfraError::AlreadyExists(_)) => Ok(read(context, cluster).await?.ownership),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the namespace that was just read, if it was made for this cluster and is still the same object.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn delete(context: &Context, cluster: &Cluster, fresh: FreshNamespace) -> Result<(), Error> {
    let NamespaceOwnership::Made = fresh.ownership else {
        return Ok(());
    };
    let Some(object) = fresh.object.filter(|one| one.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    tracing::info!(cluster = %cluster.name_any(), "deleting its namespace");
    // If it changed meanwhile, the next pass reads it again.
    object.delete(&context.all::<Namespace>()).await?;
    Ok(())
}

/// Takes back the right of a cluster's machines to clone golden images, if the binding was made for this cluster.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn delete_binding(context: &Context, cluster: &Cluster) -> Result<(), Error> {
    let bindings: Api<RoleBinding> = context.namespaced(labels::SYSTEM_NAMESPACE);
    let Some(found) = Fresh::get(&bindings, &cluster.name_any()).await? else {
        return Ok(());
    };
    if found.annotations().get(labels::CLUSTER_UID) != cluster.metadata.uid.as_ref() {
        return Ok(());
    }
    found.delete(&bindings).await?;
    Ok(())
}
