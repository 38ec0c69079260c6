//! One cluster: its namespace and isolation, what is seen of its API server, and its end in the safe order.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    networking::v1::NetworkPolicy,
    rbac::v1::{Role, RoleBinding},
};
use kube::{Api, ResourceExt, api::ListParams};
use steading_api::storage::v1::{DeleteVolumeRequest, ListVolumesRequest};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, MachinePool, cluster::BootstrapKind},
    error::{InfraError, optional},
    kubevirt::VirtualMachine,
    labels, list,
};
use steading_model::name::ClusterName;

use super::{Outcome, project::ignore_missing};
use crate::{
    apply::{
        machine::request_delete,
        status::{set_condition, truth},
    },
    context::Context,
    domain::bootstrap::check_custom,
    error::Error,
    observe::machine::observe_machine,
    plan::cluster::{
        ISOLATION, Remains, Teardown, image_cloners, isolation, may_clone_images, namespace, plan_teardown,
    },
    tenant::{Endpoint, Reach},
};

/// Pause between steps of a teardown that nothing tells of.
const STEP: Duration = Duration::from_millis(500);

/// How long a namespace that was seen is taken to exist. Nothing but a person deletes it, and a cluster with many machines is looked at
/// many times a minute.
const NAMESPACE_FRESH: SignedDuration = SignedDuration::from_secs(60);

/// Looks at one cluster.
///
/// # Errors
/// If the infra cluster or storage refuses or cannot be reached.
pub async fn reconcile(context: &Context, name: &str) -> Result<Outcome, Error> {
    let Some(cluster) = context.observed.clusters.get("", name) else {
        context.memory.lock().namespaces.remove(name);
        return Ok(Outcome::Settled);
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return teardown(context, &cluster, name).await;
    }
    let api = context.all::<Cluster>();
    if !cluster.finalizers().iter().any(|f| f == labels::CLUSTER_FINALIZER) {
        ignore_missing(
            apply::add_finalizer(&api, FieldManager::Lifecycle, name, labels::CLUSTER_FINALIZER)
                .await
                .map(drop),
        )?;
    }
    let refusal = refusal(&cluster, name);
    let tenant = context.observed.tenant(name);
    let reach = tenant.as_ref().map_or_else(
        || Reach::Connecting("no connection yet".into()),
        |tenant| tenant.reach(),
    );
    let endpoint = tenant.as_ref().map(|tenant| tenant.endpoint()).unwrap_or_default();
    if refusal.is_none() && !cluster.spec.paused {
        keep_namespace(context, &cluster, name, &endpoint).await?;
    }
    report(context, &cluster, name, refusal, &reach, &endpoint).await?;
    Ok(match reach {
        Reach::Reachable => Outcome::Settled,
        Reach::Connecting(_) | Reach::Unreachable(_) => Outcome::Again(Duration::from_secs(30)),
    })
}

fn refusal(cluster: &Cluster, name: &str) -> Option<(&'static str, String)> {
    let named = ClusterName::from_object_name(name);
    let fits =
        named.is_some_and(|n| n.project.as_str() == cluster.spec.project && n.cluster.as_str() == cluster.spec.cluster);
    if !fits {
        return Some((
            "InvalidName",
            "the object's name must be <project>--<cluster>, as its spec says".into(),
        ));
    }
    let bootstrap = &cluster.spec.bootstrap;
    if bootstrap.kind == BootstrapKind::Custom
        && let Err(fault) = check_custom(&bootstrap.user_data)
    {
        return Some(("InvalidBootstrap", format!("bootstrap.userData: {fault}")));
    }
    cluster.spec.control_plane.external.is_none().then(|| {
        (
            "ControlPlaneNotSupported",
            "only external control planes are supported so far".to_owned(),
        )
    })
}

async fn keep_namespace(context: &Context, cluster: &Cluster, name: &str, endpoint: &Endpoint) -> Result<(), Error> {
    let spaces = context.all::<Namespace>();
    let known = cluster.status.as_ref().is_some_and(|status| {
        let ready = status
            .conditions
            .iter()
            .any(|c| c.type_ == "NamespaceReady" && c.status == "True");
        ready
            && status.observed_generation == cluster.metadata.generation
            && status.endpoint.as_deref().unwrap_or_default() == endpoint.server
    });
    let now = context.clock.now();
    let seen = context.memory.lock().namespaces.get(name).copied();
    if known && seen.is_some_and(|seen| now.duration_since(seen) < NAMESPACE_FRESH) {
        return Ok(());
    }
    if known && optional(spaces.get(name).await)?.is_some() {
        context.memory.lock().namespaces.insert(name.to_owned(), now);
        return Ok(());
    }
    apply::apply(&spaces, FieldManager::Lifecycle, &namespace(cluster, name)).await?;
    let roles = context.namespaced::<Role>(labels::SYSTEM_NAMESPACE);
    apply::apply(&roles, FieldManager::Lifecycle, &image_cloners()).await?;
    let bindings = context.namespaced::<RoleBinding>(labels::SYSTEM_NAMESPACE);
    apply::apply(&bindings, FieldManager::Lifecycle, &may_clone_images(cluster, name)).await?;
    let policies: Api<NetworkPolicy> = context.namespaced(name);
    match isolation(
        cluster,
        name,
        Some(endpoint.server.as_str()).filter(|server| !server.is_empty()),
    ) {
        Some(policy) => {
            apply::apply(&policies, FieldManager::Lifecycle, &policy).await?;
        }
        None => ignore_missing(apply::delete(&policies, ISOLATION, None).await)?,
    }
    Ok(())
}

