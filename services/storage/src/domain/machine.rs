//! Machines as far as their disks matter: the VirtualMachine, its running instance, the infra node below.
//!
//! A volume is recognised by the *claim* behind a disk, whatever the disk is called: people plug disks by hand, and templates may
//! call theirs `vol-…`.

use std::collections::BTreeMap;

use super::{mark::disk_name, volume::Bus};

/// Most disks that fit on the bus of a machine. SCSI: one controller has 256 units, one of which is its own. Virtio: each disk is
/// a PCI device, and KubeVirt gives a guest 16 hot-plug ports at most. What a small guest has less, KubeVirt says itself.
const fn capacity(bus: Bus) -> usize {
    match bus {
        Bus::Scsi => 255,
        Bus::Virtio => 16,
    }
}

/// A virtual machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedMachine {
    /// Its uid.
    pub uid: String,
    /// Counts up with each change after which an earlier attachment must no longer take effect.
    pub fence: u64,
    /// Whether the object is being deleted: it cannot start again.
    pub deleting: bool,
    /// Whether it is being deleted or its deletion is asked for; it gets no further volumes.
    pub terminating: bool,
    /// Whether KubeVirt has acted on the present spec, as far as it says.
    pub settled: bool,
    /// Its disks by name.
    pub disks: BTreeMap<String, ObservedDisk>,
    /// What KubeVirt says against hot-plugging.
    pub refusal: Option<String>,
    /// What keeps KubeVirt from hot-plugging anything at all.
    pub obstacle: Option<Obstacle>,
}

/// A disk of a virtual machine, or a volume without a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedDisk {
    /// The claim behind it, if it has one.
    pub claim: Option<String>,
    /// Whether it carries all of our mark: only such are taken off.
    pub ours: bool,
    /// Its bus, if it is one that volumes are plugged on.
    pub bus: Option<Bus>,
}

/// Something about a machine that makes KubeVirt refuse every hot-plug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The machine's template switches hot-plugging off.
    HotplugDisabled,
    /// This disk has no bus.
    DiskWithoutBus(String),
}

impl ObservedMachine {
    /// The disk behind which the volume's claim is: its name, and whether it is ours.
    pub fn plugged(&self, volume: &str) -> Option<(&str, &ObservedDisk)> {
        let by_mark = disk_name(volume);
        let is_it = |disk: &ObservedDisk| disk.claim.as_deref() == Some(volume);
        // A disk of ours first: a claim may be plugged twice by hand.
        self.disks
            .get_key_value(&by_mark)
            .filter(|(_, disk)| is_it(disk))
            .or_else(|| self.disks.iter().find(|(_, disk)| is_it(disk)))
            .map(|(name, disk)| (name.as_str(), disk))
    }

    /// Whether another disk has the name that the volume's would get.
    pub fn has_name_taken(&self, volume: &str) -> bool {
        self.disks
            .get(&disk_name(volume))
            .is_some_and(|disk| disk.claim.as_deref() != Some(volume))
    }

    /// Whether one more disk on that bus can fit at all.
    pub fn has_port(&self, bus: Bus) -> bool {
        let present = self.disks.values().filter(|disk| disk.bus == Some(bus)).count();
        present < capacity(bus)
    }

    /// The claims behind its disks.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.disks.values().filter_map(|disk| disk.claim.as_deref())
    }
}

/// A running instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedInstance {
    /// Whether it is being migrated.
    pub migrating: bool,
    /// Whether KubeVirt has lost it from sight.
    pub unreachable: bool,
    /// The infra node that it runs on.
    pub node: Option<String>,
    /// Its disks, by name.
    pub disks: BTreeMap<String, InstanceDisk>,
}

/// A disk of a running instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceDisk {
    /// The claim behind it, if that is said.
    pub claim: Option<String>,
    /// Whether it was plugged while the instance ran.
    pub hotplugged: bool,
    /// KubeVirt's phase, such as `Bound` or `Ready`; empty if the status does not have it.
    pub phase: String,
    /// Device name at the hypervisor.
    pub target: String,
    /// KubeVirt's message.
    pub message: String,
}

impl InstanceDisk {
    /// Whether the guest has the disk.
    pub fn is_ready(&self) -> bool {
        self.phase == "Ready"
    }

    /// What a volume is found by: its claim, or the disk's name where the claim is not said.
    pub fn key<'a>(&'a self, name: &'a str) -> &'a str {
        self.claim.as_deref().unwrap_or(name)
    }
}

impl ObservedInstance {
    /// What it says of a volume.
    pub fn shown(&self, volume: &str) -> Option<&InstanceDisk> {
        let by_mark = disk_name(volume);
        let is_it = |(name, disk): &(&String, &InstanceDisk)| match &disk.claim {
            Some(claim) => claim == volume,
            // KubeVirt leaves the claim out of the last words about a disk that it takes off.
            None => disk.hotplugged && **name == by_mark,
        };
        self.disks.iter().find(is_it).map(|(_, disk)| disk)
    }
}

/// An infra node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedNode {
    /// Its zone; empty if it has none.
    pub zone: String,
    /// Whether its kubelet has stopped reporting: what runs there is out of sight.
    pub silent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_disk(claim: Option<&str>) -> ObservedDisk {
        ObservedDisk {
            claim: claim.map(str::to_owned),
            ..ObservedDisk::default()
        }
    }

    #[test]
    fn a_volume_is_recognised_by_its_claim_under_any_name() {
        let machine = ObservedMachine {
            disks: [
                ("mine".to_owned(), mk_disk(Some("data"))),
                ("vol-logs".to_owned(), mk_disk(None)),
            ]
            .into(),
            ..ObservedMachine::default()
        };
        assert_eq!(machine.plugged("data").map(|(name, _)| name), Some("mine"));
        assert!(machine.plugged("logs").is_none(), "a template's disk of that name");
        assert!(machine.has_name_taken("logs") && !machine.has_name_taken("data"));
    }

    #[test]
    fn an_instance_shows_a_volume_by_its_claim_and_by_our_name_only_when_it_was_plugged() {
        let disk = |claim: Option<&str>, hotplugged| InstanceDisk {
            claim: claim.map(str::to_owned),
            hotplugged,
            ..InstanceDisk::default()
        };
        let instance = ObservedInstance {
            disks: [
                ("mine".to_owned(), disk(Some("data"), true)),
                ("vol-logs".to_owned(), disk(None, false)),
                ("vol-left".to_owned(), disk(None, true)),
                ("vol-other".to_owned(), disk(Some("else"), true)),
            ]
            .into(),
            ..ObservedInstance::default()
        };
        let shown = |volume: &str| instance.shown(volume).is_some();
        assert!(shown("data") && shown("left") && shown("else"));
        assert!(!shown("logs") && !shown("other"));
    }

    #[test]
    fn a_bus_has_an_end() {
        let virtio = ObservedDisk {
            bus: Some(Bus::Virtio),
            ..ObservedDisk::default()
        };
        let machine = ObservedMachine {
            disks: (0..16).map(|i| (format!("d{i}"), virtio.clone())).collect(),
            ..ObservedMachine::default()
        };
        assert!(!machine.has_port(Bus::Virtio) && machine.has_port(Bus::Scsi));
    }
}
