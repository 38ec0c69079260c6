//! Carries out a drain: reads the tenant node, lets [`plan_drain`] decide, cordons and evicts.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    storage::v1::VolumeAttachment,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use steading_infra::{
    error::{InfraError, optional},
    labels,
};

use super::machine::annotate;
use crate::{
    context::Context,
    domain::drain::{Progress, Stall},
    error::Error,
    observe::machine::stored_progress,
    plan::drain::{
        Cordon, DrainInput, DrainPod, DrainPodKind, DrainPolicy, DrainStall, DrainStep, EvictionAttempts,
        EvictionRefusal, Kubelet, ObservedDrainNode, grace_of, plan_drain,
    },
};

/// Annotation of a mirror pod, which stands for a static pod of the kubelet.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Steps of one pass: a cordon, and evictions for more pods than a node has.
const STEPS: usize = 32;
/// Pods of a node in one answer; the default of kubelets is 110 a node.
const PODS: u32 = 500;

/// Brings a drain one pass further and says where it stands: waiting, stalled or done.
///
/// `started` is when the drain was asked for. What a pass learns about refused evictions is kept in the context's memory, so that
/// the next one can pause; how far the drain is, with the machine, so that a new leader's patience begins where the last one's was.
///
/// # Errors
/// If the tenant refuses; one that cannot be reached is a stalled drain instead.
pub async fn drain(
    context: &Context,
    namespace: &str,
    machine: &str,
    policy: &DrainPolicy,
    started: Timestamp,
) -> Result<DrainStep, Error> {
    let key = (namespace.to_owned(), machine.to_owned());
    let client = context.observed.tenant(namespace).and_then(|tenant| tenant.client());
    let policy = &with_escalation(policy, context, namespace, machine);
    let mut attempts = context.memory.lock().evictions.get(&key).cloned().unwrap_or_default();
    let before = known_progress(context, &key, started);
    let pass = Pass {
        policy,
        started,
        before: &before,
    };
    let result = match client {
        Some(client) => drain_node(&client, machine, pass, &mut attempts, || context.clock.now()).await,
        None => Ok(unreachable("no kubeconfig of the tenant cluster could be read yet")),
    };
    let step = match result {
        Err(error) if error.is_unknown() => unreachable(&error.to_string()),
        Err(source) => {
            return Err(Error::Tenant {
                cluster: namespace.to_owned(),
                source,
            });
        }
        Ok(step) => step,
    };
    let held_since = attempts.values().map(|tried| tried.first).min();
    match &step {
        DrainStep::Done(_) => {
            context.memory.lock().evictions.remove(&key);
            let done = Progress {
                detaching_since: before.detaching_since,
                written: before.written,
                ..Progress::default()
            };
            if done.written.is_some() {
                note_progress(context, namespace, machine, started, done).await?;
            } else {
                context.memory.lock().drains.insert(key, done);
            }
        }
        other => {
            let progress = progress_of(other, held_since, &before, context.clock.now());
            context.memory.lock().evictions.insert(key, attempts);
            note_progress(context, namespace, machine, started, progress).await?;
        }
    }
    Ok(step)
}

/// How far a drain is as far as this replica or the machine's object knows.
pub fn known_progress(context: &Context, key: &(String, String), started: Timestamp) -> Progress {
    let mine = context.memory.lock().drains.get(key).cloned();
    let stored = || stored_progress(context.observed.vms.get(&key.0, &key.1)?.as_ref(), started);
    mine.or_else(stored).unwrap_or_default()
}

/// Remembers how far a drain is, and writes it to the machine if that is news.
///
/// # Errors
/// If the infra cluster refuses or cannot be reached.
pub async fn note_progress(
    context: &Context,
    namespace: &str,
    machine: &str,
    started: Timestamp,
    mut progress: Progress,
) -> Result<(), Error> {
    let key = (namespace.to_owned(), machine.to_owned());
    let vm = context.observed.vms.get(namespace, machine);
    let stored = vm.as_deref().and_then(|vm| stored_progress(vm, started));
    let mine = context
        .memory
        .lock()
        .drains
        .get(&key)
        .cloned()
        .filter(|p| p.written.is_some());
    // The watch may be behind what was written a moment ago.
    let last = match (mine, stored) {
        (Some(mine), stored) if stored.as_ref().is_none_or(|stored| stored.written < mine.written) => Some(mine),
        (_, stored) => stored,
    };
    let now = context.clock.now();
    progress.written = last.as_ref().and_then(|last| last.written);
    if progress.is_news(last.as_ref(), started, now) {
        progress.written = Some(now);
        let text = serde_json::to_string(&progress).unwrap_or_default();
        annotate(context, namespace, machine, &[(labels::DRAIN_PROGRESS, Some(text))]).await?;
    }
    context.memory.lock().drains.insert(key, progress);
    Ok(())
}

