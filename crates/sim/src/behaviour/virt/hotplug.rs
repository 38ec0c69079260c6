//! Declarative hot-plug, and what is told of a VMI's volumes.
//!
//! ```text
//! VM spec ─merge─► VMI spec ─► one attachment pod for the whole set ─► Pending ─► Bound ─► AttachedToNode ─(virt_handler)─► Ready
//! removed ─(virt_handler)─► UnMountedFromPod ─► Detaching ─► attachment pod gone ─► gone
//! ```
//! Every change of the set replaces the attachment pod by one that holds all volumes. One disk without an explicit bus blocks all of the VM.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use steading_infra::{
    cdi::DataVolumePhase,
    kubevirt::{
        VirtualMachineInstance,
        virtual_machine::Volume,
        virtual_machine_instance::{HotplugVolume, VirtualMachineInstanceStatus, VolumePhase, VolumeStatus},
    },
};
use steading_kubesim::Key;

use super::{Virt, is_over, launcher::attachment_pod, phase, role};
use crate::behaviour::{
    drive::{unless_gone, unless_there},
    timers::controller_of,
};

/// What CDI sets aside for a file system unless it is told otherwise; KubeVirt says it of block volumes, too.
const FILESYSTEM_OVERHEAD: &str = "0.055";

/// The hot-pluggable volumes of a VMI.
pub(super) fn hotpluggable(vmi: &VirtualMachineInstance) -> Vec<&Volume> {
    vmi.spec
        .volumes
        .iter()
        .filter(|volume| volume.is_hotpluggable())
        .collect()
}

impl Virt {
    /// Brings the attachment pods beside a launcher pod one step on, and tells of the volumes; the status is written by the caller.
    pub(super) async fn sync_volumes(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        status: &mut VirtualMachineInstanceStatus,
    ) -> kube::Result<()> {
        let wanted = hotpluggable(vmi);
        let attachments = self.attachments(vmi, home);
        let ready: Vec<&Volume> = wanted
            .iter()
            .copied()
            .filter(|volume| self.is_filled(key, volume))
            .collect();
        let current = attachments
            .iter()
            .find(|pod| holds(pod, &ready) && pod.metadata.deletion_timestamp.is_none());
        let settled = attachments.len() == 1 && attachments.iter().all(|pod| holds(pod, &wanted));
        if !settled {
            let waits = attachments
                .iter()
                .any(|pod| !holds(pod, &ready) && matches!(phase(pod), "" | "Pending"));
            // virt-controller gives the pod the label of the launcher's processes, and so waits until it is told.
            let labelled = status.other.contains_key("selinuxContext");
            if labelled && current.is_none() && !waits && !ready.is_empty() {
                self.attach(key, vmi, home, &ready).await?;
            }
            for old in surplus(&attachments, &ready, &wanted, status) {
                self.detach(key, old).await?;
            }
        }
        for orphan in self.orphans(vmi) {
            self.detach(key, &orphan).await?;
        }
        status.volume_status = self.tell_volumes(key, vmi, &attachments, &ready, status);
        Ok(())
    }

    /// The attachment pods beside a launcher pod.
    pub(super) fn attachments(&self, vmi: &VirtualMachineInstance, home: &Pod) -> Vec<Arc<Pod>> {
        let mut pods = self.pods_of(vmi).unwrap_or_default();
        let name = Some(home.name_any());
        pods.retain(|pod| role(pod) == "hotplug-disk" && controller_of(pod.as_ref(), "Pod") == name);
        pods
    }

    /// Attachment pods whose launcher has ended.
    fn orphans(&self, vmi: &VirtualMachineInstance) -> Vec<Arc<Pod>> {
        let pods = self.pods_of(vmi).unwrap_or_default();
        let ended: BTreeSet<String> = pods
            .iter()
            .filter(|pod| is_over(pod))
            .map(|pod| pod.name_any())
            .collect();
        let orphan = |pod: &Arc<Pod>| controller_of(pod.as_ref(), "Pod").is_some_and(|owner| ended.contains(&owner));
        pods.iter()
            .filter(|pod| role(pod) == "hotplug-disk" && orphan(pod))
            .cloned()
            .collect()
    }

    /// Makes the attachment pod that holds just these volumes.
    pub(super) async fn attach(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        volumes: &[&Volume],
    ) -> kube::Result<()> {
        let api: Api<Pod> = self.api(&key.namespace);
        let pod = attachment_pod(vmi, home, volumes).map_err(kube::Error::SerdeError)?;
        unless_there(api.create(&PostParams::default(), &pod).await).map(|_| ())
    }

    pub(super) async fn detach(&self, key: &Key, pod: &Pod) -> kube::Result<()> {
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let api: Api<Pod> = self.api(&key.namespace);
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        unless_gone(api.delete(&pod.name_any(), &now).await).map(|_| ())
    }

