//! What has to change at one virtual machine: all of its volumes in one go.
//!
//! Promises: a volume that is wanted here is never taken off; a disk that does not carry our mark is never touched; no
//! volume is put on while another machine may still use it; nothing is changed under a migration.

use crate::{
    domain::{
        mark::{disk_name, serial},
        volume::{Bus, Stage, Volume},
    },
    observe::{Index, ObservedMachine},
};

/// A volume that is wanted on the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Id of the volume, which is the name of its claim.
    pub volume: String,
    /// Name of its disk.
    pub disk: String,
    /// Serial number of its disk.
    pub serial: String,
    /// Bus of its disk.
    pub bus: Bus,
    /// How far the volume is.
    pub stage: Stage,
    /// Another machine that may still use it.
    pub elsewhere: Option<String>,
}

/// A disk to put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Name of the disk.
    pub disk: String,
    /// Name of the DataVolume.
    pub claim: String,
    /// Serial number.
    pub serial: String,
    /// Bus: always said, as KubeVirt refuses all hot-plug of a machine with a disk that has none.
    pub bus: Bus,
}

/// Why a wanted volume is not put on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldReason {
    /// The machine is being deleted.
    MachineGoing,
    /// The machine migrates.
    MigrationInFlight,
    /// The volume is still being filled.
    Provisioning,
    /// The volume could not be made.
    Failed,
    /// Another machine may still use it.
    OnAnotherMachine,
    /// The machine has a disk of that name which is not ours.
    NameTaken,
}

/// What has to change at a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachinePlan {
    /// Disks to put on.
    pub attach: Vec<Attach>,
    /// Names of disks to take off.
    pub detach: Vec<String>,
    /// Volumes that wait, and why.
    pub held: Vec<(String, HoldReason)>,
}

impl MachinePlan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.attach.is_empty() && self.detach.is_empty()
    }

    /// How many volumes wait for this reason.
    pub fn held_for(&self, reason: HoldReason) -> usize {
        self.held.iter().filter(|(_, held)| *held == reason).count()
    }
}

/// The volumes that are wanted on a machine.
pub fn wishes(index: &Index, namespace: &str, machine: &str) -> Vec<Wish> {
    let volumes = index.volumes(namespace);
    let wanted = volumes.iter().filter(|volume| volume.wanted_on() == Some(machine));
    wanted
        .map(|volume| wish(volume, other_holder(index, volume, machine)))
        .collect()
}

/// The wish that a volume is, given who else may use it.
pub fn wish(volume: &Volume, elsewhere: Option<String>) -> Wish {
    Wish {
        volume: volume.id().to_owned(),
        disk: disk_name(volume.id()),
        serial: serial(&volume.uid),
        bus: volume.bus,
        stage: volume.stage,
        elsewhere,
    }
}

fn other_holder(index: &Index, volume: &Volume, machine: &str) -> Option<String> {
    let sites = index.sites(volume);
    sites
        .into_iter()
        .find(|site| site.machine != machine && site.holds())
        .map(|site| site.machine)
}

/// What has to change at a machine so that it has what is wanted, and nothing of ours that is not.
pub fn plan(machine: &ObservedMachine, migrating: bool, wishes: &[Wish]) -> MachinePlan {
    let mut plan = MachinePlan::default();
    for wish in wishes.iter().filter(|wish| !machine.ours.contains_key(&wish.disk)) {
        match hold(machine, migrating, wish) {
            Some(reason) => plan.held.push((wish.volume.clone(), reason)),
            None => plan.attach.push(Attach {
                disk: wish.disk.clone(),
                claim: wish.volume.clone(),
                serial: wish.serial.clone(),
                bus: wish.bus,
            }),
        }
    }
    if !migrating {
        let unwanted = machine
            .ours
            .keys()
            .filter(|disk| !wishes.iter().any(|wish| wish.disk == **disk));
        plan.detach = unwanted.cloned().collect();
    }
    plan
}

fn hold(machine: &ObservedMachine, migrating: bool, wish: &Wish) -> Option<HoldReason> {
    if machine.going {
        return Some(HoldReason::MachineGoing);
    }
    if machine.others.contains(&wish.disk) {
        return Some(HoldReason::NameTaken);
    }
    if wish.elsewhere.is_some() {
        return Some(HoldReason::OnAnotherMachine);
    }
    match wish.stage {
        Stage::Pending | Stage::Provisioning => return Some(HoldReason::Provisioning),
        Stage::Failed => return Some(HoldReason::Failed),
        Stage::Ready | Stage::WaitingForConsumer => {}
    }
    migrating.then_some(HoldReason::MigrationInFlight)
}