/// A maintenance may have set a deadline of its own on the machine.
fn with_escalation(policy: &DrainPolicy, context: &Context, namespace: &str, machine: &str) -> DrainPolicy {
    let vm = context.observed.vms.get(namespace, machine);
    let seconds = vm
        .as_ref()
        .and_then(|vm| vm.annotations().get(labels::DRAIN_FORCE_AFTER)?.parse().ok());
    let force_after = match (policy.force_after, seconds.map(Duration::from_secs)) {
        (Some(own), Some(other)) => Some(own.min(other)),
        (own, other) => own.or(other),
    };
    DrainPolicy {
        force_after,
        ..policy.clone()
    }
}

fn unreachable(message: &str) -> DrainStep {
    DrainStep::Stalled {
        reason: DrainStall::TenantUnreachable,
        message: message.to_owned(),
        remaining: 0,
        again: Duration::from_secs(5),
    }
}

fn progress_of(step: &DrainStep, held_since: Option<Timestamp>, before: &Progress, now: Timestamp) -> Progress {
    let progress = Progress {
        held_since,
        ..Progress::default()
    };
    match step {
        DrainStep::WaitPods { remaining, .. } => Progress {
            remaining: *remaining,
            ..progress
        },
        DrainStep::Stalled {
            reason,
            message,
            remaining,
            ..
        } => Progress {
            remaining: *remaining,
            detaching_since: (*reason == DrainStall::VolumesNotDetached).then(|| before.detaching_since.unwrap_or(now)),
            stalled: Some(Stall {
                reason: reason.as_str().to_owned(),
                message: message.clone(),
            }),
            // A tenant that does not answer tells nothing new of its pods.
            held_since: held_since.or(before.held_since.filter(|_| *reason == DrainStall::TenantUnreachable)),
            ..progress
        },
        DrainStep::WaitDetach { .. } => Progress {
            detaching_since: Some(before.detaching_since.unwrap_or(now)),
            ..progress
        },
        DrainStep::Cordon | DrainStep::Evict(_) | DrainStep::ForceDelete(_) | DrainStep::Done(_) => progress,
    }
}

/// What one pass of a drain goes by.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// How patient the drain is.
    pub policy: &'a DrainPolicy,
    /// When it was asked for.
    pub started: Timestamp,
    /// How far it was.
    pub before: &'a Progress,
}

/// Brings the drain of one node of one API server one pass further.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn drain_node(
    client: &Client,
    node: &str,
    pass: Pass<'_>,
    attempts: &mut BTreeMap<String, EvictionAttempts>,
    now: impl Fn() -> Timestamp,
) -> Result<DrainStep, InfraError> {
    let policy = pass.policy;
    let mut input = observe_node(client, node, pass).await?;
    // A replica that has tried nothing yet goes on with the last one's patience.
    let held_since = pass.before.held_since.filter(|_| attempts.is_empty());
    attempts.retain(|uid, _| input.pods.iter().any(|pod| &pod.uid == uid));
    for _ in 0..STEPS {
        input.attempts.clone_from(attempts);
        let step = plan_drain(&input, now());
        match &step {
            DrainStep::Cordon => {
                set_cordon(client, node, Cordon::Cordoned).await?;
                if let ObservedDrainNode::Present { cordon, .. } = &mut input.node {
                    *cordon = Cordon::Cordoned;
                }
            }
            DrainStep::Evict(chosen) => {
                for &at in chosen {
                    evict(client, &mut input.pods[at], policy, (&mut *attempts, held_since), now()).await?;
                }
            }
            DrainStep::ForceDelete(chosen) => {
                for &at in chosen {
                    force_delete(client, &mut input.pods[at], policy, now()).await?;
                }
            }
            DrainStep::WaitPods { .. }
            | DrainStep::WaitDetach { .. }
            | DrainStep::Stalled { .. }
            | DrainStep::Done(_) => {
                return Ok(step);
            }
        }
        input.pods.retain(|pod| !pod.uid.is_empty());
    }
    Ok(DrainStep::WaitPods {
        remaining: input.pods.len(),
        again: Duration::from_secs(1),
    })
}