    fn claim_of(&self, key: &Key, volume: &Volume) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.get(&Key::new(&key.namespace, volume.claim_name()?))
    }

    /// Whether a volume's claim is bound, and filled by its DataVolume if it has one.
    pub(super) fn is_filled(&self, key: &Key, volume: &Volume) -> bool {
        let Some(claim) = self.claim_of(key, volume) else {
            return false;
        };
        let filled = self
            .volumes
            .get(&Key::new(&key.namespace, &claim.name_any()))
            .is_none_or(|volume| {
                volume.status.as_ref().and_then(|status| status.phase.as_ref()) == Some(&DataVolumePhase::Succeeded)
            });
        filled && is_bound(&claim)
    }

    /// The states of a VMI's volumes, in the order of their names. Of those that are not wanted any more, those that a pod still holds.
    pub(super) fn tell_volumes(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        attachments: &[Arc<Pod>],
        ready: &[&Volume],
        status: &VirtualMachineInstanceStatus,
    ) -> Vec<VolumeStatus> {
        let current = attachments
            .iter()
            .find(|pod| holds(pod, ready) && pod.metadata.deletion_timestamp.is_none());
        let mut known = status.volume_status.clone();
        let mut next = Vec::new();
        for volume in &vmi.spec.volumes {
            let index = known.iter().position(|found| found.name == volume.name);
            let mut seen = index.map_or_else(
                || VolumeStatus {
                    name: volume.name.clone(),
                    ..VolumeStatus::default()
                },
                |index| known.swap_remove(index),
            );
            let claim = self.claim_of(key, volume);
            if volume.is_hotpluggable() {
                let pod = current.filter(|_| ready.iter().any(|found| found.name == volume.name));
                tell_plugged(&mut seen, pod.map(AsRef::as_ref), claim.as_deref());
            }
            if let Some(claim) = claim {
                seen.persistent_volume_claim_info = Some(info_of(&claim));
            }
            next.push(seen);
        }
        next.extend(known.into_iter().filter_map(|seen| tell_unplugged(seen, attachments)));
        next.sort_by(|a, b| a.name.cmp(&b.name));
        next
    }
}

/// Whether an attachment pod holds just these volumes.
fn holds(pod: &Pod, volumes: &[&Volume]) -> bool {
    let held: BTreeSet<&str> = held(pod).collect();
    held.len() == volumes.len() && volumes.iter().all(|volume| held.contains(volume.name.as_str()))
}

fn held(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    volumes.iter().map(|volume| volume.name.as_str())
}

/// Attachment pods that can go: not the last one that runs while the new one does not, and none that holds what is still in the guest.
fn surplus<'a>(
    attachments: &'a [Arc<Pod>],
    ready: &[&Volume],
    wanted: &[&Volume],
    status: &VirtualMachineInstanceStatus,
) -> Vec<&'a Pod> {
    let current = attachments
        .iter()
        .find(|pod| holds(pod, ready) && pod.metadata.deletion_timestamp.is_none());
    let mut keep_one = !ready.is_empty() && current.is_none_or(|pod| phase(pod) != "Running");
    let in_guest = |name: &str| {
        let seen = status.volume_status.iter().find(|found| found.name == name);
        let inside =
            seen.is_some_and(|seen| matches!(seen.phase, Some(VolumePhase::Ready | VolumePhase::MountedToPod)));
        inside && !wanted.iter().any(|volume| volume.name == name)
    };
    let mut old: Vec<&Pod> = attachments
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| !holds(pod, ready))
        .collect();
    old.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)));
    old.retain(|pod| {
        if keep_one && phase(pod) == "Running" && pod.metadata.deletion_timestamp.is_none() {
            keep_one = false;
            return false;
        }
        !held(pod).any(in_guest)
    });
    old
}

/// What is told of a hot-pluggable volume that is wanted.
fn tell_plugged(seen: &mut VolumeStatus, pod: Option<&Pod>, claim: Option<&PersistentVolumeClaim>) {
    let holder = seen.hotplug_volume.get_or_insert_default();
    let ready = seen.phase == Some(VolumePhase::Ready);
    let Some(pod) = pod else {
        if !ready {
            holder.attach_pod_uid = None;
            let (phase, reason, message) = match claim {
                None => (
                    VolumePhase::Pending,
                    "FailedPvcNotFound",
                    format!("PVC {} not found", seen.name),
                ),
                Some(claim) if is_bound(claim) => {
                    (VolumePhase::Bound, "PVCNotReady", "PVC is in phase Bound".to_owned())
                }
                Some(_) => (
                    VolumePhase::Pending,
                    "PVCNotReady",
                    "PVC is in phase ClaimPending".to_owned(),
                ),
            };
            (seen.phase, seen.reason, seen.message) = (Some(phase), Some(reason.to_owned()), Some(message));
        }
        return;
    };
    *holder = HotplugVolume {
        attach_pod_name: Some(pod.name_any()),
        attach_pod_uid: pod.uid().filter(|_| phase(pod) == "Running"),
    };
    if matches!(seen.phase, None | Some(VolumePhase::Bound | VolumePhase::Pending)) {
        let message = format!(
            "Created hotplug attachment pod {}, for volume {}",
            pod.name_any(),
            seen.name
        );
        seen.phase = Some(VolumePhase::AttachedToNode);
        (seen.reason, seen.message) = (Some("SuccessfulCreate".to_owned()), Some(message));
    }
}

