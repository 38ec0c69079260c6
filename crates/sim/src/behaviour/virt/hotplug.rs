//! Declarative hot-plug.
//!
//! ```text
//! VM spec ─merge─► VMI spec ─► one attachment pod for the whole set ─► Bound ─► AttachedToNode ─► Ready
//! ```
//! Every change of the set replaces the attachment pod by one that holds all volumes. One disk without an explicit bus blocks all of the VM.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use steading_infra::kubevirt::{
    VirtualMachineInstance,
    virtual_machine::{Disk, VmiSpec, Volume},
    virtual_machine_instance::{HotplugVolume, VirtualMachineInstanceStatus, VolumePhase, VolumeStatus},
};

use super::{
    Virt,
    launcher::{attachment_name, attachment_pod},
    node_of, phase, role,
    vmi::device,
};
use crate::{
    apiserver::Key,
    behaviour::drive::{Again, unless_gone, unless_there},
};

/// What the VM's hot-pluggable volumes mean for the VMI's spec.
#[derive(Debug, PartialEq)]
pub(super) enum Merged {
    /// Nothing.
    Same,
    /// They cannot be taken over; the message of the VM's condition.
    Refused(String),
    /// This is the new spec.
    Changed(Box<VmiSpec>),
}

/// Takes the hot-pluggable volumes of a VM's template over into its VMI's spec.
pub(super) fn merge(template: &VmiSpec, vmi: &VmiSpec) -> Merged {
    let wanted: Vec<&Volume> = template
        .volumes
        .iter()
        .filter(|volume| volume.is_hotpluggable())
        .collect();
    let has: Vec<&Volume> = vmi.volumes.iter().filter(|volume| volume.is_hotpluggable()).collect();
    if wanted == has {
        return Merged::Same;
    }
    let disk_of = |name: &str| template.domain.devices.disks.iter().find(|disk| disk.name == name);
    for volume in &wanted {
        let bus = disk_of(&volume.name).and_then(Disk::bus);
        if !matches!(bus, Some("scsi" | "virtio")) {
            return Merged::Refused(format!(
                "hotplugged disk {} requires bus to be 'scsi' or 'virtio' [{}]",
                volume.name,
                bus.unwrap_or_default()
            ));
        }
    }
    let gone: BTreeSet<&str> = has.iter().map(|volume| volume.name.as_str()).collect();
    let mut next = vmi.clone();
    next.volumes.retain(|volume| !volume.is_hotpluggable());
    next.volumes.extend(wanted.iter().map(|volume| (*volume).clone()));
    next.domain
        .devices
        .disks
        .retain(|disk| !gone.contains(disk.name.as_str()));
    next.domain
        .devices
        .disks
        .extend(wanted.iter().filter_map(|volume| disk_of(&volume.name).cloned()));
    Merged::Changed(Box::new(next))
}

impl Virt {
    /// Brings attachment pod and volume states one step on; the status is written by the caller.
    pub(super) async fn sync_hotplug(
        &self,
        key: &Key,
        vmi: &VirtualMachineInstance,
        home: &Pod,
        status: &mut VirtualMachineInstanceStatus,
    ) -> kube::Result<Again> {
        let wanted: Vec<&Volume> = vmi
            .spec
            .volumes
            .iter()
            .filter(|volume| volume.is_hotpluggable())
            .collect();
        let pods = self.pods_of(vmi).unwrap_or_default();
        let attachments: Vec<_> = pods.iter().filter(|pod| role(pod) == "hotplug-disk").collect();
        let idle = wanted.is_empty()
            && attachments.is_empty()
            && status.volume_status.iter().all(|found| found.hotplug_volume.is_none());
        if idle {
            return Ok(None);
        }
        let node = status.node_name.clone().unwrap_or_default();
        let bound: Vec<&Volume> = wanted
            .iter()
            .copied()
            .filter(|volume| self.is_bound(key, volume))
            .collect();
        let claims: Vec<String> = bound
            .iter()
            .filter_map(|volume| volume.claim_name())
            .map(str::to_owned)
            .collect();
        let name = attachment_name(vmi, &node, &claims);
        let pod = attachments
            .iter()
            .find(|pod| pod.name_any() == name && pod.metadata.deletion_timestamp.is_none());
        let runs = pod.is_some_and(|pod| phase(pod) == "Running" && node_of(pod) == Some(node.as_str()));
        if pod.is_none() && !claims.is_empty() {
            let api: Api<Pod> = self.api(&key.namespace);
            let pod = attachment_pod(vmi, home, &node, &claims).map_err(kube::Error::SerdeError)?;
            unless_there(api.create(&PostParams::default(), &pod).await)?;
        }
        if runs || claims.is_empty() {
            self.drop_others(key, &attachments, &name).await?;
        }
        let holder = pod.filter(|_| runs).map(|pod| HotplugVolume {
            attach_pod_name: Some(name.clone()),
            attach_pod_uid: pod.uid(),
        });
        let mut again = None;
        for volume in &wanted {
            let left = self.bring_up(
                key,
                volume,
                bound.iter().any(|found| found.name == volume.name),
                holder.as_ref(),
                status,
            );
            again = again.into_iter().chain(left).min();
        }
        let left = self.take_down(key, &wanted, status);
        Ok(again.into_iter().chain(left).min())
    }

