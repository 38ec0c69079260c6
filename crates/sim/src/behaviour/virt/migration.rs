//! The migration controller: Pending, Scheduling, Scheduled, PreparingTarget, TargetReady, Running, Succeeded.
//!
//! Up to Scheduled it makes the target pod and hands it over; from then on it reports what `virt_handler` writes into the VMI's status.

mod steps;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use steading_infra::kubevirt::{
    VirtualMachineInstance, VirtualMachineInstanceMigration, condition_is_true,
    migration::MigrationPhase,
    virtual_machine_instance::{MigrationState, VmiPhase},
};
use steading_kubesim::Key;

use self::steps::{Next, Seen, Target};
use super::{
    Virt,
    admission::MIGRATION_FINALIZER,
    hotplug::hotpluggable,
    launcher::{launcher_name, target_pod},
    node_of, phase,
};
use crate::behaviour::drive::{Again, unless_gone, unless_there};

/// How long a target pod that was made may stay unseen: its watch may be a little behind.
const UNSEEN: Duration = Duration::from_millis(500);
/// Label of a VMI: the node at which a target pod waits for it.
const TARGET_NODE: &str = "kubevirt.io/migrationTargetNodeName";

type Migration = VirtualMachineInstanceMigration;

impl Virt {
    fn migrations(&self, key: &Key) -> Vec<Arc<Migration>> {
        let names = self.migrations_of.get(key).unwrap_or_default();
        let all = names
            .iter()
            .filter_map(|name| self.migrations.get(&Key::new(&key.namespace, name)));
        all.collect()
    }

    /// The migration of a VMI that is not over; the oldest, if there are several.
    pub(super) fn active_migration(&self, key: &Key) -> Option<Arc<Migration>> {
        let all = self.migrations(key);
        let active = all.into_iter().filter(|found| !phase_of(found).is_final());
        active.min_by_key(|found| (found.creation_timestamp().map(|time| time.0), found.name_any()))
    }

    /// Ends migrations whose VMI has ended, and lets go of those that are over.
    pub(super) async fn tidy_migrations(&self, key: &Key, vmi: Option<&VirtualMachineInstance>) -> kube::Result<()> {
        let ended = vmi.is_none_or(|vmi| {
            let phase = vmi.status.as_ref().and_then(|status| status.phase.as_ref());
            phase.is_some_and(VmiPhase::is_final)
        });
        for migration in self.migrations(key) {
            if phase_of(&migration).is_final() || vmi.is_none() {
                self.release(key, &migration).await?;
            } else if ended {
                self.tell(key, &migration, MigrationPhase::Failed).await?;
            }
            if vmi.is_none() && migration.metadata.deletion_timestamp.is_none() {
                let api: Api<Migration> = self.api(&key.namespace);
                unless_gone(api.delete(&migration.name_any(), &DeleteParams::default()).await)?;
            }
        }
        Ok(())
    }

