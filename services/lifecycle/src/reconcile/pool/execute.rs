//! A pool's plan as requests: intents on machines that are to be deleted, and new machines.

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::ResourceExt;
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, MachinePool, machine_pool::FailuresStatus},
    error::InfraError,
    intent::{self, Action},
    kubevirt::VirtualMachine,
    labels,
};

use crate::{
    apply::{
        event::Tone,
        intent::{clear, request_delete},
        machine::create_machine,
        render::PoolPlace,
    },
    context::Context,
    domain::{bootstrap::short_hash, machine::ObservedMachine, rendering::Rendering},
    error::Error,
    observe::list::labelled,
    observe::machine::observe_machine,
    plan::{
        evacuation::MachineKey,
        pool::{Failures, PoolPlan, RemoveReason},
    },
};

/// Machines made at once.
const PARALLEL: usize = 8;
/// Machines made before looking again, so that a scale-down in between is seen soon.
pub(super) const BATCH: usize = 64;

/// What a plan is carried out on.
pub(super) struct Pass<'a> {
    pub(super) context: &'a Context,
    pub(super) place: &'a PoolPlace,
    pub(super) cluster: &'a Cluster,
    pub(super) pool: &'a MachinePool,
    pub(super) rendering: Option<&'a Rendering>,
    pub(super) machines: &'a [ObservedMachine],
}

impl Pass<'_> {
    /// Carries a plan out: failures are stored first, so that a crash never makes a machine more than the limit allows.
    pub(super) async fn execute(&self, plan: &PoolPlan) -> Result<(), Error> {
        self.store_failures(&plan.failures).await?;
        for machine in &plan.revoke {
            let key = self.key(machine);
            clear(self.context, &key, &[intent::key(Action::Delete, intent::POOL)]).await?;
        }
        for (machine, reason) in &plan.remove {
            self.remove(machine, *reason).await?;
        }
        self.create(plan.create).await
    }

    fn key(&self, machine: &str) -> MachineKey {
        MachineKey {
            namespace: self.place.cluster.namespace(),
            machine: machine.to_owned(),
        }
    }

    async fn remove(&self, machine: &str, reason: RemoveReason) -> Result<(), Error> {
        tracing::info!(pool = %self.place.name, machine, reason = reason.as_str(), "pool removes a machine");
        let note = format!("{machine}: {}", reason.as_str());
        let (tone, name) = match reason {
            RemoveReason::Unhealthy => (Tone::Warning, "MachineRepaired"),
            RemoveReason::ScaleDown | RemoveReason::Replaced | RemoveReason::Outdated => {
                (Tone::Normal, "MachineRemoved")
            }
        };
        self.context
            .events
            .publish(self.pool, tone, "Remove", name, &note)
            .await;
        let key = self.key(machine);
        request_delete(self.context, &key, intent::POOL, reason.as_str()).await
    }

    async fn store_failures(&self, failures: &Failures) -> Result<(), Error> {
        let known = self.pool.status.clone().unwrap_or_default();
        let after = failures_status(failures);
        if known.failures == after {
            return Ok(());
        }
        let status = steading_infra::crd::machine_pool::MachinePoolStatus {
            failures: after,
            ..known
        };
        let api = self.context.namespaced::<MachinePool>(&self.place.cluster.namespace());
        match apply::apply_status(&api, FieldManager::Lifecycle, &self.pool.name_any(), &status).await {
            Ok(written) => {
                self.context.observed.pools.upsert(written);
                Ok(())
            }
            Err(InfraError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self, count: usize) -> Result<(), Error> {
        let Some(rendering) = self.rendering.filter(|_| count > 0) else {
            return Ok(());
        };
        let namespace = self.place.cluster.namespace();
        let tenant = self
            .context
            .observed
            .tenant(&namespace)
            .filter(|tenant| tenant.is_reachable());
        let tenant = &tenant.ok_or(Error::TenantUnreachable)?;
        let makes: Vec<_> = names(self.pool, self.machines, count.min(BATCH))
            .into_iter()
            .map(|machine| async move {
                create_machine(
                    self.context,
                    self.place,
                    self.cluster,
                    self.pool,
                    rendering,
                    tenant,
                    &machine,
                )
                .await
            })
            .collect();
        let mut results = stream::iter(makes).buffer_unordered(PARALLEL);
        let mut first = None;
        while let Some(result) = results.next().await {
            first = first.or(result.err());
        }
        first.map_or(Ok(()), Err)
    }
}

/// Failures as the status has them; none is nothing.
pub(super) fn failures_status(failures: &Failures) -> Option<FailuresStatus> {
    (failures.count > 0).then(|| FailuresStatus {
        revision: failures.revision.clone(),
        count: i32::try_from(failures.count).unwrap_or(i32::MAX),
        last_time: failures.last.map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time),
        message: failures.message.clone(),
    })
}

/// The machines of a pool, read from the API server now.
pub(super) async fn fresh_machines(
    context: &Context,
    namespace: &str,
    pool: &str,
    now: Timestamp,
) -> Result<Vec<ObservedMachine>, Error> {
    let api = context.namespaced::<VirtualMachine>(namespace);
    let fresh = labelled(&api, &format!("{}={pool}", labels::POOL)).await?;
    Ok(fresh
        .iter()
        .map(|vm| observe_machine(&context.observed, vm, now))
        .collect())
}

/// Names for new machines. They follow from the pool and from what exists, so that two who see the same make the same.
fn names(pool: &MachinePool, machines: &[ObservedMachine], count: usize) -> Vec<String> {
    let (uid, pool_name) = (pool.uid().unwrap_or_default(), pool.name_any());
    let mut taken: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
    taken.sort_unstable();
    let state = short_hash(&taken, 16);
    let candidates = (0_u32..).map(|n| format!("{pool_name}-{}", short_hash(&[&uid, &state, &n.to_string()], 5)));
    let mut found: Vec<String> = Vec::with_capacity(count);
    for name in candidates.take(count.saturating_mul(4).saturating_add(64)) {
        if found.len() == count {
            break;
        }
        if !taken.contains(&name.as_str()) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
