//! Whether what volumes and snapshots are below is there.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use steading_model::name::{ClusterName, Within};
use steading_runtime::standard::Presence;

/// Whether a tenant cluster is there: its namespace, in which its volumes are.
///
/// # Errors
/// If the API server does not answer.
pub(super) async fn of_cluster(kube: &Client, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
    let Within::One(cluster) = within else {
        return Ok(Presence::Present);
    };
    let namespaces: Api<Namespace> = Api::all(kube.clone());
    let found = namespaces.get_metadata_opt(&cluster.namespace()).await?;
    Ok(Presence::of(found.as_ref().map(|found| &found.metadata)))
}
