//! Carries out a drain, one pass at a time: observe, let [`plan_drain`] decide, cordon and evict, and remember how far it is.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::Client;
use steading_infra::{error::InfraError, intent::Action, labels};

use crate::{
    apply::{
        annotation::annotate,
        evict::{cordon, evict, force_delete},
    },
    context::Context,
    domain::{
        drain::{Progress, Stall},
        machine::ObservedMachine,
    },
    error::Error,
    observe::{
        drain::{Pass, observe_drain},
        machine::stored_progress,
    },
    plan::drain::{Cordon, DrainPolicy, DrainStall, DrainStep, EvictionAttempts, ObservedDrainNode, plan_drain},
};

/// Steps of one pass: a cordon, and evictions for more pods than a node has.
const STEPS: usize = 32;

/// Brings a drain one pass further and says where it stands: waiting, stalled or done.
///
/// `started` is when the drain was asked for; `is_asked` says whether it still is, and is awaited before a pod has to go. What a
/// pass learns about refused evictions is kept in the context's memory, so that the next one can pause; how far the drain is, with
/// the machine, so that a new leader's patience begins where the last one's was.
///
/// # Errors
/// What `is_asked` says, or if the tenant refuses; one that cannot be reached is a stalled drain instead.
pub async fn drain(
    context: &Context,
    observed: &ObservedMachine,
    policy: &DrainPolicy,
    started: Timestamp,
    is_asked: impl Future<Output = Result<bool, Error>>,
) -> Result<DrainStep, Error> {
    let (namespace, machine) = (observed.namespace.as_str(), observed.name.as_str());
    let key = (namespace.to_owned(), machine.to_owned());
    let client = context.observed.tenant(namespace).and_then(|tenant| tenant.client());
    let policy = &with_escalation(policy, observed);
    let mut attempts = context.memory.lock().evictions.get(&key).cloned().unwrap_or_default();
    let before = known_progress(context, &key, started);
    let pass = Pass {
        policy,
        started,
        before: &before,
    };
    let result = match client {
        Some(client) => {
            let node = (namespace, machine);
            drain_node(&client, node, pass, &mut attempts, || context.clock.now(), is_asked).await
        }
        None => Ok(unreachable("no kubeconfig of the tenant cluster could be read yet")),
    };
    let step = match result {
        Err(Error::Tenant { source, .. }) if source.is_unknown() => unreachable(&source.to_string()),
        Err(error) => return Err(error),
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

/// An intent may have a deadline of its own.
fn with_escalation(policy: &DrainPolicy, machine: &ObservedMachine) -> DrainPolicy {
    let asked = machine.intents.iter().filter(|intent| intent.action != Action::Restart);
    let asked = asked.filter_map(|intent| intent.details.force_after_seconds.map(Duration::from_secs));
    DrainPolicy {
        force_after: policy.force_after.into_iter().chain(asked).min(),
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

/// Brings the drain of one node of one API server one pass further.
///
/// # Errors
/// What `is_asked` says, or if the API server refuses or cannot be reached.
pub async fn drain_node(
    client: &Client,
    (cluster, node): (&str, &str),
    pass: Pass<'_>,
    attempts: &mut BTreeMap<String, EvictionAttempts>,
    now: impl Fn() -> Timestamp,
    is_asked: impl Future<Output = Result<bool, Error>>,
) -> Result<DrainStep, Error> {
    let in_tenant = |source: InfraError| Error::Tenant {
        cluster: cluster.to_owned(),
        source,
    };
    let mut is_asked = Some(is_asked);
    let policy = pass.policy;
    let mut input = observe_drain(client, node, pass).await.map_err(in_tenant)?;
    // A replica that has tried nothing yet goes on with the last one's patience.
    let held_since = pass.before.held_since.filter(|_| attempts.is_empty());
    attempts.retain(|uid, _| input.pods.iter().any(|pod| &pod.uid == uid));
    for _ in 0..STEPS {
        input.attempts.clone_from(attempts);
        let step = plan_drain(&input, now());
        if matches!(step, DrainStep::Evict(_) | DrainStep::ForceDelete(_))
            && let Some(is_asked) = is_asked.take()
            && !is_asked.await?
        {
            return Ok(DrainStep::WaitPods {
                remaining: input.pods.len(),
                again: Duration::ZERO,
            });
        }
        match &step {
            DrainStep::Cordon => {
                cordon(client, node).await.map_err(in_tenant)?;
                if let ObservedDrainNode::Present { cordon, .. } = &mut input.node {
                    *cordon = Cordon::Cordoned;
                }
            }
            DrainStep::Evict(chosen) => {
                for &at in chosen {
                    evict(client, &mut input.pods[at], policy, (&mut *attempts, held_since), now())
                        .await
                        .map_err(in_tenant)?;
                }
            }
            DrainStep::ForceDelete(chosen) => {
                for &at in chosen {
                    force_delete(client, &mut input.pods[at], policy, now())
                        .await
                        .map_err(in_tenant)?;
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