async fn report(
    context: &Context,
    cluster: &Cluster,
    name: &str,
    refusal: Option<(&'static str, String)>,
    reach: &Reach,
    endpoint: &Endpoint,
) -> Result<(), Error> {
    let before = cluster.status.clone().unwrap_or_default();
    let mut after = before.clone();
    let (generation, now) = (cluster.metadata.generation, context.clock.now());
    after.observed_generation = generation;
    let machines: Vec<_> = context
        .observed
        .vms
        .list(name)
        .iter()
        .map(|vm| observe_machine(&context.observed, vm))
        .collect();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    after.machines = count(machines.len());
    after.ready_machines = count(machines.iter().filter(|m| m.is_ready()).count());
    if !endpoint.server.is_empty() {
        after.endpoint = Some(endpoint.server.clone());
        after.kubernetes_version = Some(endpoint.version.clone());
    }
    let accepted = refusal.is_none();
    let (reason, message) = refusal.unwrap_or(("Accepted", String::new()));
    set_condition(
        &mut after.conditions,
        generation,
        now,
        ("Accepted", truth(accepted), reason, &message),
    );
    let place = if accepted {
        ("NamespaceReady", "True", "Applied", "")
    } else {
        ("NamespaceReady", "Unknown", "NotAccepted", "")
    };
    set_condition(&mut after.conditions, generation, now, place);
    let (phase, status, reason, message) = match reach {
        _ if !accepted => ("Failed", "Unknown", "NotAccepted", String::new()),
        Reach::Reachable => ("Running", "True", "Reachable", String::new()),
        Reach::Connecting(why) => ("Provisioning", "False", "Connecting", why.clone()),
        Reach::Unreachable(why) => ("Unreachable", "Unknown", "Unreachable", why.clone()),
    };
    set_condition(
        &mut after.conditions,
        generation,
        now,
        ("TenantReachable", status, reason, &message),
    );
    set_condition(
        &mut after.conditions,
        generation,
        now,
        ("Ready", truth(phase == "Running"), reason, &message),
    );
    after.phase = Some(phase.into());
    if after == before {
        return Ok(());
    }
    ignore_missing(
        apply::apply_status(&context.all::<Cluster>(), FieldManager::Lifecycle, name, &after)
            .await
            .map(drop),
    )
}

async fn teardown(context: &Context, cluster: &Cluster, name: &str) -> Result<Outcome, Error> {
    let selector = |label: &str| ListParams::default().labels(label);
    let services: Api<Service> = context.namespaced(name);
    let balancers = services
        .list(&selector(labels::LOAD_BALANCER))
        .await
        .map_err(InfraError::from)?
        .items;
    let pools = list::all(&context.namespaced::<MachinePool>(name), "").await?.items;
    let vms = list::all(&context.namespaced::<VirtualMachine>(name), labels::MACHINE)
        .await?
        .items;
    let space = optional(context.all::<Namespace>().get(name).await)?;
    let volumes = volumes(context, name, pools.is_empty() && vms.is_empty() && space.is_some()).await?;
    let remains = Remains {
        balancers: balancers.len(),
        pools: pools.len(),
        machines: vms.len(),
        volumes: volumes.len(),
        namespace: space.is_some(),
    };
    match plan_teardown(&remains, cluster.spec.volume_deletion_policy) {
        Teardown::Balancers => {
            for service in balancers.iter().filter(|s| s.metadata.deletion_timestamp.is_none()) {
                ignore_missing(apply::delete(&services, &service.name_any(), None).await)?;
            }
        }
        Teardown::Pools => {
            for pool in pools.iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
                ignore_missing(apply::delete(&context.namespaced::<MachinePool>(name), &pool.name_any(), None).await)?;
            }
        }
        Teardown::Machines => {
            for vm in vms
                .iter()
                .filter(|vm| !observe_machine(&context.observed, vm).is_going())
            {
                request_delete(context, name, &vm.name_any()).await?;
            }
        }
        Teardown::Volumes => {
            for volume in volumes {
                let request = DeleteVolumeRequest {
                    name: volume,
                    allow_missing: true,
                    force: true,
                    ..DeleteVolumeRequest::default()
                };
                context
                    .peers
                    .volumes()
                    .delete_volume(request)
                    .await
                    .map_err(Error::peer("storage"))?;
            }
        }
        Teardown::WaitForVolumes => return Ok(Outcome::Again(Duration::from_secs(10))),
        Teardown::Namespace => {
            if space.is_some_and(|space| space.metadata.deletion_timestamp.is_none()) {
                ignore_missing(apply::delete(&context.all::<Namespace>(), name, None).await)?;
            }
        }
        Teardown::Finish => {
            let bindings = context.namespaced::<RoleBinding>(labels::SYSTEM_NAMESPACE);
            ignore_missing(apply::delete(&bindings, name, None).await)?;
            let api = context.all::<Cluster>();
            ignore_missing(
                apply::remove_finalizer(&api, FieldManager::Lifecycle, name, labels::CLUSTER_FINALIZER).await,
            )?;
            tracing::info!(cluster = name, "cluster gone");
            return Ok(Outcome::Settled);
        }
    }
    Ok(Outcome::Again(STEP))
}

/// Names of the cluster's volumes, asked for only once nothing can use them any more.
async fn volumes(context: &Context, name: &str, wanted: bool) -> Result<Vec<String>, Error> {
    let Some(cluster) = ClusterName::from_object_name(name).filter(|_| wanted) else {
        return Ok(Vec::new());
    };
    let request = ListVolumesRequest {
        parent: cluster.to_string(),
        page_size: 500,
        ..ListVolumesRequest::default()
    };
    let answer = context
        .peers
        .volumes()
        .list_volumes(request)
        .await
        .map_err(Error::peer("storage"))?;
    Ok(answer
        .into_inner()
        .volumes
        .into_iter()
        .map(|volume| volume.name)
        .collect())
}