    fn is_bound(&self, key: &Key, volume: &Volume) -> bool {
        let Some(claim) = volume.claim_name() else { return false };
        let key = Key::new(&key.namespace, claim);
        let filled = self.volumes.get(&key).is_none_or(|volume| {
            let phase = volume
                .status
                .as_ref()
                .and_then(|status| status.phase.as_ref())
                .map(|phase| phase.as_str().to_owned());
            phase.as_deref() == Some("Succeeded")
        });
        let claim = self.claims.get(&key).and_then(|claim| claim.status.clone());
        filled && claim.and_then(|status| status.phase).as_deref() == Some("Bound")
    }

    async fn drop_others(&self, key: &Key, attachments: &[&std::sync::Arc<Pod>], name: &str) -> kube::Result<()> {
        let api: Api<Pod> = self.api(&key.namespace);
        for other in attachments
            .iter()
            .filter(|pod| pod.name_any() != name && pod.metadata.deletion_timestamp.is_none())
        {
            unless_gone(api.delete(&other.name_any(), &DeleteParams::default()).await)?;
        }
        Ok(())
    }

    /// One volume on its way to Ready.
    fn bring_up(
        &self,
        key: &Key,
        volume: &Volume,
        bound: bool,
        holder: Option<&HotplugVolume>,
        status: &mut VirtualMachineInstanceStatus,
    ) -> Again {
        let taken: BTreeSet<String> = status.volume_status.iter().map(|found| found.target.clone()).collect();
        let index = status.volume_status.iter().position(|found| found.name == volume.name);
        let mut seen = index.map_or_else(
            || VolumeStatus {
                name: volume.name.clone(),
                ..VolumeStatus::default()
            },
            |index| status.volume_status.swap_remove(index),
        );
        // One moment for all volumes of a pod: they become ready with one write.
        let step = format!(
            "plug {}",
            holder
                .and_then(|holder| holder.attach_pod_name.clone())
                .unwrap_or_default()
        );
        let ready = seen.phase == Some(VolumePhase::Ready);
        let mut again = None;
        let (phase, reason) = match (bound, holder) {
            (false, _) if !ready => (VolumePhase::Pending, "PVCNotReady"),
            (_, None) if !ready => (VolumePhase::Bound, "PVCNotReady"),
            (_, None) => (VolumePhase::Ready, "VolumeReady"),
            (_, Some(_)) if ready => (VolumePhase::Ready, "VolumeReady"),
            (_, Some(_)) => {
                again = self.timers.left(key, &step, self.context.pace.hotplug);
                match again {
                    Some(_) => (VolumePhase::AttachedToNode, "SuccessfulCreate"),
                    None => (VolumePhase::Ready, "VolumeReady"),
                }
            }
        };
        if phase == VolumePhase::Ready && seen.target.is_empty() {
            let free = (0..=taken.len())
                .map(|index| device("sd", index))
                .find(|name| !taken.contains(name));
            seen.target = free.unwrap_or_default();
        }
        seen.message = Some(match phase {
            VolumePhase::Ready => format!("Successfully attach hotplugged volume {} to VM", volume.name),
            VolumePhase::AttachedToNode => {
                "Created hotplug attachment pod, waiting for the volume to be mounted".to_owned()
            }
            _ => "PVC is in phase Pending or waits for its attachment pod".to_owned(),
        });
        seen.phase = Some(phase);
        seen.reason = Some(reason.to_owned());
        seen.hotplug_volume = Some(holder.cloned().or(seen.hotplug_volume).unwrap_or_default());
        status.volume_status.push(seen);
        status.volume_status.sort_by(|a, b| {
            a.hotplug_volume
                .is_some()
                .cmp(&b.hotplug_volume.is_some())
                .then_with(|| a.name.cmp(&b.name))
        });
        again
    }

    /// Volumes that are not wanted any more: Detaching, then gone.
    fn take_down(&self, key: &Key, wanted: &[&Volume], status: &mut VirtualMachineInstanceStatus) -> Again {
        let mut again = None;
        status.volume_status.retain_mut(|seen| {
            let stays = seen.hotplug_volume.is_none() || wanted.iter().any(|volume| volume.name == seen.name);
            if stays {
                return true;
            }
            let step = format!("unplug {}", seen.name);
            let left = self.timers.left(key, &step, self.context.pace.hotplug / 2);
            if left.is_none() {
                self.timers.reset(key, &step);
                return false;
            }
            again = again.into_iter().chain(left).min();
            seen.phase = Some(VolumePhase::Detaching);
            seen.reason = Some("VolumeDetaching".to_owned());
            true
        });
        again
    }
}

#[cfg(test)]
mod tests {
    use steading_infra::samples::{mk_disk, mk_hotplug_volume, mk_vmi_spec};

    use super::*;

    fn mk_template(names: &[&str]) -> VmiSpec {
        let mut spec = mk_vmi_spec("m");
        for name in names {
            spec.volumes.push(mk_hotplug_volume(name));
            spec.domain.devices.disks.push(mk_disk(name, Some(name)));
        }
        spec
    }

    #[test]
    fn volumes_come_and_go_with_the_template() {
        let (none, two) = (mk_template(&[]), mk_template(&["a", "b"]));
        assert_eq!(merge(&two, &none), Merged::Changed(Box::new(two.clone())));
        assert_eq!(merge(&two, &two), Merged::Same);
        assert_eq!(merge(&none, &two), Merged::Changed(Box::new(none)));
    }

    #[test]
    fn a_disk_without_a_bus_blocks_all() {
        let mut spec = mk_template(&["a", "b"]);
        spec.domain.devices.disks.last_mut().unwrap().disk.as_mut().unwrap().bus = None;
        assert!(
            matches!(merge(&spec, &mk_template(&[])), Merged::Refused(message) if message.contains("requires bus to be 'scsi' or 'virtio'"))
        );
    }
}
