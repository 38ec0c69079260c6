//! Live migration: Pending, Scheduling, Scheduled, PreparingTarget, TargetReady, Running, Succeeded.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use steading_infra::kubevirt::{
    VirtualMachineInstance, VirtualMachineInstanceMigration, condition_is_true, migration::MigrationPhase,
    virtual_machine_instance::MigrationState,
};

use super::{
    FAIL_MIGRATION, Virt,
    launcher::{launcher_name, target_pod},
    node_of, phase,
    status::{clear, now},
    vmi::interface,
};
use crate::{
    apiserver::Key,
    behaviour::drive::{Again, unless_gone, unless_there},
};

type Migration = VirtualMachineInstanceMigration;

impl Virt {
    /// The migration of a VMI that is not over; the oldest, if there are several.
    pub(super) fn active_migration(&self, key: &Key) -> Option<Arc<Migration>> {
        let names = self.migrations_of.get(key)?;
        let all = names
            .iter()
            .filter_map(|name| self.migrations.get(&Key::new(&key.namespace, name)));
        let active = all.filter(|found| !phase_of(found).is_final() && found.metadata.deletion_timestamp.is_none());
        active.min_by_key(|found| (found.creation_timestamp().map(|time| time.0), found.name_any()))
    }

    /// Brings the VMI's migration one step on.
    pub(super) async fn sync_migration(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
    ) -> kube::Result<Again> {
        let Some(migration) = self.active_migration(key) else {
            return self.abandon(key, vmi).await;
        };
        let uid = migration.uid().unwrap_or_default();
        let target_name = launcher_name(vmi, &uid);
        let target = self.pods.get(&Key::new(&key.namespace, &target_name));
        let step = |name: &str| {
            self.timers
                .left(key, &format!("migrate {uid} {name}"), self.context.pace.migration / 4)
        };
        let conditions = vmi
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        match phase_of(&migration) {
            MigrationPhase::Pending
                if migration.status.is_none() && !condition_is_true(conditions, "LiveMigratable") =>
            {
                self.tell(key, &migration, MigrationPhase::Failed).await
            }
            MigrationPhase::Pending if migration.status.is_none() => {
                self.tell(key, &migration, MigrationPhase::Pending).await
            }
            MigrationPhase::Pending => {
                let added = json!(migration.spec.added_node_selector);
                let pod = target_pod(vmi, &uid, &added).map_err(kube::Error::SerdeError)?;
                let api: Api<Pod> = self.api(&key.namespace);
                unless_there(api.create(&PostParams::default(), &pod).await)?;
                self.tell(key, &migration, MigrationPhase::Scheduling).await
            }
            MigrationPhase::Scheduling => match target {
                Some(pod) if phase(&pod) == "Running" => self.tell(key, &migration, MigrationPhase::Scheduled).await,
                _ => Ok(None),
            },
            MigrationPhase::Scheduled => {
                let Some(target) = target else {
                    return self.tell(key, &migration, MigrationPhase::Failed).await;
                };
                self.begin(vmi, home, &target, &uid).await?;
                self.tell(key, &migration, MigrationPhase::PreparingTarget).await
            }
            MigrationPhase::PreparingTarget => match step("prepare") {
                Some(left) => Ok(Some(left)),
                None => self.tell(key, &migration, MigrationPhase::TargetReady).await,
            },
            MigrationPhase::TargetReady => match step("ready") {
                Some(left) => Ok(Some(left)),
                None => self.tell(key, &migration, MigrationPhase::Running).await,
            },
            _ => match step("run").or_else(|| step("copy")) {
                Some(left) => Ok(Some(left)),
                None => self.end(key, vmi, &migration, target.as_deref()).await,
            },
        }
    }

    async fn begin(&self, vmi: &VirtualMachineInstance, home: &Pod, target: &Pod, uid: &str) -> kube::Result<()> {
        let mut status = vmi.status.clone().unwrap_or_default();
        status.migration_state = Some(MigrationState {
            migration_uid: Some(uid.to_owned()),
            source_node: status.node_name.clone(),
            target_node: node_of(target).map(str::to_owned),
            source_pod: Some(home.name_any()),
            target_pod: Some(target.name_any()),
            start_timestamp: Some(now(&self.context)),
            ..MigrationState::default()
        });
        status.active_pods.insert(
            target.uid().unwrap_or_default(),
            node_of(target).unwrap_or_default().to_owned(),
        );
        self.save(vmi, status).await.map(|_| ())
    }

    async fn end(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        migration: &Migration,
        target: Option<&Pod>,
    ) -> kube::Result<Again> {
        let mut status = vmi.status.clone().unwrap_or_default();
        let mut state = status.migration_state.take().unwrap_or_default();
        let source = state.source_pod.clone();
        state.completed = Some(true);
        state.end_timestamp = Some(now(&self.context));
        let Some(target) = target.filter(|_| !vmi.annotations().contains_key(FAIL_MIGRATION)) else {
            state.failed = Some(true);
            state.failure_reason = Some("Live migration failed: connection to the target was lost".to_owned());
            status.migration_state = Some(state);
            self.save(vmi, status).await?;
            self.remove_pod(key, target.map(ResourceExt::name_any)).await?;
            return self.tell(key, migration, MigrationPhase::Failed).await;
        };
        status.node_name = node_of(target).map(str::to_owned);
        status.active_pods = [(
            target.uid().unwrap_or_default(),
            node_of(target).unwrap_or_default().to_owned(),
        )]
        .into();
        status.interfaces = vec![interface(vmi, target)];
        status.evacuation_node_name = None;
        clear(&mut status.conditions, "EvictionRequested");
        status.migration_state = Some(state);
        self.save(vmi, status).await?;
        if let Some(source) = source {
            // The source pod ends by itself and stays.
            let api: Api<Pod> = self.api(&key.namespace);
            let ended = json!({ "status": { "phase": "Succeeded" } });
            unless_gone(
                api.patch_status(&source, &PatchParams::default(), &Patch::Merge(ended))
                    .await,
            )?;
        }
        self.tell(key, migration, MigrationPhase::Succeeded).await
    }

    /// A migration that was deleted on its way: the target goes, the VMI stays.
    async fn abandon(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<Again> {
        let mut status = vmi.status.clone().unwrap_or_default();
        let Some(state) = status.migration_state.as_mut().filter(|state| state.is_under_way()) else {
            return Ok(None);
        };
        state.completed = Some(true);
        state.failed = Some(true);
        state.failure_reason = Some("migration was aborted".to_owned());
        state.end_timestamp = Some(now(&self.context));
        let target = state.target_pod.clone();
        self.save(vmi, status).await?;
        self.remove_pod(key, target).await?;
        Ok(None)
    }

    async fn remove_pod(&self, key: &Key, name: Option<String>) -> kube::Result<()> {
        let Some(name) = name else { return Ok(()) };
        let api: Api<Pod> = self.api(&key.namespace);
        unless_gone(api.delete(&name, &DeleteParams::default()).await).map(|_| ())
    }

    async fn tell(&self, key: &Key, migration: &Migration, phase: MigrationPhase) -> kube::Result<Again> {
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
        )?;
        Ok(None)
    }
}

fn phase_of(migration: &Migration) -> MigrationPhase {
    migration
        .status
        .as_ref()
        .and_then(|status| status.phase.clone())
        .unwrap_or(MigrationPhase::Pending)
}