/// Makes a tenant node schedulable or not. One that is gone already is fine.
///
/// # Errors
/// If the API server refuses or cannot be reached.
pub async fn set_cordon(client: &Client, node: &str, cordon: Cordon) -> Result<(), InfraError> {
    let unschedulable = match cordon {
        Cordon::Cordoned => json!(true),
        Cordon::Schedulable => json!(null),
    };
    let params = PatchParams {
        field_manager: Some(labels::LIFECYCLE_MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
    optional(Api::<Node>::all(client.clone()).patch(node, &params, &patch).await).map(|_| ())
}

async fn observe_node(client: &Client, name: &str, pass: Pass<'_>) -> Result<DrainInput, InfraError> {
    let node = optional(Api::<Node>::all(client.clone()).get(name).await)?;
    let here = ListParams::default()
        .fields(&format!("spec.nodeName={name}"))
        .limit(PODS);
    let pods = Api::<Pod>::all(client.clone()).list(&here).await?;
    let attachments = match Api::<VolumeAttachment>::all(client.clone())
        .list(&ListParams::default())
        .await
    {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let attached = attachments.iter().filter(|one| one.spec.node_name == name);
    Ok(DrainInput {
        node: node.as_ref().map_or(ObservedDrainNode::Gone, observe_kubelet),
        // A server that does not know the field selector answers with all pods.
        pods: pods
            .items
            .iter()
            .filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(name))
            .map(observe_pod)
            .collect(),
        attached_volumes: attached
            .map(|one| {
                one.spec
                    .source
                    .persistent_volume_name
                    .clone()
                    .unwrap_or_else(|| one.name_any())
            })
            .collect(),
        attempts: BTreeMap::new(),
        policy: pass.policy.clone(),
        started: pass.started,
        detaching_since: pass.before.detaching_since,
    })
}

fn observe_kubelet(node: &Node) -> ObservedDrainNode {
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let away = conditions
        .iter()
        .any(|one| one.type_ == "Ready" && one.status == "Unknown");
    ObservedDrainNode::Present {
        cordon: if unschedulable {
            Cordon::Cordoned
        } else {
            Cordon::Schedulable
        },
        kubelet: if away { Kubelet::Unreachable } else { Kubelet::Reporting },
    }
}

fn observe_pod(pod: &Pod) -> DrainPod {
    let owned = pod
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let kind = if pod.annotations().contains_key(MIRROR) {
        DrainPodKind::Mirror
    } else if matches!(phase, Some("Succeeded" | "Failed")) {
        DrainPodKind::Finished
    } else if owned {
        DrainPodKind::DaemonSet
    } else {
        DrainPodKind::Ordinary
    };
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    DrainPod {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        kind,
        deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        grace: grace
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
    }
}

/// A pod that is on its way is ending; one that is gone has no uid any more.
async fn evict(
    client: &Client,
    pod: &mut DrainPod,
    policy: &DrainPolicy,
    (attempts, held_since): (&mut BTreeMap<String, EvictionAttempts>, Option<Timestamp>),
    now: Timestamp,
) -> Result<(), InfraError> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    let params = EvictParams {
        delete_options: Some(delete_params(pod, policy)),
        ..EvictParams::default()
    };
    let refusal = match api.evict(&pod.name, &params).await.map_err(InfraError::from) {
        Ok(_) => {
            attempts.remove(&pod.uid);
            mark_ending(pod, policy, now);
            return Ok(());
        }
        // Gone, or another pod of that name.
        Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => {
            attempts.remove(&pod.uid);
            pod.uid.clear();
            return Ok(());
        }
        Err(error) if matches!(error, InfraError::TimedOut(_)) => return Err(error),
        Err(InfraError::TooManyRequests { message, .. }) => (EvictionRefusal::Budget, message),
        Err(error @ InfraError::Unavailable(_)) => match unavailable_reason(&error) {
            Some(message) => (EvictionRefusal::Refused, message),
            None => return Err(error),
        },
        Err(error) => (EvictionRefusal::Refused, error.to_string()),
    };
    let tried = attempts.entry(pod.uid.clone()).or_insert_with(|| EvictionAttempts {
        refusals: 0,
        first: held_since.unwrap_or(now),
        last: now,
        message: String::new(),
        refusal: refusal.0,
    });
    tried.refusals = tried.refusals.saturating_add(1);
    (tried.last, tried.refusal, tried.message) = (now, refusal.0, refusal.1);
    Ok(())
}

/// A 500 to an eviction is an answer (the pod is in two budgets), not an absent server.
fn unavailable_reason(error: &InfraError) -> Option<String> {
    match error {
        InfraError::Unavailable(source) => match source.as_ref() {
            kube::Error::Api(status) if status.code == 500 => Some(status.message.clone()),
            _ => None,
        },
        _ => None,
    }
}

async fn force_delete(
    client: &Client,
    pod: &mut DrainPod,
    policy: &DrainPolicy,
    now: Timestamp,
) -> Result<(), InfraError> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
    tracing::warn!(namespace = %pod.namespace, pod = %pod.name, "deleting a pod that evictions could not move, as the policy says");
    match api
        .delete(&pod.name, &delete_params(pod, policy))
        .await
        .map_err(InfraError::from)
    {
        Ok(_) => mark_ending(pod, policy, now),
        Err(InfraError::NotFound(_) | InfraError::Conflict(_)) => pod.uid.clear(),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn delete_params(pod: &DrainPod, policy: &DrainPolicy) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: policy
            .pod_grace
            .map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX)),
        preconditions: Some(Preconditions {
            uid: Some(pod.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

fn mark_ending(pod: &mut DrainPod, policy: &DrainPolicy, now: Timestamp) {
    let grace = SignedDuration::try_from(grace_of(pod, policy)).unwrap_or(SignedDuration::ZERO);
    pod.deletion = Some(now.checked_add(grace).unwrap_or(now));
}
