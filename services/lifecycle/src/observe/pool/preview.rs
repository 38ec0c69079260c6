//! What a change of a pool would do, without doing it.

use steading_infra::crd::MachinePool;

use super::{
    accept::accept,
    desired::desired_of,
    machines::{cached, pool_machines},
    rendering::render_now,
};
use crate::{
    context::Context,
    error::Error,
    plan::pool::{Termination, will_go},
};

/// What a change of a pool would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// Machines that would be replaced.
    pub replaced: Vec<String>,
    /// Machines that would be removed.
    pub removed: Vec<String>,
    /// How many machines would be added.
    pub added: usize,
    /// Most machines at a time.
    pub peak: usize,
    /// Hash that machines would be made from.
    pub revision: String,
    /// Revision of the template.
    pub template_revision: String,
}

/// Says what the pool as it is given would do, without doing it.
///
/// # Errors
/// If it cannot be rendered.
pub async fn preview(context: &Context, pool: &MachinePool) -> Result<Preview, Error> {
    let (cluster, place) = accept(context, pool).map_err(|trouble| Error::Malformed(trouble.message))?;
    let rendering = render_now(context, &place, pool, &cluster, String::new()).await?;
    let seen = cached(context, &place.cluster.namespace(), &place.name.id);
    let mut desired = desired_of(pool, &seen, Some(rendering.revision.clone()));
    desired.paused = false;
    let machines = pool_machines(pool, &seen, context.clock.now());
    let current = machines.iter().filter(|m| m.termination == Termination::None).count();
    let (replaced, removed) = will_go(&desired, &machines);
    let busy = if replaced.is_empty() { 0 } else { desired.surge() };
    Ok(Preview {
        added: desired.replicas.saturating_sub(current),
        peak: current.max(desired.replicas + busy),
        replaced,
        removed,
        revision: rendering.revision,
        template_revision: rendering.template_revision,
    })
}
