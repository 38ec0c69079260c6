//! The VMI controller and the node agent: launcher pod, phases, conditions, end.

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
        virtual_machine_instance::{
            PhaseTransition, VirtualMachineInstanceStatus, VmiInterface, VmiPhase, VolumeStatus,
        },
    },
    labels,
};

use super::{
    NOT_MIGRATABLE, Virt, digest, is_over,
    launcher::{launcher_name, launcher_pod},
    node_of, phase, role,
    status::{clear, now, set},
    vm::is_migrating,
};
use crate::{
    apiserver::Key,
    behaviour::drive::{Again, unless_gone, unless_there},
};

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
        let launchers: Vec<_> = pods
            .iter()
            .flatten()
            .filter(|pod| role(pod) == "virt-launcher" && !is_over(pod))
            .collect();
        let home = launchers.iter().find(|pod| match &status.node_name {
            Some(node) => node_of(pod) == Some(node.as_str()) && !is_target(pod, &status),
            None => !pod.labels().contains_key(labels::KUBEVIRT_MIGRATION_JOB),
        });
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
            Some(VmiPhase::Running) => self.sync_running(key, vmi, home).await,
            Some(VmiPhase::Scheduled) => {
                if let Some(left) = self
                    .timers
                    .left(key, &format!("start {uid}"), self.context.pace.start_vmi)
                {
                    return Ok(Some(left));
                }
                self.run_guest(vmi, home, status).await
            }
            _ => self.schedule(vmi, home, status).await,
        }
    }

    async fn make_launcher(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        mut status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        let api: Api<Pod> = self.api(&key.namespace);
        let pod = launcher_pod(vmi, &launcher_name(vmi, "")).map_err(kube::Error::SerdeError)?;
        unless_there(api.create(&PostParams::default(), &pod).await)?;
        self.enter(&mut status, VmiPhase::Scheduling);
        let context = &self.context;
        set(
            context,
            &mut status.conditions,
            "Ready",
            "False",
            "GuestNotRunning",
            "Guest VM is not reported as running",
        );
        self.save(vmi, status).await
    }

    async fn schedule(
        &self,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        mut status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        if phase(home) == "Running" {
            clear(&mut status.conditions, "PodScheduled");
            status.node_name = node_of(home).map(str::to_owned);
            status.active_pods = [(
                home.uid().unwrap_or_default(),
                node_of(home).unwrap_or_default().to_owned(),
            )]
            .into();
            self.enter(&mut status, VmiPhase::Scheduled);
            return self.save(vmi, status).await;
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

    async fn run_guest(
        &self,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        mut status: VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        self.enter(&mut status, VmiPhase::Running);
        let context = &self.context;
        set(context, &mut status.conditions, "Ready", "True", "", "");
        set(context, &mut status.conditions, "AgentConnected", "True", "", "");
        self.set_migratable(vmi, &mut status);
        status.interfaces = vec![interface(vmi, home)];
        status.guest_os_info =
            Some(json!({ "id": "debian", "name": "Debian GNU/Linux", "version": "13", "kernelRelease": "6.12.0" }));
        let boot = vmi
            .spec
            .volumes
            .iter()
            .filter(|volume| !volume.is_hotpluggable())
            .enumerate();
        let boot = boot.map(|(index, volume)| VolumeStatus {
            name: volume.name.clone(),
            target: device("vd", index),
            ..VolumeStatus::default()
        });
        let hot = std::mem::take(&mut status.volume_status)
            .into_iter()
            .filter(|found| found.hotplug_volume.is_some());
        status.volume_status = boot.chain(hot).collect();
        self.save(vmi, status).await
    }

    async fn sync_running(&self, key: &Key, vmi: &VirtualMachineInstance, home: &Pod) -> kube::Result<Again> {
        let mut again = self.sync_migration(key, vmi, home).await?;
        if is_migrating(vmi) {
            return Ok(again);
        }
        let mut next = vmi.status.clone().unwrap_or_default();
        if next.evacuation_node_name.is_some() && next.evacuation_node_name != next.node_name {
            next.evacuation_node_name = None;
            clear(&mut next.conditions, "EvictionRequested");
        }
        if next.evacuation_node_name.is_none() {
            clear(&mut next.conditions, "EvictionRequested");
        }
        self.evacuate(key, vmi).await?;
        let after = self.sync_hotplug(key, vmi, home, &mut next).await?;
        again = again.into_iter().chain(after).min();
        self.set_migratable(vmi, &mut next);
        self.save(vmi, next).await?;
        Ok(again)
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

    /// Takes the pods away, then the finalizer.
    async fn end_vmi(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<Again> {
        let api: Api<Pod> = self.api(&key.namespace);
        let pods = self.pods_of(vmi).unwrap_or_default();
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            unless_gone(api.delete(&pod.name_any(), &DeleteParams::default()).await)?;
        }
        if !pods.is_empty() || vmi.metadata.deletion_timestamp.is_none() {
            return Ok(None);
        }
        let rest: Vec<&String> = vmi
            .finalizers()
            .iter()
            .filter(|found| *found != labels::KUBEVIRT_VMI_FINALIZER)
            .collect();
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

    fn set_migratable(&self, vmi: &VirtualMachineInstance, status: &mut VirtualMachineInstanceStatus) {
        let namespace = vmi.namespace().unwrap_or_default();
        let lonely = vmi
            .spec
            .volumes
            .iter()
            .filter_map(|volume| volume.claim_name())
            .find(|claim| {
                let claim = self.claims.get(&Key::new(&namespace, claim));
                let modes = claim.and_then(|claim| claim.spec.as_ref().and_then(|spec| spec.access_modes.clone()));
                modes.is_some_and(|modes| !modes.iter().any(|mode| mode == "ReadWriteMany"))
            });
        let context = &self.context;
        if let Some(claim) = lonely {
            let message = format!(
                "cannot migrate VMI: PVC {claim} is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)"
            );
            set(
                context,
                &mut status.conditions,
                "LiveMigratable",
                "False",
                "DisksNotLiveMigratable",
                &message,
            );
        } else if vmi.annotations().contains_key(NOT_MIGRATABLE) {
            set(
                context,
                &mut status.conditions,
                "LiveMigratable",
                "False",
                "HostDeviceNotLiveMigratable",
                "VMI uses a host device",
            );
        } else {
            set(context, &mut status.conditions, "LiveMigratable", "True", "", "");
        }
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

/// Whether a launcher pod is the target of the migration that is under way.
fn is_target(pod: &Pod, status: &VirtualMachineInstanceStatus) -> bool {
    let state = status.migration_state.as_ref().filter(|state| state.is_under_way());
    state.is_some_and(|state| state.target_pod.as_deref() == Some(pod.name_any().as_str()))
}

/// The interface as the node agent reports it: behind masquerade, the guest is reached at its pod's addresses.
pub(super) fn interface(vmi: &VirtualMachineInstance, pod: &Pod) -> VmiInterface {
    let status = pod.status.clone().unwrap_or_default();
    let digest = digest(&vmi.uid().unwrap_or_default());
    let mac = format!(
        "02:00:00:{}:{}:0{}",
        &digest.get(0..2).unwrap_or("00"),
        &digest.get(2..4).unwrap_or("00"),
        &digest.get(4..5).unwrap_or("0")
    );
    VmiInterface {
        name: Some("default".to_owned()),
        ip_address: status.pod_ip.clone(),
        ip_addresses: status.pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip).collect(),
        mac: Some(mac),
        ..VmiInterface::default()
    }
}

/// Name of the `index`th device: `sda`, …, `sdz`, `sdaa`.
pub(super) fn device(prefix: &str, index: usize) -> String {
    let letter = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap_or_default());
    match index / 26 {
        0 => format!("{prefix}{}", letter(index)),
        more => format!("{prefix}{}{}", letter(more - 1), letter(index)),
    }
}
