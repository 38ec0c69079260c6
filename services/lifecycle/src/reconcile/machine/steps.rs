//! The steps of a machine as requests.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use steading_controller::fresh::Deletion;
use steading_infra::{crd::machine_pool::OnDrainTimeout, intent::Action, labels};

use super::{Pass, WAIT, confirm::Confirmed, forget};
use crate::{
    apply::{
        annotation::annotate,
        detach::detach_volumes,
        event::Tone,
        evict::uncordon,
        intent::{clear, write_intent},
        machine::{delete_node, delete_vm, finish, restart},
        migration::{cancel_migration, migrate},
        token,
    },
    domain::drain::Progress,
    error::Error,
    plan::{
        drain::{DetachWait, DrainPolicy, DrainStep},
        machine::{AfterDrain, ClusterFate, MachineStep, is_ours_to_uncordon},
    },
    reconcile::{
        Outcome,
        drain::{drain, known_progress, note_progress},
    },
};

/// First pause between looks at volumes that are being detached; storage tells when it is done by a change of the VM, and this is the net below.
const DETACH: Duration = Duration::from_secs(1);
/// Pause between passes of a drain that makes progress.
const NEXT: Duration = Duration::from_millis(500);
/// How often a drained machine that stays is looked at: pods with a toleration come back.
const DRAINED: Duration = Duration::from_mins(1);
/// After this long a cluster that is being deleted asks no disruption budget: there is nowhere to go.
const TERMINATING_FORCE: Duration = Duration::from_secs(30);

