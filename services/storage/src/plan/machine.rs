//! What has to change at one virtual machine: all of its volumes in one go.
//!
//! Promises: a volume that is wanted here is never taken off; a disk that does not carry our mark is never touched; no
//! volume is put on while another machine may still use it; nothing is changed under a migration; nothing is put on whose
//! placement record does not name this very machine.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::{
    eligibility::{Hold, HoldReason, hold},
    machine::{InstanceDisk, ObservedMachine},
    mark::{disk_name, serial},
    placement::Placement,
    site::Site,
    volume::{Bus, Source, Volume},
};

/// A machine with all volumes that are wanted, recorded or seen on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineView {
    /// The machine.
    pub site: Site,
    /// The volumes.
    pub volumes: Vec<Concerned>,
}

/// A volume that concerns a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Concerned {
    /// The volume.
    pub volume: Arc<Volume>,
    /// Another machine that may still have it.
    pub elsewhere: Option<String>,
}

/// A disk to put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Name of the disk.
    pub disk: String,
    /// The volume, which is the name of its DataVolume.
    pub claim: String,
    /// Serial number.
    pub serial: String,
    /// Bus: always said, as KubeVirt refuses all hot-plug of a machine with a disk that has none.
    pub bus: Bus,
}

/// What has to change at a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachinePlan {
    /// Disks to put on.
    pub attach: Vec<Attach>,
    /// Disks to put on, each for itself, as the machine refused them before.
    pub retry: Vec<Attach>,
    /// Names of disks to take off, with the volumes behind them.
    pub detach: Vec<Detach>,
    /// Volumes whose placement record has to be written first: those of [`Self::attach`] and [`Self::retry`] without a
    /// fitting one, and those that are on the machine already.
    pub record: Vec<String>,
    /// Volumes whose placement record names this machine, which shows no trace of them.
    pub clear: Vec<String>,
    /// Volumes that wait, and why.
    pub held: Vec<(String, Hold)>,
}

/// A disk to take off.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Detach {
    /// Name of the disk.
    pub disk: String,
    /// The volume behind it.
    pub volume: String,
}

impl MachinePlan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        !self.changes_machine() && self.record.is_empty() && self.clear.is_empty()
    }

    /// Whether the virtual machine itself has to change.
    pub fn changes_machine(&self) -> bool {
        !(self.attach.is_empty() && self.retry.is_empty() && self.detach.is_empty())
    }

    /// How many volumes wait for this reason.
    pub fn held_for(&self, reason: HoldReason) -> usize {
        self.held.iter().filter(|(_, held)| held.reason == reason).count()
    }
}

/// The placement record that a volume must have before it is put on a machine.
pub fn record_for(site: &Site) -> Option<Placement> {
    site.vm.as_ref().map(|vm| Placement {
        machine: site.machine.clone(),
        vm: vm.uid.clone(),
        fence: vm.fence,
    })
}

/// What has to change at a machine so that it has what is wanted, and nothing of ours that is not.
pub fn plan(view: &MachineView, now: Timestamp) -> MachinePlan {
    let mut plan = MachinePlan::default();
    let record = record_for(&view.site);
    for concerned in &view.volumes {
        let volume = concerned.volume.as_ref();
        if let (true, Some(vm)) = (is_wanted(volume, view), &view.site.vm) {
            plan_wanted(&mut plan, view, vm, concerned, record.as_ref(), now);
        }
        let own = volume.placement.as_ref().filter(|own| own.machine == view.site.machine);
        let superseded = |own: &Placement| view.site.vm.as_ref().is_none_or(|vm| vm.uid != own.vm);
        let clearable = own.is_some_and(|own| !is_wanted(volume, view) || superseded(own));
        if clearable && !view.site.holds(volume.id()) && !plan.record.contains(&volume.id().to_owned()) {
            plan.clear.push(volume.id().to_owned());
        }
    }
    if let Some(vm) = view.site.vm.as_ref().filter(|_| !view.site.is_migrating()) {
        plan.detach = unwanted(view, vm);
    }
    plan
}

fn is_wanted(volume: &Volume, view: &MachineView) -> bool {
    volume.wanted_on() == Some(view.site.machine.as_str())
}

fn plan_wanted(
    plan: &mut MachinePlan,
    view: &MachineView,
    vm: &ObservedMachine,
    concerned: &Concerned,
    record: Option<&Placement>,
    now: Timestamp,
) {
    let volume = concerned.volume.as_ref();
    let id = volume.id();
    if vm.plugged(id).is_some() {
        // Somebody plugged it, or it is from before there were records.
        if volume.placement.is_none() && !vm.deleting {
            plan.record.push(id.to_owned());
        }
        return;
    }
    if let Some(hold) = hold(volume, &view.site, concerned.elsewhere.as_deref(), now) {
        plan.held.push((id.to_owned(), hold));
        return;
    }
    let attach = Attach {
        disk: disk_name(id),
        claim: id.to_owned(),
        serial: serial(&volume.uid),
        bus: volume.bus,
    };
    if volume.placement.as_ref() != record {
        plan.record.push(id.to_owned());
    }
    let refused = volume.attach_refusal.as_ref();
    if refused.is_some_and(|refusal| refusal.machine == view.site.machine) {
        plan.retry.push(attach);
    } else {
        plan.attach.push(attach);
    }
}

/// Disks of ours behind which no volume is that is wanted here.
fn unwanted(view: &MachineView, vm: &ObservedMachine) -> Vec<Detach> {
    let is_unwanted = |volume: &str| {
        let known = view.volumes.iter().find(|concerned| concerned.volume.id() == volume);
        known.is_none_or(|concerned| !is_wanted(&concerned.volume, view))
    };
    let ours = vm.disks.iter().filter(|(_, disk)| disk.ours);
    ours.filter_map(|(name, disk)| {
        let volume = disk.claim.as_deref().filter(|volume| is_unwanted(volume))?;
        Some(Detach {
            disk: name.clone(),
            volume: volume.to_owned(),
        })
    })
    .collect()
}

/// Whether an earlier change of the machine has not arrived in its guest yet.
pub fn is_in_flight(site: &Site) -> bool {
    let (Some(vm), Some(instance)) = (&site.vm, &site.instance) else {
        return false;
    };
    let arriving = vm.disks.values().filter(|disk| disk.ours).any(|disk| {
        let volume = disk.claim.as_deref().unwrap_or_default();
        !instance.shown(volume).is_some_and(InstanceDisk::is_ready)
    });
    let leaving = instance
        .disks
        .iter()
        .any(|(name, disk)| disk.hotplugged && vm.plugged(disk.key(name)).is_none() && !vm.disks.contains_key(name));
    arriving || leaving
}

/// Whether volumes wait that are about to be filled, so that it pays to wait for them: empty ones take a second.
pub fn is_more_to_come(plan: &MachinePlan, view: &MachineView) -> bool {
    let filling = |id: &str| {
        let mut volumes = view.volumes.iter().map(|concerned| &concerned.volume);
        volumes.any(|volume| volume.id() == id && volume.source == Source::Blank)
    };
    plan.held
        .iter()
        .any(|(id, held)| held.reason == HoldReason::Provisioning && filling(id))
}
