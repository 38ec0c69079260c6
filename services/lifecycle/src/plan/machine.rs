//! What is done about one machine next: the only place that decides to drain, move, restart or delete it.
//!
//! Everybody else (pools, maintenances, the API, kubectl) writes intents on its VirtualMachine, see `steading_infra::intent`. The strongest
//! one is carried out; when it is revoked, the machine returns to where it was.
//!
//! ```text
//! VM terminating ──► wait until the instance is gone ──► delete Node ──► delete secrets ──► finalizer off
//! force-delete   ──► delete VM
//! delete         ──► drain ──► detach volumes ──► delete VM
//! done, expired  ──► remove the intent
//! nobody wants the migration ──► cancel it        nobody wants the cordon ──► uncordon, if it is ours
//! relocate       ──► drain ──► end the instance; KubeVirt boots another one elsewhere
//! migrate        ──► create a migration; again after a pause if it failed
//! restart        ──► (drain, if a drain is wanted too) ──► end the instance
//! drain          ──► drain, the machine stays
//! otherwise      ──► fill in the Node, remove its token
//! ```

use jiff::{SignedDuration, Timestamp};
use steading_infra::intent::{Action, Intent};

use crate::domain::machine::{DeleteMode, MigrationState, NodeCordon, ObservedInstance, ObservedMachine, ObservedNode};

#[cfg(test)]
mod tests;

/// Pause before a failed migration is tried again, times the failures so far. Mostly the target had filled up; the next scheduling decision
/// needs fresh node state.
const MIGRATION_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// Whether the whole cluster is being deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterFate {
    /// It stays.
    Stays,
    /// It is being deleted, so that its nodes need not be deleted one by one.
    Terminating,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineStep {
    /// Wait until KubeVirt has ended the instance.
    WaitForInstance,
    /// The Node cannot be deleted because the tenant does not answer; wait for it.
    WaitForTenant,
    /// Delete the tenant Node, the secrets, then take the finalizer off.
    Finish {
        /// Whether there is a Node to delete.
        delete_node: bool,
    },
    /// Continue the drain; what follows when it is done.
    Drain(AfterDrain),
    /// Delete the VM.
    DeleteVm,
    /// Remove intents that are done or have expired, by their keys.
    Clear(Vec<String>),
    /// Nobody wants this migration of ours any longer: delete it, which makes KubeVirt abort it.
    CancelMigration(String),
    /// Begin a live migration.
    Migrate {
        /// Owner of the intent.
        owner: String,
        /// Which try of this instance, from 0.
        attempt: usize,
        /// Uid of the instance.
        instance: String,
    },
    /// A migration is wanted and cannot begin yet.
    WaitToMigrate(SignedDuration),
    /// Note in the intent which instance a restart ends, so that it ends just that one.
    NoteInstance {
        /// Key of the intent.
        key: String,
        /// Uid of the instance.
        instance: String,
    },
    /// End the instance so that KubeVirt makes another one.
    Restart {
        /// Its uid.
        instance: String,
    },
    /// Nobody wants the cordon any longer: take new pods again if it is ours, then forget the drain.
    Uncordon,
    /// Keep the Node as it should be.
    Maintain,
}

/// What follows a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterDrain {
    /// Volumes are detached and the VM deleted.
    Delete,
    /// The instance of this uid is ended.
    Restart(String),
    /// Nothing.
    Stay,
}

/// Decides the next step of a machine.
pub fn plan_machine(machine: &ObservedMachine, fate: ClusterFate, now: Timestamp) -> MachineStep {
    if machine.vm_terminating {
        return plan_end(machine, fate);
    }
    match machine.delete() {
        Some(DeleteMode::Force) => return MachineStep::DeleteVm,
        Some(DeleteMode::Drain) => {
            return match (&machine.node, fate) {
                (ObservedNode::Unknown, ClusterFate::Terminating) => MachineStep::DeleteVm,
                _ => MachineStep::Drain(AfterDrain::Delete),
            };
        }
        None => {}
    }
    let over = finished(machine);
    if !over.is_empty() {
        return MachineStep::Clear(over);
    }
    if let Some(migration) = unwanted_migration(machine) {
        return MachineStep::CancelMigration(migration);
    }
    // A tenant that does not answer keeps the cordon, and we keep knowing of it.
    if machine.drain_started.is_some() && !machine.wants_cordon() && machine.node != ObservedNode::Unknown {
        return MachineStep::Uncordon;
    }
    plan_intents(machine, now)
}