/// What is told of a volume that is not wanted any more; nothing once no attachment pod holds it.
fn tell_unplugged(mut seen: VolumeStatus, attachments: &[Arc<Pod>]) -> Option<VolumeStatus> {
    seen.hotplug_volume.as_ref()?;
    let pod = attachments.iter().find(|pod| held(pod).any(|name| name == seen.name))?;
    seen.hotplug_volume = Some(HotplugVolume {
        attach_pod_name: Some(pod.name_any()),
        attach_pod_uid: pod.uid(),
    });
    if !matches!(seen.phase, Some(VolumePhase::Ready | VolumePhase::MountedToPod)) {
        seen.phase = Some(VolumePhase::Detaching);
        if pod.metadata.deletion_timestamp.is_some() {
            let message = format!(
                "Deleted hotplug attachment pod {}, for volume {}",
                pod.name_any(),
                seen.name
            );
            (seen.reason, seen.message) = (Some("SuccessfulDelete".to_owned()), Some(message));
        }
    }
    Some(seen)
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// What the node agent has to know of a claim.
fn info_of(claim: &PersistentVolumeClaim) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    let mode = spec.volume_mode.as_deref().unwrap_or("Filesystem");
    let mut info = json!({
        "claimName": claim.name_any(), "accessModes": spec.access_modes.unwrap_or_default(),
        "volumeMode": mode, "filesystemOverhead": FILESYSTEM_OVERHEAD,
    });
    let requests = spec.resources.and_then(|resources| resources.requests);
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.clone());
    for (field, amounts) in [("requests", requests), ("capacity", capacity)] {
        if let Some(amounts) = amounts {
            info[field] = json!(amounts);
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use steading_infra::samples::mk_hotplug_volume;

    use super::*;

    fn mk_pod(name: &str, volumes: &[&str], phase: &str) -> Arc<Pod> {
        let claim = |volume: &&str| json!({ "name": volume, "persistentVolumeClaim": { "claimName": volume } });
        let pod = json!({
            "metadata": { "name": name, "uid": name },
            "spec": { "containers": [], "volumes": volumes.iter().map(claim).collect::<Vec<_>>() }, "status": { "phase": phase },
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn mk_seen(name: &str, phase: VolumePhase) -> VolumeStatus {
        VolumeStatus {
            name: name.to_owned(),
            phase: Some(phase),
            hotplug_volume: Some(HotplugVolume::default()),
            ..VolumeStatus::default()
        }
    }

    #[test]
    fn an_old_attachment_pod_goes_when_the_new_one_runs_and_the_guest_has_let_go() {
        let (a, b) = (mk_hotplug_volume("a"), mk_hotplug_volume("b"));
        let mut status = VirtualMachineInstanceStatus {
            volume_status: vec![mk_seen("a", VolumePhase::Ready)],
            ..VirtualMachineInstanceStatus::default()
        };
        let names = |pods: &[Arc<Pod>], ready: &[&Volume], status: &VirtualMachineInstanceStatus| {
            let found = surplus(pods, ready, ready, status);
            found.iter().map(|pod| pod.name_any()).collect::<Vec<_>>()
        };
        let grows = [mk_pod("old", &["a"], "Running"), mk_pod("new", &["a", "b"], "Pending")];
        assert!(names(&grows, &[&a, &b], &status).is_empty());
        let grown = [mk_pod("old", &["a"], "Running"), mk_pod("new", &["a", "b"], "Running")];
        assert_eq!(names(&grown, &[&a, &b], &status), ["old"]);
        let last = [mk_pod("old", &["a"], "Running")];
        assert!(names(&last, &[], &status).is_empty(), "the guest still has it");
        status.volume_status = vec![mk_seen("a", VolumePhase::UnMountedFromPod)];
        assert_eq!(names(&last, &[], &status), ["old"]);
    }

    #[test]
    fn a_volume_is_told_of_until_no_pod_holds_it() {
        let pods = [mk_pod("hp", &["a"], "Running")];
        let told = |phase| tell_unplugged(mk_seen("a", phase), &pods).unwrap().phase;
        assert_eq!(told(VolumePhase::Ready), Some(VolumePhase::Ready));
        assert_eq!(told(VolumePhase::UnMountedFromPod), Some(VolumePhase::Detaching));
        assert!(tell_unplugged(mk_seen("a", VolumePhase::Detaching), &[]).is_none());
    }
}
