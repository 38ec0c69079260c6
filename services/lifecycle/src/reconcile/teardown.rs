//! The end of a cluster: one step of the plan at a time, each on what was just read.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource, ResourceExt, api::Preconditions};
use steading_api::storage::v1::{DeleteVolumeRequest, ListVolumesRequest};
use steading_controller::{Fresh, fresh::Deletion};
use steading_infra::{
    apply::{self, FieldManager},
    crd::{Cluster, MachinePool},
    error::{InfraError, optional},
    intent::{self, wants_deletion},
    kubevirt::VirtualMachine,
    labels,
};
use steading_model::name::ClusterName;

use super::{Outcome, project::ignore_missing};
use crate::{
    apply::{
        consent::consent_of,
        intent::request_delete,
        namespace::{self, FreshNamespace},
        status::set_condition,
    },
    context::Context,
    error::Error,
    observe::list::labelled,
    plan::{
        cluster::ISOLATION,
        evacuation::MachineKey,
        ownership::NamespaceOwnership,
        teardown::{Remainder, RemainingNamespace, Remains, TeardownPlan, TeardownStep, plan_teardown},
    },
};

/// Pause where watches tell of what happens next.
const WATCHED: Duration = Duration::from_secs(15);
/// Pause where nothing does: volumes, which storage deletes.
const POLLED: Duration = Duration::from_secs(2);
/// Pause where a person has to act.
const PEOPLE: Duration = Duration::from_secs(60);

/// What is left of the cluster, as objects.
struct Found {
    balancers: Vec<Service>,
    pools: Vec<MachinePool>,
    machines: Vec<VirtualMachine>,
    volumes: Result<Vec<String>, String>,
    namespace: FreshNamespace,
}

/// Takes a cluster down by one step. Its consent and what becomes of its volumes are read again each time: who withdraws them is heard.
///
/// # Errors
/// If the infra cluster or storage refuses or cannot be reached.
pub async fn reconcile(context: &Context, seen: &Cluster) -> Result<Outcome, Error> {
    let name = seen.name_any();
    // Another cluster of this name may have been made since.
    let read = Fresh::get(&context.all::<Cluster>(), &name).await?;
    let Some(cluster) = read.filter(|read| read.uid() == seen.uid()) else {
        return Ok(Outcome::Again(POLLED));
    };
    let found = find(context, &cluster).await?;
    let now = context.clock.now();
    let since = cluster.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    let policy = cluster.spec.volume_deletion_policy;
    let plan = plan_teardown(&remains(&found), policy, consent_of(&*cluster), since, now);
    if plan.step != TeardownStep::Finish {
        report(context, &cluster, &plan).await?;
    }
    carry_out(context, cluster, &name, plan.step, found).await
}

/// Reads what is left from the API server. In a namespace that is not the cluster's, nothing is.
async fn find(context: &Context, cluster: &Cluster) -> Result<Found, Error> {
    let name = cluster.name_any();
    let namespace = namespace::read(context, cluster).await?;
    if !namespace.ownership.is_usable() {
        return Ok(Found {
            balancers: Vec::new(),
            pools: Vec::new(),
            machines: Vec::new(),
            volumes: Ok(Vec::new()),
            namespace,
        });
    }
    let balancers = labelled(&context.namespaced::<Service>(&name), labels::LOAD_BALANCER).await?;
    let pools = labelled(&context.namespaced::<MachinePool>(&name), "").await?;
    let machines = labelled(&context.namespaced::<VirtualMachine>(&name), labels::MACHINE).await?;
    Ok(Found {
        balancers,
        pools,
        machines,
        volumes: volumes(context, &name).await,
        namespace,
    })
}

async fn volumes(context: &Context, name: &str) -> Result<Vec<String>, String> {
    let Some(cluster) = ClusterName::from_object_name(name) else {
        return Ok(Vec::new());
    };
    let request = ListVolumesRequest {
        parent: cluster.to_string(),
        page_size: 500,
        ..ListVolumesRequest::default()
    };
    let answer = context.peers.volumes().list_volumes(request).await;
    let volumes = answer
        .map_err(|status| status.message().to_owned())?
        .into_inner()
        .volumes;
    Ok(volumes.into_iter().map(|volume| volume.name).collect())
}

fn remains(found: &Found) -> Remains {
    Remains {
        balancers: found
            .balancers
            .iter()
            .map(|one| remainder("load balancer", one))
            .collect(),
        pools: found.pools.iter().map(|one| remainder("pool", one)).collect(),
        machines: found.machines.iter().map(machine).collect(),
        volumes: found.volumes.as_ref().map_err(Clone::clone).map(|volumes| {
            volumes
                .iter()
                .map(|name| Remainder {
                    kind: "volume",
                    name: name.rsplit('/').next().unwrap_or(name).to_owned(),
                    ..Remainder::default()
                })
                .collect()
        }),
        namespace: match (&found.namespace.object, found.namespace.ownership) {
            (Some(object), NamespaceOwnership::Made) => RemainingNamespace::Made(namespace_remainder(object)),
            _ => RemainingNamespace::None,
        },
    }
}

fn remainder<K: Resource>(kind: &'static str, object: &K) -> Remainder {
    let terminating = object.meta().deletion_timestamp.is_some();
    let finalizers = object.finalizers();
    let why = if terminating && !finalizers.is_empty() {
        format!("finalizers {}", finalizers.join(" "))
    } else {
        String::new()
    };
    Remainder {
        kind,
        name: object.name_any(),
        terminating,
        why,
    }
}

fn machine(vm: &VirtualMachine) -> Remainder {
    let mut found = remainder("machine", vm);
    let drained_since = vm.annotations().get(labels::DRAIN_STARTED);
    if let (false, Some(since)) = (found.terminating, drained_since) {
        found.why = format!("draining since {since}");
    }
    found
}