fn plan_end(machine: &ObservedMachine, fate: ClusterFate) -> MachineStep {
    if machine.instance.is_some() {
        return MachineStep::WaitForInstance;
    }
    match (&machine.node, fate) {
        (ObservedNode::Present { .. }, _) => MachineStep::Finish { delete_node: true },
        (ObservedNode::Absent, _) | (ObservedNode::Unknown, ClusterFate::Terminating) => {
            MachineStep::Finish { delete_node: false }
        }
        (ObservedNode::Unknown, ClusterFate::Stays) => MachineStep::WaitForTenant,
    }
}

fn plan_intents(machine: &ObservedMachine, now: Timestamp) -> MachineStep {
    let instance = machine.instance.as_ref().filter(|instance| !instance.terminating);
    if let (Some(_), Some(instance)) = (machine.intent(Action::Relocate), instance) {
        let uid = instance.uid.clone();
        // Before its guest runs there is nothing to drain.
        return if instance.may_run() {
            MachineStep::Drain(AfterDrain::Restart(uid))
        } else {
            MachineStep::Restart { instance: uid }
        };
    }
    if let (Some(intent), Some(instance)) = (machine.intent(Action::Migrate), instance) {
        return plan_migration(machine, intent, instance, now);
    }
    if let Some(instance) = instance.filter(|instance| machine.wants(Action::Restart) && !instance.migrating) {
        let uid = instance.uid.clone();
        // One boot is enough for all who asked.
        let mut restarts = machine.intents.iter().filter(|one| one.action == Action::Restart);
        if let Some(intent) = restarts.find(|one| one.details.instance.is_none()) {
            let key = intent.key();
            return MachineStep::NoteInstance { key, instance: uid };
        }
        return if machine.wants(Action::Drain) && instance.may_run() {
            MachineStep::Drain(AfterDrain::Restart(uid))
        } else {
            MachineStep::Restart { instance: uid }
        };
    }
    if machine.wants(Action::Drain) {
        return MachineStep::Drain(AfterDrain::Stay);
    }
    MachineStep::Maintain
}

fn plan_migration(
    machine: &ObservedMachine,
    intent: &Intent,
    instance: &ObservedInstance,
    now: Timestamp,
) -> MachineStep {
    if machine.is_migrating() {
        return MachineStep::Maintain;
    }
    if !instance.hotplug_settled || !instance.migratable {
        return MachineStep::WaitToMigrate(MIGRATION_PAUSE);
    }
    let since = intent.details.since.unwrap_or(Timestamp::UNIX_EPOCH);
    let failed = machine.migrations.iter().filter(|one| {
        one.state == MigrationState::Failed && one.owner.as_deref() == Some(&intent.owner) && one.created >= since
    });
    let (mut failures, mut last) = (0_i32, None);
    for one in failed {
        failures = failures.saturating_add(1);
        last = last.max(Some(one.created));
    }
    if let Some(last) = last {
        let pause = MIGRATION_PAUSE.saturating_mul(failures);
        let left = pause - now.duration_since(last);
        if left > SignedDuration::ZERO {
            return MachineStep::WaitToMigrate(left);
        }
    }
    MachineStep::Migrate {
        owner: intent.owner.clone(),
        attempt: usize::try_from(failures).unwrap_or_default(),
        instance: instance.uid.clone(),
    }
}

/// Intents that have come true or have expired, by their keys.
fn finished(machine: &ObservedMachine) -> Vec<String> {
    let is_done = |intent: &&Intent| {
        let Some(instance) = machine.instance.as_ref().filter(|instance| !instance.terminating) else {
            return false;
        };
        match intent.action {
            Action::Relocate | Action::Migrate => {
                let left = instance.infra_node.is_some() && instance.infra_node != intent.details.infra_node;
                left && instance.phase == "Running" && !instance.migrating
            }
            Action::Restart => intent.details.instance.as_ref().is_some_and(|uid| *uid != instance.uid),
            Action::ForceDelete | Action::Delete | Action::Drain | Action::Replace => false,
        }
    };
    let mut keys = machine.expired.clone();
    keys.extend(machine.intents.iter().filter(is_done).map(Intent::key));
    keys
}

/// A migration of ours whose intent was revoked.
fn unwanted_migration(machine: &ObservedMachine) -> Option<String> {
    let active = machine.active_migration()?;
    let owner = active.owner.as_ref()?;
    let wanted = machine
        .intents
        .iter()
        .any(|intent| intent.action == Action::Migrate && intent.owner == *owner);
    (!wanted).then(|| active.name.clone())
}

/// Whether uncordoning would undo what Steading did, and not somebody else's cordon.
pub fn is_ours_to_uncordon(node: &ObservedNode) -> bool {
    match node {
        ObservedNode::Present { cordon, .. } => *cordon == NodeCordon::Ours,
        ObservedNode::Unknown | ObservedNode::Absent => false,
    }
}
