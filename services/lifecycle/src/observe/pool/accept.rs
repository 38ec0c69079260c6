//! Whether a pool can be worked on at all.

use std::sync::Arc;

use kube::ResourceExt;
use steading_infra::crd::{Cluster, MachinePool, cluster::BootstrapKind};

use super::trouble::Trouble;
use crate::{
    apply::render::PoolPlace,
    context::Context,
    domain::{bootstrap::check_custom, pool::validate, version::check_skew},
};

/// Checks what `kubectl` may have written.
pub fn accept(context: &Context, pool: &MachinePool) -> Result<(Arc<Cluster>, PoolPlace), Trouble> {
    let (namespace, name) = (pool.namespace().unwrap_or_default(), pool.name_any());
    let place = PoolPlace::of(&namespace, &name).ok_or_else(|| {
        Trouble::new(
            "InvalidName",
            format!("{namespace}/{name} is not <project>--<cluster>/<pool id>"),
        )
    })?;
    let violations = validate(&pool.spec);
    if !violations.is_empty() {
        return Err(Trouble::new("InvalidSpec", violations.to_string()));
    }
    if place.template(pool).is_none() {
        return Err(Trouble::new("InvalidSpec", "machineTemplate is not an id"));
    }
    let cluster = context.observed.clusters.get("", &namespace);
    let cluster =
        cluster.ok_or_else(|| Trouble::new("ClusterNotFound", format!("cluster {} does not exist", place.cluster)))?;
    if cluster.metadata.deletion_timestamp.is_some() {
        return Err(Trouble::new("ClusterTerminating", "the cluster is being deleted"));
    }
    let bootstrap = &cluster.spec.bootstrap;
    if bootstrap.kind == BootstrapKind::Custom
        && let Err(fault) = check_custom(&bootstrap.user_data)
    {
        let text = format!("the cluster's bootstrap.userData: {fault}");
        return Err(Trouble::new("InvalidBootstrap", text));
    }
    Ok((cluster, place))
}

/// Why no machines are made of the pool's Kubernetes version. Those that exist stay: a new version of the API server breaks no pool.
pub fn skew(pool: &MachinePool, cluster: &Cluster) -> Option<Trouble> {
    let server = cluster
        .status
        .as_ref()
        .and_then(|status| status.kubernetes_version.as_deref());
    let why = check_skew(&pool.spec.kubernetes_version, server).err()?;
    let text = format!("kubernetes version {} {why}", pool.spec.kubernetes_version);
    Some(Trouble::new("VersionSkew", text))
}