impl Pass<'_> {
    pub(super) async fn carry_out(&self, step: MachineStep) -> Result<Outcome, Error> {
        let (context, namespace, name) = (self.context, self.key.namespace.as_str(), self.key.machine.as_str());
        match step {
            MachineStep::WaitForInstance | MachineStep::WaitForTenant => return Ok(Outcome::Again(WAIT)),
            MachineStep::Finish { .. } => return Box::pin(self.finish(step)).await,
            MachineStep::Drain(after) => return Box::pin(self.drain(&after)).await,
            MachineStep::DeleteVm => {
                let confirmed = self.confirm(&step).await?;
                return Box::pin(self.delete_vm(confirmed)).await;
            }
            MachineStep::Clear(keys) => {
                self.remember_restart(&keys).await?;
                clear(context, &self.key, &keys).await?;
            }
            MachineStep::CancelMigration(migration) => cancel_migration(context, &self.key, &migration).await?,
            MachineStep::Migrate {
                owner,
                attempt,
                instance,
            } => {
                let note = format!("live migration for {owner}, try {}", attempt + 1);
                context
                    .events
                    .publish(self.vm, Tone::Normal, "Migrate", "MigrationBegun", &note)
                    .await;
                migrate(context, &self.key, &owner, attempt, &instance).await?;
            }
            MachineStep::WaitToMigrate(pause) => {
                return Ok(Outcome::Again(Duration::try_from(pause).unwrap_or(WAIT).max(NEXT)));
            }
            MachineStep::NoteInstance { key, instance } => self.note_instance(&key, instance).await?,
            MachineStep::Restart { .. } => return Box::pin(self.restart(&step)).await,
            MachineStep::Uncordon => self.uncordon().await?,
            MachineStep::Maintain => {
                forget(context, namespace, name);
                return self.maintain().await;
            }
        }
        Ok(Outcome::Settled)
    }

    /// Deletes the VirtualMachine, if that was confirmed.
    async fn delete_vm(&self, confirmed: Option<Confirmed>) -> Result<Outcome, Error> {
        let Some(confirmed) = confirmed else {
            return Ok(Outcome::Again(NEXT));
        };
        Ok(match delete_vm(self.context, confirmed.vm).await? {
            Deletion::Accepted | Deletion::Gone => Outcome::Again(WAIT),
            Deletion::Changed => Outcome::Again(NEXT),
        })
    }

    /// Ends an instance, as `step` says.
    async fn restart(&self, step: &MachineStep) -> Result<Outcome, Error> {
        let confirmed = self.confirm(step).await?;
        let Some(instance) = confirmed.and_then(|confirmed| confirmed.instance) else {
            return Ok(Outcome::Again(NEXT));
        };
        Ok(match restart(self.context, instance).await? {
            Deletion::Accepted | Deletion::Gone => Outcome::Settled,
            Deletion::Changed => Outcome::Again(NEXT),
        })
    }

    /// Ends a machine whose instance is gone: the Node, the token, the secrets, the finalizer.
    async fn finish(&self, step: MachineStep) -> Result<Outcome, Error> {
        let Some(confirmed) = self.confirm(&step).await? else {
            return Ok(Outcome::Again(NEXT));
        };
        if self.tenant.is_reachable() {
            // Also if none is seen: it may have registered a moment ago.
            if !delete_node(self.tenant, &self.key.machine).await? {
                return Ok(Outcome::Again(NEXT));
            }
            token::delete(self.tenant, self.vm).await?;
        }
        Ok(match finish(self.context, confirmed.vm).await? {
            Deletion::Accepted | Deletion::Gone => Outcome::Settled,
            Deletion::Changed => Outcome::Again(NEXT),
        })
    }

    /// An intent that expires is looked at when it does.
    pub(super) fn until_expiry(&self, outcome: Outcome) -> Outcome {
        let now = self.context.clock.now();
        let ends = self.machine.intents.iter().filter_map(|intent| intent.details.until);
        let Some(first) = ends.min() else { return outcome };
        let left = first.duration_since(now).max(SignedDuration::ZERO);
        let left = Duration::try_from(left).unwrap_or_default().max(NEXT);
        match outcome {
            Outcome::Settled => Outcome::Again(left),
            Outcome::Again(pause) => Outcome::Again(pause.min(left)),
        }
    }

    async fn note_instance(&self, key: &str, instance: String) -> Result<(), Error> {
        let Some(mut intent) = self.machine.intents.iter().find(|intent| intent.key() == key).cloned() else {
            return Ok(());
        };
        intent.details.instance = Some(instance);
        intent.details.since.get_or_insert(self.context.clock.now());
        write_intent(self.context, &self.key, &intent).await
    }

    /// A request that is repeated after its restart must not restart the machine again.
    async fn remember_restart(&self, keys: &[String]) -> Result<(), Error> {
        let done = self.machine.intents.iter().filter(|one| keys.contains(&one.key()));
        let Some(request) = done
            .filter(|one| one.action == Action::Restart)
            .find_map(|one| one.details.request_id.clone())
        else {
            return Ok(());
        };
        let text = json!({"requestId": request, "time": self.context.clock.now().to_string()}).to_string();
        let (namespace, name) = (&self.key.namespace, &self.key.machine);
        annotate(self.context, namespace, name, &[(labels::LAST_RESTART, Some(text))]).await
    }

    /// Takes pods again. That the drain is over is noted only after the tenant has been told.
    async fn uncordon(&self) -> Result<(), Error> {
        let (namespace, name) = (self.key.namespace.as_str(), self.key.machine.as_str());
        if is_ours_to_uncordon(&self.machine.node) {
            let Some(client) = self.tenant.client() else {
                return Ok(());
            };
            uncordon(&client, name).await.map_err(|source| Error::Tenant {
                cluster: namespace.to_owned(),
                source,
            })?;
            tracing::info!(namespace, machine = name, "machine takes pods again");
            self.context
                .events
                .publish(
                    self.vm,
                    Tone::Normal,
                    "Uncordon",
                    "DrainUndone",
                    "the node takes pods again",
                )
                .await;
        }
        forget(self.context, namespace, name);
        let over = [(labels::DRAIN_STARTED, None), (labels::DRAIN_PROGRESS, None)];
        annotate(self.context, namespace, name, &over).await
    }

    async fn drain(&self, after: &AfterDrain) -> Result<Outcome, Error> {
        let (namespace, name) = (self.key.namespace.as_str(), self.key.machine.as_str());
        let Some(started) = self.machine.drain_started else {
            // Noted before the first cordon, so that whoever comes after us knows what there is to undo.
            let now = self.context.clock.now().to_string();
            annotate(self.context, namespace, name, &[(labels::DRAIN_STARTED, Some(now))]).await?;
            let wanted = self.machine.intents.first();
            let why = wanted.map(|one| format!("{} for {}: {}", one.action.as_str(), one.owner, one.details.reason));
            tracing::info!(namespace, machine = name, why, "drain begins");
            return Ok(Outcome::Settled);
        };
        // Patience counts from what is wanted now: a deletion does not inherit the days of a drain before it.
        let mut wanted = self
            .machine
            .intents
            .iter()
            .filter(|one| matches!(one.action, Action::Delete | Action::Relocate | Action::Drain));
        let asked = wanted.next().and_then(|intent| intent.details.since);
        let started = asked.map_or(started, |asked| asked.max(started));
        let policy = self.drain_policy(after);
        let whole = MachineStep::Drain(after.clone());
        let is_asked = async { Ok(self.confirm(&whole).await?.is_some()) };
        let step = Box::pin(drain(self.context, self.machine, &policy, started, is_asked)).await?;
        match step {
            DrainStep::Done(_) => {}
            DrainStep::Stalled {
                reason, message, again, ..
            } => {
                self.context
                    .events
                    .publish(self.vm, Tone::Warning, "Drain", reason.as_str(), &message)
                    .await;
                return Ok(Outcome::Again(again.max(NEXT)));
            }
            DrainStep::WaitPods { again, .. } | DrainStep::WaitDetach { again, .. } => {
                return Ok(Outcome::Again(again.max(NEXT)));
            }
            DrainStep::Cordon | DrainStep::Evict(_) | DrainStep::ForceDelete(_) => return Ok(Outcome::Again(NEXT)),
        }
        match after {
            AfterDrain::Stay => Ok(Outcome::Again(DRAINED)),
            AfterDrain::Restart(_) => Box::pin(self.restart(&whole)).await,
            AfterDrain::Delete => {
                let confirmed = self.confirm(&whole).await?;
                if confirmed.is_none() {
                    return Ok(Outcome::Again(NEXT));
                }
                if !detach_volumes(self.context, self.machine).await?
                    && !self.gives_up_detaching(&policy, started).await?
                {
                    return Ok(Outcome::Again(DETACH));
                }
                tracing::info!(namespace, machine = name, "machine is drained");
                Box::pin(self.delete_vm(confirmed)).await
            }
        }
    }

    /// Notes that only volumes are waited for; whether that has lasted long enough.
    async fn gives_up_detaching(&self, policy: &DrainPolicy, started: Timestamp) -> Result<bool, Error> {
        let key = (self.key.namespace.clone(), self.key.machine.clone());
        let now = self.context.clock.now();
        let since = known_progress(self.context, &key, started)
            .detaching_since
            .unwrap_or(now);
        if policy.gives_up_detaching(Some(since), now) {
            let note = "volumes are still attached; the machine is deleted, as its pool's detach timeout says";
            tracing::warn!(machine = %self.key, "{note}");
            self.context
                .events
                .publish(self.vm, Tone::Warning, "Delete", "VolumesStillAttached", note)
                .await;
            return Ok(true);
        }
        let progress = Progress {
            detaching_since: Some(since),
            ..Progress::default()
        };
        note_progress(self.context, &key.0, &key.1, started, progress).await?;
        Ok(false)
    }

    fn drain_policy(&self, after: &AfterDrain) -> DrainPolicy {
        let eviction = self.pool.map(|pool| &pool.spec.eviction);
        let seconds = |value: Option<i64>| value.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        let timeout = eviction.and_then(|e| seconds(e.drain_timeout_seconds));
        let forced = eviction.is_some_and(|e| e.on_timeout == OnDrainTimeout::Force);
        let usual = DrainPolicy::default();
        DrainPolicy {
            stall_after: timeout.filter(|_| !forced).unwrap_or(usual.stall_after),
            force_after: match self.fate {
                ClusterFate::Terminating => Some(TERMINATING_FORCE),
                ClusterFate::Stays => timeout.filter(|_| forced),
            },
            pod_grace: eviction.and_then(|e| seconds(e.pod_grace_period_seconds)),
            detach: match after {
                AfterDrain::Delete => DetachWait::Wait,
                AfterDrain::Stay | AfterDrain::Restart(_) => DetachWait::Skip,
            },
            detach_timeout: eviction.and_then(|e| seconds(e.detach_timeout_seconds)),
        }
    }
}
