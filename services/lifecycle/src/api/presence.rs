//! Whether what resources are below is there.

use kube::Api;
use steading_infra::crd::Cluster;
use steading_model::name::{ClusterName, Within};
use steading_runtime::standard::Presence;

use crate::context::Context;

/// Whether a cluster is there.
///
/// # Errors
/// If the API server does not answer.
pub(super) async fn of_cluster(context: &Context, within: &Within<ClusterName>) -> Result<Presence, kube::Error> {
    let Within::One(cluster) = within else {
        return Ok(Presence::Present);
    };
    let clusters: Api<Cluster> = context.all();
    let found = clusters.get_metadata_opt(&cluster.object_name()).await?;
    Ok(Presence::of(found.as_ref().map(|found| &found.metadata)))
}