    async fn release(&self, key: &Key, migration: &Migration) -> kube::Result<()> {
        let finalizers = migration.finalizers();
        let rest: Vec<&String> = finalizers
            .iter()
            .filter(|found| *found != MIGRATION_FINALIZER)
            .collect();
        if rest.len() == finalizers.len() {
            return Ok(());
        }
        let patch =
            json!({ "metadata": { "finalizers": rest, "resourceVersion": migration.metadata.resource_version } });
        let api: Api<Migration> = self.api(&key.namespace);
        unless_gone(
            api.patch(&migration.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
        .map(|_| ())
    }

    /// Brings the VMI's migration one step on.
    pub(super) async fn sync_migration(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
    ) -> kube::Result<Again> {
        let Some(migration) = self.active_migration(key) else {
            return Ok(None);
        };
        let uid = migration.uid().unwrap_or_default();
        let target = self.pods.get(&Key::new(&key.namespace, &launcher_name(vmi, &uid)));
        if target.is_none()
            && phase_of(&migration) != MigrationPhase::Pending
            && let Some(left) = self.timers.left(key, &format!("target {uid}"), UNSEEN)
        {
            return Ok(Some(left));
        }
        let attachment = target
            .as_ref()
            .and_then(|target| self.attachments(vmi, target).into_iter().next());
        let plugs = !hotpluggable(vmi).is_empty();
        let seen = Seen {
            phase: phase_of(&migration),
            fresh: migration.status.as_ref().is_none_or(|status| status.phase.is_none()),
            canceled: migration.metadata.deletion_timestamp.is_some(),
            migratable: condition_is_true(&vmi.status.clone().unwrap_or_default().conditions, "LiveMigratable"),
            target: target.as_deref().map(Target::of),
            attached: !plugs || attachment.as_deref().is_some_and(|pod| phase(pod) == "Running"),
            attaching: !plugs || attachment.is_some(),
            state: state_of(vmi, &uid),
        };
        let parts = Parts {
            migration,
            target,
            attachment,
        };
        self.act(seen.next(), key, vmi, home, &parts).await?;
        Ok(None)
    }

    async fn act(
        &self,
        next: Next,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        parts: &Parts,
    ) -> kube::Result<()> {
        let Parts {
            migration,
            target,
            attachment,
        } = parts;
        let uid = migration.uid().unwrap_or_default();
        let plugged = hotpluggable(vmi);
        match next {
            Next::Wait => Ok(()),
            Next::Tell(phase) => self.tell(key, migration, phase).await,
            Next::MakeTarget => {
                let pod = target_pod(vmi, migration).map_err(kube::Error::SerdeError)?;
                let api: Api<Pod> = self.api(&key.namespace);
                unless_there(api.create(&PostParams::default(), &pod).await)?;
                if plugged.is_empty() {
                    self.tell(key, migration, MigrationPhase::Scheduling).await
                } else {
                    Ok(())
                }
            }
            Next::Attach => match target {
                Some(target) => self.attach(key, vmi, target, &plugged).await,
                None => Ok(()),
            },
            Next::HandOver => {
                let Some(target) = target else { return Ok(()) };
                self.hand_over(vmi, home, target, attachment.as_deref(), &uid).await?;
                self.tell(key, migration, MigrationPhase::PreparingTarget).await
            }
            Next::CallOff => {
                if let Some(target) = target {
                    let api: Api<Pod> = self.api(&key.namespace);
                    unless_gone(api.delete(&target.name_any(), &DeleteParams::default()).await)?;
                }
                self.tell(key, migration, MigrationPhase::Failed).await
            }
            Next::Abort => {
                let mut next = vmi.clone();
                if let Some(state) = next.status.as_mut().and_then(|status| status.migration_state.as_mut()) {
                    state.other.insert("abortRequested".to_owned(), json!(true));
                }
                self.write_vmi(&next).await
            }
        }
    }

    async fn hand_over(
        &self,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        target: &Pod,
        attachment: Option<&Pod>,
        uid: &str,
    ) -> kube::Result<()> {
        let node = node_of(target).unwrap_or_default().to_owned();
        let mut next = vmi.clone();
        next.labels_mut().insert(TARGET_NODE.to_owned(), node.clone());
        let status = next.status.get_or_insert_default();
        let mut state = MigrationState {
            migration_uid: Some(uid.to_owned()),
            source_node: status.node_name.clone(),
            target_node: Some(node),
            source_pod: Some(home.name_any()),
            target_pod: Some(target.name_any()),
            ..MigrationState::default()
        };
        if let Some(uid) = attachment.and_then(ResourceExt::uid) {
            state.other.insert("targetAttachmentPodUID".to_owned(), json!(uid));
        }
        status.migration_state = Some(state);
        self.write_vmi(&next).await
    }

    async fn tell(&self, key: &Key, migration: &Migration, phase: MigrationPhase) -> kube::Result<()> {
        let mut next = migration.clone();
        let status = next.status.get_or_insert_default();
        let moment = self.context.stamp();
        status
            .phase_transition_timestamps
            .push(json!({ "phase": phase, "phaseTransitionTimestamp": moment }));
        if phase.is_final() {
            status.migration_state = self.vmis.get(key).and_then(|vmi| vmi.status.clone()?.migration_state);
        }
        status.phase = Some(phase);
        let api: Api<Migration> = self.api(&key.namespace);
        unless_gone(
            api.replace_status(&migration.name_any(), &PostParams::default(), &next)
                .await,
        )
        .map(|_| ())
    }
}

/// A migration with its pods.
struct Parts {
    migration: Arc<Migration>,
    target: Option<Arc<Pod>>,
    /// Holds the plugged volumes beside the target.
    attachment: Option<Arc<Pod>>,
}

/// The state of this very migration, as it stands in its VMI.
fn state_of(vmi: &VirtualMachineInstance, uid: &str) -> Option<MigrationState> {
    let state = vmi.status.clone()?.migration_state?;
    Some(state).filter(|state| state.migration_uid.as_deref() == Some(uid))
}

fn phase_of(migration: &Migration) -> MigrationPhase {
    migration
        .status
        .as_ref()
        .and_then(|status| status.phase.clone())
        .unwrap_or(MigrationPhase::Pending)
}