fn namespace_remainder(object: &Namespace) -> Remainder {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let messages = conditions
        .unwrap_or_default()
        .iter()
        .filter(|one| one.status == "True")
        .filter_map(|one| one.message.as_deref());
    Remainder {
        why: messages.collect::<Vec<_>>().join("; "),
        ..remainder("namespace", object)
    }
}

async fn report(context: &Context, cluster: &Cluster, plan: &TeardownPlan) -> Result<(), Error> {
    let before = cluster.status.clone().unwrap_or_default();
    let mut after = before.clone();
    let words = ("Deleting", "True", plan.reason, plan.message.as_str());
    let generation = cluster.metadata.generation;
    set_condition(&mut after.conditions, generation, context.clock.now(), words);
    if after == before {
        return Ok(());
    }
    let name = cluster.name_any();
    tracing::info!(cluster = %name, reason = plan.reason, message = %plan.message, "cluster is being deleted");
    let api = context.all::<Cluster>();
    ignore_missing(
        apply::apply_status(&api, FieldManager::Lifecycle, &name, &after)
            .await
            .map(drop),
    )
}

fn exactly<K: Resource>(object: &K) -> Preconditions {
    Preconditions {
        uid: object.meta().uid.clone(),
        resource_version: None,
    }
}

async fn carry_out(
    context: &Context,
    cluster: Fresh<Cluster>,
    name: &str,
    step: TeardownStep,
    found: Found,
) -> Result<Outcome, Error> {
    match step {
        TeardownStep::WaitForConsent | TeardownStep::WaitForVolumes => Ok(Outcome::Again(PEOPLE)),
        TeardownStep::WaitForStorage => Ok(Outcome::Again(POLLED)),
        TeardownStep::Balancers => {
            let api = context.namespaced::<Service>(name);
            for one in found.balancers.iter().filter(|one| is_kept(*one)) {
                gone(apply::delete(&api, &one.name_any(), Some(exactly(one))).await)?;
            }
            Ok(Outcome::Again(POLLED))
        }
        TeardownStep::Pools => {
            let api = context.namespaced::<MachinePool>(name);
            for one in found.pools.iter().filter(|one| is_kept(*one)) {
                gone(apply::delete(&api, &one.name_any(), Some(exactly(one))).await)?;
            }
            Ok(Outcome::Again(WATCHED))
        }
        TeardownStep::Machines => {
            let stays = |vm: &&VirtualMachine| is_kept(*vm) && !wants_deletion(vm.annotations());
            for vm in found.machines.iter().filter(stays) {
                let key = MachineKey {
                    namespace: name.to_owned(),
                    machine: vm.name_any(),
                };
                request_delete(context, &key, intent::CLUSTER, "its cluster is being deleted").await?;
            }
            Ok(Outcome::Again(WATCHED))
        }
        TeardownStep::Volumes => {
            for volume in found.volumes.unwrap_or_default() {
                delete_volume(context, volume).await?;
            }
            Ok(Outcome::Again(POLLED))
        }
        TeardownStep::Namespace => {
            namespace::delete(context, &cluster, found.namespace).await?;
            Ok(Outcome::Again(POLLED))
        }
        TeardownStep::Finish => finish(context, cluster, name, &found.namespace).await,
    }
}

fn is_kept<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_none()
}

/// A deletion that found nothing, or another object of that name, has nothing left to do.
fn gone(result: Result<(), InfraError>) -> Result<(), Error> {
    match result {
        Ok(()) | Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn delete_volume(context: &Context, name: String) -> Result<(), Error> {
    let request = DeleteVolumeRequest {
        name,
        allow_missing: true,
        force: true,
        ..DeleteVolumeRequest::default()
    };
    let answer = context.peers.volumes().delete_volume(request).await;
    answer.map(drop).map_err(Error::peer("storage"))
}

async fn finish(
    context: &Context,
    cluster: Fresh<Cluster>,
    name: &str,
    namespace: &FreshNamespace,
) -> Result<Outcome, Error> {
    if namespace.ownership == NamespaceOwnership::Lent {
        leave_lent(context, name).await?;
    }
    namespace::delete_binding(context, &cluster).await?;
    let api = context.all::<Cluster>();
    let manager = FieldManager::Lifecycle.as_str();
    let deletion = cluster
        .without_finalizer(&api, manager, labels::CLUSTER_FINALIZER)
        .await?;
    Ok(match deletion {
        Deletion::Accepted | Deletion::Gone => {
            tracing::info!(cluster = name, "cluster deleted");
            Outcome::Settled
        }
        Deletion::Changed => Outcome::Again(Duration::ZERO),
    })
}

/// Removes what Steading made in a namespace that stays. A kubeconfig that somebody else put there is theirs.
async fn leave_lent(context: &Context, name: &str) -> Result<(), Error> {
    let policies = context.namespaced::<NetworkPolicy>(name);
    if let Some(policy) = optional(policies.get(ISOLATION).await)?
        && is_made_here(&policy)
    {
        gone(apply::delete(&policies, ISOLATION, Some(exactly(&policy))).await)?;
    }
    let secrets = context.namespaced::<Secret>(name);
    if let Some(secret) = optional(secrets.get(labels::KUBECONFIG_SECRET).await)?
        && is_made_here(&secret)
    {
        gone(apply::delete(&secrets, labels::KUBECONFIG_SECRET, Some(exactly(&secret))).await)?;
    }
    Ok(())
}

fn is_made_here<K: Resource>(object: &K) -> bool {
    object.labels().get(labels::MANAGED_BY).map(String::as_str) == Some(labels::MANAGED_BY_STEADING)
}
