//! From a VM's hot-pluggable volumes to its VMI's.

use std::collections::BTreeSet;

use steading_infra::kubevirt::virtual_machine::{Disk, VmiSpec, Volume};

/// Who refuses a VMI's disks.
const WEBHOOK: &str = "virtualmachineinstances-update-validator.kubevirt.io";

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
                "admission webhook \"{WEBHOOK}\" denied the request: Hotplug configuration for disk [{}] requires bus to be 'scsi' or \
                 'virtio'. [{}] is not permitted.",
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
