//! The VMI controller: launcher pod, phases until a node has the guest, conditions that tell of its pod, end.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use steading_infra::{
    kubevirt::{
        VirtualMachineInstance, VirtualMachineInstanceMigration,
        virtual_machine::EvictionStrategy,
        virtual_machine_instance::{PhaseTransition, VirtualMachineInstanceStatus, VmiPhase},
    },
    labels,
};
use steading_kubesim::Key;

use super::{
    Virt, digest, is_over,
    launcher::{launcher_name, launcher_pod},
    node_of, phase, role,
    start::is_filled,
    status::{clear, mark, now, set},
};
use crate::behaviour::drive::{Again, unless_gone, unless_there};

/// What a VMI waits for before it gets a pod.
enum Wait {
    /// A claim that is not there.
    Claim(String),
    /// A claim that is not filled.
    Filling,
}

/// How long a pod that should be there and was never seen may stay unseen.
const UNSEEN: Duration = Duration::from_millis(500);

impl Virt {
    pub(super) async fn sync_vmi(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<Again> {
        let status = vmi.status.clone().unwrap_or_default();
        let over = status.phase.as_ref().is_some_and(VmiPhase::is_final);
        if vmi.metadata.deletion_timestamp.is_some() || over {
            return self.end_vmi(key, vmi).await;
        }
        let uid = vmi.uid().unwrap_or_default();
        let pods = self.pods_of(vmi);
        let home = pods.iter().flatten().find(|pod| is_home(pod, &status));
        let Some(home) = home else {
            if matches!(status.phase, None | Some(VmiPhase::Pending)) {
                return self.make_launcher(key, vmi, status).await;
            }
            // Never seen: its watch may be a little behind.
            if pods.is_none()
                && let Some(left) = self.timers.left(key, &format!("unseen {uid}"), UNSEEN)
            {
                return Ok(Some(left));
            }
            return self.fail(vmi, status).await;
        };
        match status.phase {
            Some(VmiPhase::Running | VmiPhase::Scheduled) => self.follow_up(key, vmi, home, status).await,
            _ => self.schedule(key, vmi, home, status).await,
        }
    }

    async fn make_launcher(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        mut status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        let context = &self.context;
        let wait = self.waits_for(key, vmi);
        self.tell_data_volumes(key, vmi, &mut status);
        if let Some(wait) = wait {
            let message = "virt-launcher pod has not yet been scheduled";
            set(
                context,
                &mut status.conditions,
                "Ready",
                "False",
                "PodNotExists",
                message,
            );
            match wait {
                Wait::Claim(claim) => {
                    let message = format!("PVC {}/{claim} does not exist, waiting for it to appear", key.namespace);
                    let reason = "FailedPvcNotFound";
                    set(
                        context,
                        &mut status.conditions,
                        "Synchronized",
                        "False",
                        reason,
                        &message,
                    );
                }
                Wait::Filling => clear(&mut status.conditions, "Synchronized"),
            }
            return self.save(vmi, status).await;
        }
        clear(&mut status.conditions, "Synchronized");
        let api: Api<Pod> = self.api(&key.namespace);
        let pod = launcher_pod(vmi, &launcher_name(vmi, "")).map_err(kube::Error::SerdeError)?;
        unless_there(api.create(&PostParams::default(), &pod).await)?;
        self.enter(&mut status, VmiPhase::Scheduling);
        let message = "Guest VM is not reported as running";
        set(
            context,
            &mut status.conditions,
            "Ready",
            "False",
            "GuestNotRunning",
            message,
        );
        self.save(vmi, status).await
    }

    /// What a VMI waits for before its launcher is made: its claims have to be there and filled.
    fn waits_for(&self, key: &Key, vmi: &VirtualMachineInstance) -> Option<Wait> {
        let fixed = vmi.spec.volumes.iter().filter(|volume| !volume.is_hotpluggable());
        let claims: Vec<Key> = fixed
            .filter_map(|volume| Some(Key::new(&key.namespace, volume.claim_name()?)))
            .collect();
        if let Some(missing) = claims.iter().find(|claim| self.claims.get(claim).is_none()) {
            return Some(Wait::Claim(missing.name.clone()));
        }
        let filled = |claim: &Key| self.volumes.get(claim).is_none_or(|volume| is_filled(&volume));
        (!claims.iter().all(filled)).then_some(Wait::Filling)
    }

    /// Tells whether the VMI's DataVolumes can be used, if it has any.
    fn tell_data_volumes(&self, key: &Key, vmi: &VirtualMachineInstance, status: &mut VirtualMachineInstanceStatus) {
        let names = vmi.spec.volumes.iter().filter_map(|volume| volume.data_volume.as_ref());
        let known: Vec<_> = names
            .filter_map(|volume| self.volumes.get(&Key::new(&key.namespace, &volume.name)))
            .collect();
        if known.is_empty() {
            return clear(&mut status.conditions, "DataVolumesReady");
        }
        let (said, reason, message) = if known.iter().all(|volume| is_filled(volume)) {
            ("True", "AllDVsReady", "All of the VMI's DVs are bound and ready")
        } else {
            ("False", "NotAllDVsReady", "Not all of the VMI's DVs are ready")
        };
        let context = &self.context;
        set(
            context,
            &mut status.conditions,
            "DataVolumesReady",
            said,
            reason,
            message,
        );
    }

    async fn schedule(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        mut status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        if phase(home) == "Running" {
            let node = node_of(home).unwrap_or_default().to_owned();
            clear(&mut status.conditions, "PodScheduled");
            status.active_pods = [(home.uid().unwrap_or_default(), node.clone())].into();
            status.node_name = Some(node.clone());
            status.volume_status = self.tell_volumes(key, vmi, &[], &[], &status);
            if let Some(class) = home.status.as_ref().and_then(|status| status.qos_class.clone()) {
                status.other.insert("qosClass".to_owned(), json!(class));
            }
            self.enter(&mut status, VmiPhase::Scheduled);
            let mut next = vmi.clone();
            next.labels_mut().insert(labels::KUBEVIRT_NODE_NAME.to_owned(), node);
            next.status = Some(status);
            return self.write_vmi(&next).await.map(|()| None);
        }
        let conditions = home
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        match conditions
            .iter()
            .find(|found| found.type_ == "PodScheduled" && found.status == "False")
        {
            Some(found) => {
                let (reason, message) = (
                    found.reason.clone().unwrap_or_default(),
                    found.message.clone().unwrap_or_default(),
                );
                set(
                    &self.context,
                    &mut status.conditions,
                    "PodScheduled",
                    "False",
                    &reason,
                    &message,
                );
            }
            None => clear(&mut status.conditions, "PodScheduled"),
        }
        self.save(vmi, status).await
    }

    /// A node has the VMI: tells of its pod, its volumes and its evacuation, and moves it.
    async fn follow_up(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        mut status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        self.sync_volumes(key, vmi, home, &mut status).await?;
        self.tell_node(vmi, home).await?;
        let context = &self.context;
        let conditions = &mut status.conditions;
        let mut again = None;
        if status.phase == Some(VmiPhase::Running) {
            set(context, conditions, "Ready", "True", "", "");
            again = self.sync_migration(key, vmi, home).await?;
            self.evacuate(key, vmi).await?;
        }
        if status.evacuation_node_name.is_some() {
            mark(context, conditions);
        } else {
            clear(conditions, "EvictionRequested");
        }
        let pods = self.pods_of(vmi).unwrap_or_default();
        self.tell_data_volumes(key, vmi, &mut status);
        let launchers = pods.iter().filter(|pod| role(pod) == "virt-launcher");
        status.active_pods = launchers
            .filter_map(|pod| Some((pod.uid()?, node_of(pod)?.to_owned())))
            .collect();
        self.save(vmi, status).await?;
        Ok(again)
    }

    /// Labels the launcher with the node of its VMI.
    async fn tell_node(&self, vmi: &VirtualMachineInstance, home: &Pod) -> kube::Result<()> {
        let node = vmi.labels().get(labels::KUBEVIRT_NODE_NAME);
        if home.labels().get(labels::KUBEVIRT_NODE_NAME) == node || home.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let pods: Api<Pod> = self.api(&home.namespace().unwrap_or_default());
        let patch = json!({ "metadata": { "labels": { labels::KUBEVIRT_NODE_NAME: node } } });
        let outcome = pods
            .patch(&home.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        unless_gone(outcome).map(|_| ())
    }

    /// LiveMigrate: a VMI that has to leave its node is migrated by KubeVirt itself.
    async fn evacuate(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        let status = vmi.status.clone().unwrap_or_default();
        let strategy = vmi.spec.eviction_strategy.clone();
        let leaves = status.evacuation_node_name.is_some() && status.evacuation_node_name == status.node_name;
        if !leaves
            || !matches!(
                strategy,
                Some(EvictionStrategy::LiveMigrate | EvictionStrategy::LiveMigrateIfPossible)
            )
            || self.active_migration(key).is_some()
        {
            return Ok(());
        }
        let node = status.node_name.unwrap_or_default();
        let earlier = self.migrations_of.get(key).map_or(0, |names| names.len());
        let name = format!(
            "kubevirt-evacuation-{}",
            digest(&format!("{} {node} {earlier}", vmi.uid().unwrap_or_default()))
        );
        let migration = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": { "name": name, "namespace": key.namespace, "annotations": { labels::KUBEVIRT_EVACUATION_MIGRATION: node } },
            "spec": { "vmiName": key.name },
        });
        let migration: VirtualMachineInstanceMigration =
            serde_json::from_value(migration).map_err(kube::Error::SerdeError)?;
        let api: Api<VirtualMachineInstanceMigration> = self.api(&key.namespace);
        unless_there(api.create(&PostParams::default(), &migration).await).map(|_| ())
    }

