//! One machine: keep its Node right, or take it down in the safe order.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use steading_infra::{
    apply::FieldManager,
    crd::{MachinePool, machine_pool::OnDrainTimeout},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::name::unpinned_name;

use super::Outcome;
use crate::{
    apply::{
        detach::detach_volumes,
        drain::{drain, known_progress, note_progress, set_cordon},
        machine::{annotate, delete_node, delete_token, delete_vm, finish, restart},
    },
    context::Context,
    domain::{
        drain::Progress,
        machine::{NodeSight, ObservedMachine},
    },
    error::Error,
    observe::machine::observe_machine,
    plan::{
        drain::{Cordon, DetachWait, DrainPolicy, DrainStep},
        machine::{AfterDrain, ClusterFate, MachineStep, plan_machine},
        node::{NodeWish, plan_node},
    },
    tenant::Tenant,
};

/// How long to wait for KubeVirt or a tenant when no event may tell.
const WAIT: Duration = Duration::from_secs(5);
/// Pause between looks at volumes that are being detached.
const DETACH: Duration = Duration::from_millis(500);
/// Pause between passes of a drain that makes progress.
const NEXT: Duration = Duration::from_millis(200);
/// Pause after a Node turned out to be newer than the watch has shown.
const STALE: Duration = Duration::from_millis(50);
/// After this long a cluster that is being deleted asks no disruption budget any more: there is nowhere to go.
const GOING_FORCE: Duration = Duration::from_secs(30);

/// Looks at one machine.
///
/// # Errors
/// If the infra cluster, the tenant or storage refuses or cannot be reached.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Outcome, Error> {
    let key = (namespace.to_owned(), name.to_owned());
    let Some(vm) = context.observed.vms.get(namespace, name) else {
        forget(context, &key);
        return Ok(Outcome::Settled);
    };
    let cluster = context.observed.clusters.get("", namespace);
    let fate = match &cluster {
        Some(cluster) if cluster.metadata.deletion_timestamp.is_none() => ClusterFate::Stays,
        Some(_) | None => ClusterFate::Going,
    };
    if cluster
        .as_ref()
        .is_some_and(|cluster| cluster.spec.paused && fate == ClusterFate::Stays)
    {
        return Ok(Outcome::Settled);
    }
    let machine = observe_machine(&context.observed, &vm);
    let pool = context.observed.pools.get(namespace, &machine.pool);
    let tenant = context
        .observed
        .tenant(namespace)
        .unwrap_or_else(|| Arc::new(Tenant::new(namespace)));
    match plan_machine(&machine, fate) {
        MachineStep::WaitForInstance | MachineStep::WaitForTenant => Ok(Outcome::Again(WAIT)),
        MachineStep::Finish { delete_node: node } => {
            if node {
                delete_node(&tenant, name).await?;
            }
            if tenant.is_reachable() {
                delete_token(&tenant, name).await?;
            }
            finish(context, namespace, name).await?;
            Ok(Outcome::Settled)
        }
        MachineStep::Drain(after) => drain_machine(context, &vm, &machine, pool.as_deref(), after, fate).await,
        MachineStep::DeleteVm => {
            delete_vm(context, &vm).await?;
            Ok(Outcome::Again(WAIT))
        }
        MachineStep::Uncordon => {
            if let Some(client) = tenant.client().filter(|_| tenant.nodes.get("", name).is_some()) {
                let written = set_cordon(&client, name, Cordon::Schedulable).await;
                written.map_err(|source| Error::Tenant {
                    cluster: namespace.to_owned(),
                    source,
                })?;
            }
            annotate(
                context,
                namespace,
                name,
                &[(labels::DRAIN_STARTED, None), (labels::DRAIN_PROGRESS, None)],
            )
            .await?;
            Ok(Outcome::Settled)
        }
        MachineStep::Restart => {
            restart(context, namespace, name).await?;
            Ok(Outcome::Settled)
        }
        MachineStep::Maintain => {
            // A maintenance drains machines that it restarts by itself.
            if !vm.annotations().contains_key(labels::EVACUATION) {
                forget(context, &key);
            }
            maintain(context, &tenant, &vm, &machine, pool.as_deref()).await
        }
    }
}

fn forget(context: &Context, key: &(String, String)) {
    let mut memory = context.memory.lock();
    memory.evictions.remove(key);
    memory.drains.remove(key);
}

async fn drain_machine(
    context: &Context,
    vm: &VirtualMachine,
    machine: &ObservedMachine,
    pool: Option<&MachinePool>,
    after: AfterDrain,
    fate: ClusterFate,
) -> Result<Outcome, Error> {
    let Some(started) = machine.drain_started else {
        // Somebody else asked, such as a maintenance or a person with kubectl: time counts from now.
        let now = context.clock.now().to_string();
        annotate(
            context,
            &machine.namespace,
            &machine.name,
            &[(labels::DRAIN_STARTED, Some(now))],
        )
        .await?;
        return Ok(Outcome::Settled);
    };
    let policy = drain_policy(pool, after, fate);
    let step = drain(context, &machine.namespace, &machine.name, &policy, started).await?;
    match (step, after) {
        (DrainStep::Done(_), AfterDrain::Stay) => Ok(Outcome::Again(Duration::from_secs(60))),
        (DrainStep::Done(_), AfterDrain::Delete) => {
            if !detach_volumes(context, machine).await?
                && !gives_up_detaching(context, machine, &policy, started).await?
            {
                return Ok(Outcome::Again(DETACH));
            }
            tracing::info!(namespace = %machine.namespace, machine = %machine.name, "machine is drained");
            delete_vm(context, vm).await?;
            Ok(Outcome::Again(WAIT))
        }
        (
            DrainStep::WaitPods { again, .. } | DrainStep::WaitDetach { again, .. } | DrainStep::Stalled { again, .. },
            AfterDrain::Stay | AfterDrain::Delete,
        ) => Ok(Outcome::Again(again.max(NEXT))),
        (
            DrainStep::Cordon | DrainStep::Evict(_) | DrainStep::ForceDelete(_),
            AfterDrain::Stay | AfterDrain::Delete,
        ) => Ok(Outcome::Again(NEXT)),
    }
}

