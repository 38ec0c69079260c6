//! What a pool's machines are made from now, kept until its sources change.

use std::sync::Arc;

use kube::ResourceExt;
use steading_infra::crd::{Cluster, MachinePool};

use crate::{
    apply::render::{self, PoolPlace},
    context::Context,
    domain::{bootstrap::short_hash, rendering::Rendering},
    error::Error,
};

/// How old a resolved placement may be when machines are made by it.
const PLACEMENT_AGE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// The pool's rendering: from memory while its sources are as they were.
pub async fn rendering(
    context: &Context,
    place: &PoolPlace,
    pool: &MachinePool,
    cluster: &Cluster,
) -> Result<Arc<Rendering>, Error> {
    let key = (place.cluster.namespace(), place.name.id.to_string());
    let now = context.clock.now();
    let template = place
        .template(pool)
        .and_then(|name| context.observed.templates.get("", &name.object_name()));
    let source = serde_json::json!([
        template.as_ref().map(|t| (
            t.uid(),
            t.metadata.generation,
            t.status.as_ref().and_then(|s| s.latest_revision.clone())
        )),
        pool.spec.machine_template,
        pool.spec.machine_template_revision,
        pool.spec.placement_policy,
        pool.spec.kubernetes_version,
        serde_json::to_value(&cluster.spec.bootstrap).unwrap_or_default(),
    ])
    .to_string();
    let known = context.memory.lock().renderings.get(&key).cloned();
    if let Some(known) = known
        && known.source == source
        && now.duration_since(known.made) < PLACEMENT_AGE
    {
        return Ok(known);
    }
    let rendering = Arc::new(render_now(context, place, pool, cluster, source).await?);
    context.memory.lock().renderings.insert(key, Arc::clone(&rendering));
    Ok(rendering)
}

/// Renders a pool as it is wanted now.
pub async fn render_now(
    context: &Context,
    place: &PoolPlace,
    pool: &MachinePool,
    cluster: &Cluster,
    source: String,
) -> Result<Rendering, Error> {
    let placement = render::resolve_placement(context, place, &pool.spec.placement_policy).await?;
    let answer = render::render(context, place, pool, placement).await?;
    let bootstrap =
        serde_json::to_string(&(&cluster.spec.bootstrap.kind, &cluster.spec.bootstrap.user_data)).unwrap_or_default();
    let spec = &pool.spec;
    let revision = short_hash(
        &[
            &spec.machine_template,
            &answer.revision,
            &spec.placement_policy,
            &spec.kubernetes_version,
            &bootstrap,
        ],
        10,
    );
    let resources = answer.resources.unwrap_or_default();
    Ok(Rendering {
        source,
        revision,
        template_revision: answer.revision,
        virtual_machine: answer.virtual_machine.map(render::json).unwrap_or_default(),
        name_paths: answer.machine_name_paths,
        user_data: answer.user_data,
        vcpus: resources.vcpus,
        memory: resources.memory,
        storage: resources.local_storage,
        instance_type: answer.instance_type,
        made: context.clock.now(),
    })
}