    async fn fail(
        &self,
        vmi: &VirtualMachineInstance,
        mut status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        self.enter(&mut status, VmiPhase::Failed);
        set(
            &self.context,
            &mut status.conditions,
            "Ready",
            "False",
            "PodTerminating",
            "virt-launcher pod is gone",
        );
        self.save(vmi, status).await
    }

    /// Takes the attachment pods away, of a VMI that is deleted all pods; then lets go of a VMI that is over.
    async fn end_vmi(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<Again> {
        let api: Api<Pod> = self.api(&key.namespace);
        let pods = self.pods_of(vmi).unwrap_or_default();
        let deleted = vmi.metadata.deletion_timestamp.is_some();
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            if deleted || role(pod) == "hotplug-disk" {
                unless_gone(api.delete(&pod.name_any(), &DeleteParams::default()).await)?;
            }
        }
        if !pods.is_empty() {
            return Ok(None);
        }
        let mut status = vmi.status.clone().unwrap_or_default();
        if !status.phase.as_ref().is_some_and(VmiPhase::is_final) {
            // No node had it, or the node that had it does not answer any more.
            self.enter(&mut status, VmiPhase::Failed);
            return self.save(vmi, status).await;
        }
        let owned = self.vms.get(key).is_some_and(|vm| {
            let uid = vm.uid().unwrap_or_default();
            vmi.owner_references().iter().any(|owner| owner.uid == uid)
        });
        let stays = |finalizer: &str| match finalizer {
            labels::KUBEVIRT_VMI_FINALIZER => false,
            // The VM controller takes it off once it has seen the end; without a VM nobody would.
            labels::KUBEVIRT_VM_FINALIZER => owned,
            _ => true,
        };
        let rest: Vec<&String> = vmi.finalizers().iter().filter(|found| stays(found)).collect();
        if rest.len() == vmi.finalizers().len() {
            return Ok(None);
        }
        let patch = json!({ "metadata": { "finalizers": rest, "resourceVersion": vmi.metadata.resource_version } });
        let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
        unless_gone(
            api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(None)
    }

    fn enter(&self, status: &mut VirtualMachineInstanceStatus, phase: VmiPhase) {
        status.phase_transition_timestamps.push(PhaseTransition {
            phase: phase.clone(),
            phase_transition_timestamp: now(&self.context),
        });
        status.phase = Some(phase);
    }

    /// Writes the status if it says something new.
    pub(super) async fn save(
        &self,
        vmi: &VirtualMachineInstance,
        status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        if vmi.status.as_ref() != Some(&status) {
            self.write_vmi(&VirtualMachineInstance {
                status: Some(status),
                ..vmi.clone()
            })
            .await?;
        }
        Ok(None)
    }
}

/// Whether a pod is the launcher of a VMI where it is now.
fn is_home(pod: &Pod, status: &VirtualMachineInstanceStatus) -> bool {
    let state = status.migration_state.as_ref().filter(|state| state.is_under_way());
    let is_target = state.is_some_and(|state| state.target_pod.as_deref() == Some(pod.name_any().as_str()));
    let here = match &status.node_name {
        Some(node) => node_of(pod) == Some(node.as_str()) && !is_target,
        None => !pod.labels().contains_key(labels::KUBEVIRT_MIGRATION_JOB),
    };
    here && role(pod) == "virt-launcher" && !is_over(pod)
}