/// Notes that only volumes are waited for; whether that has lasted long enough.
async fn gives_up_detaching(
    context: &Context,
    machine: &ObservedMachine,
    policy: &DrainPolicy,
    started: Timestamp,
) -> Result<bool, Error> {
    let key = (machine.namespace.clone(), machine.name.clone());
    let now = context.clock.now();
    let since = known_progress(context, &key, started).detaching_since.unwrap_or(now);
    if policy.gives_up_detaching(Some(since), now) {
        tracing::warn!(namespace = %machine.namespace, machine = %machine.name, "volumes are still attached; the machine goes, as its pool's detach timeout says");
        return Ok(true);
    }
    let progress = Progress {
        detaching_since: Some(since),
        ..Progress::default()
    };
    note_progress(context, &machine.namespace, &machine.name, started, progress).await?;
    Ok(false)
}

fn drain_policy(pool: Option<&MachinePool>, after: AfterDrain, fate: ClusterFate) -> DrainPolicy {
    let eviction = pool.map(|pool| &pool.spec.eviction);
    let seconds = |value: Option<i64>| value.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    let timeout = eviction.and_then(|e| seconds(e.drain_timeout_seconds));
    let forced = eviction.is_some_and(|e| e.on_timeout == OnDrainTimeout::Force);
    let usual = DrainPolicy::default();
    DrainPolicy {
        stall_after: timeout.filter(|_| !forced).unwrap_or(usual.stall_after),
        force_after: match fate {
            ClusterFate::Going => Some(GOING_FORCE),
            ClusterFate::Stays => timeout.filter(|_| forced),
        },
        pod_grace: eviction.and_then(|e| seconds(e.pod_grace_period_seconds)),
        detach: match after {
            AfterDrain::Delete => DetachWait::Wait,
            AfterDrain::Stay => DetachWait::Skip,
        },
        detach_timeout: eviction.and_then(|e| seconds(e.detach_timeout_seconds)),
    }
}

async fn maintain(
    context: &Context,
    tenant: &Tenant,
    vm: &VirtualMachine,
    machine: &ObservedMachine,
    pool: Option<&MachinePool>,
) -> Result<Outcome, Error> {
    let NodeSight::Present {
        ready, uninitialized, ..
    } = machine.node
    else {
        return Ok(Outcome::Settled);
    };
    let (Some(node), Some(client)) = (tenant.nodes.get("", &machine.name), tenant.client()) else {
        return Ok(Outcome::Settled);
    };
    let patch = plan_node(&node, &wish(context, vm, machine, pool));
    let nodes: Api<Node> = Api::all(client);
    let params = PatchParams {
        field_manager: Some(FieldManager::Lifecycle.as_str().into()),
        ..PatchParams::default()
    };
    let mut base = Arc::clone(&node);
    if let Some(status) = patch.status {
        let written = nodes.patch_status(&machine.name, &params, &Patch::Merge(status)).await;
        base = Arc::new(written.map_err(|error| Error::tenant(&tenant.namespace, error))?);
    }
    if let Some(mut body) = patch.node {
        // Taints are guarded against others by the version, which the write above has moved.
        if let Some(version) = body.pointer_mut("/metadata/resourceVersion") {
            let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
            if taints(&base) != taints(&node) {
                return Ok(Outcome::Again(STALE));
            }
            *version = serde_json::json!(base.metadata.resource_version);
        }
        match nodes.patch(&machine.name, &params, &Patch::Merge(body)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_conflict() => return Ok(Outcome::Again(STALE)),
            Err(error) => return Err(Error::tenant(&tenant.namespace, error)),
        }
    }
    // The token has done its work once the kubelet has credentials of its own.
    if ready && uninitialized {
        delete_token(tenant, &machine.name).await?;
    }
    Ok(Outcome::Settled)
}

fn wish(context: &Context, vm: &VirtualMachine, machine: &ObservedMachine, pool: Option<&MachinePool>) -> NodeWish {
    let mut all = context
        .observed
        .clusters
        .get("", &machine.namespace)
        .map(|c| c.spec.node_labels.clone())
        .unwrap_or_default();
    if let Some(pool) = pool {
        all.extend(pool.spec.node_labels.clone());
    }
    all.insert(labels::POOL.into(), machine.pool.clone());
    if let Some(kind) = vm
        .spec
        .instancetype
        .as_ref()
        .map(|m| unpinned_name(&m.name).to_owned())
        .filter(|name| !name.is_empty())
    {
        all.insert(labels::INSTANCE_TYPE.into(), kind);
    }
    if let Some(on) = machine.infra_node() {
        let (zone, region) = context.observed.zone_of(on);
        all.extend(zone.map(|zone| (labels::ZONE.to_owned(), zone)));
        all.extend(region.map(|region| (labels::REGION.to_owned(), region)));
    }
    NodeWish {
        machine: vm.name_any(),
        addresses: machine
            .vmi
            .as_ref()
            .map(|vmi| vmi.addresses.clone())
            .unwrap_or_default(),
        labels: all,
        annotations: pool.map(|pool| pool.spec.node_annotations.clone()).unwrap_or_default(),
        taints: pool.map(|pool| pool.spec.node_taints.clone()).unwrap_or_default(),
    }
}
