//! When a volume counts as attached. The one place that decides it.
//!
//! A volume is *attached* only if the virtual machine has the disk **and** its running instance reports it ready. It is
//! *detached* only if no virtual machine and no instance shows it; what cannot be seen is *unknown*, never detached.

use super::{
    mark::disk_name,
    volume::{Stage, Volume},
};

/// What a running instance says of a hot-plugged volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskStatus {
    /// KubeVirt's phase, such as `Bound` or `Ready`.
    pub phase: String,
    /// Device name at the hypervisor.
    pub target: String,
    /// KubeVirt's message.
    pub message: String,
}

impl DiskStatus {
    /// Whether the guest has the disk.
    pub fn is_ready(&self) -> bool {
        self.phase == "Ready"
    }
}

/// One machine on which a volume is seen or wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Id of the machine.
    pub machine: String,
    /// The virtual machine, if there is one.
    pub vm: Option<SiteVm>,
    /// The running instance, if there is one.
    pub instance: Option<SiteInstance>,
}

/// The virtual machine of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteVm {
    /// Whether its lists have the disk, with our mark.
    pub has_disk: bool,
    /// Whether the object is being deleted: it cannot start again.
    pub deleting: bool,
    /// Whether it is being deleted or is asked to go; it gets no further volumes.
    pub going: bool,
    /// What KubeVirt says against hot-plugging, if it does.
    pub refusal: Option<String>,
}

/// The running instance of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteInstance {
    /// What it says of the disk; `None` if it does not have it.
    pub disk: Option<DiskStatus>,
    /// Whether its node has lost it from sight.
    pub unreachable: bool,
    /// Whether it is being migrated.
    pub migrating: bool,
}

impl Site {
    /// Whether the volume may still be in use here. A machine that is being deleted and has no
    /// instance any more cannot start again.
    pub fn holds(&self) -> bool {
        let in_spec = self
            .vm
            .as_ref()
            .is_some_and(|vm| vm.has_disk && !(vm.deleting && self.instance.is_none()));
        in_spec || self.instance.as_ref().is_some_and(|i| i.disk.is_some())
    }

    fn is_attached(&self) -> bool {
        let in_spec = self.vm.as_ref().is_some_and(|vm| vm.has_disk);
        in_spec
            && self
                .instance
                .as_ref()
                .and_then(|i| i.disk.as_ref())
                .is_some_and(DiskStatus::is_ready)
    }

    fn is_unreachable(&self) -> bool {
        self.instance.as_ref().is_some_and(|i| i.unreachable)
    }
}

/// State of an attachment; the names are those of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttachmentState {
    /// On no machine, wanted on none.
    Detached,
    /// Wanted, not ready yet.
    Attaching,
    /// In the virtual machine, and ready in its instance.
    Attached,
    /// Still on a machine that it is not wanted on.
    Detaching,
    /// Not possible until something else changes.
    Failed,
    /// Cannot be told.
    Unknown,
}

/// What is seen of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its state.
    pub state: AttachmentState,
    /// Id of the machine that it is seen on.
    pub machine: Option<String>,
    /// Cause in CamelCase.
    pub reason: &'static str,
    /// Sentence for people.
    pub message: String,
    /// Device name at the hypervisor.
    pub target: String,
}

impl Attachment {
    fn new(state: AttachmentState, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            state,
            machine: None,
            reason,
            message: message.into(),
            target: String::new(),
        }
    }

    /// It cannot be told at present.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(AttachmentState::Unknown, "InfraUnreachable", message)
    }

    fn on(mut self, machine: &str) -> Self {
        self.machine = Some(machine.to_owned());
        self
    }
}

/// Judges a volume by the sites where it is wanted or seen; `sites` must have the wanted machine.
pub fn judge(volume: &Volume, sites: &[Site]) -> Attachment {
    let wanted = volume.wanted_on();
    let lost = |site: &&Site| site.is_unreachable() && (site.holds() || Some(site.machine.as_str()) == wanted);
    if let Some(site) = sites.iter().find(lost) {
        let text = format!("machine {} does not answer", site.machine);
        let unknown = Attachment::new(AttachmentState::Unknown, "MachineUnreachable", text);
        return if site.holds() {
            unknown.on(&site.machine)
        } else {
            unknown
        };
    }
    let other = sites
        .iter()
        .find(|site| site.holds() && Some(site.machine.as_str()) != wanted);
    if let Some(site) = other {
        return judge_leaving(site, wanted).on(&site.machine);
    }
    let Some(machine) = wanted else {
        return Attachment::new(AttachmentState::Detached, "", "");
    };
    match sites.iter().find(|site| site.machine == machine) {
        Some(site) => judge_wanted(volume, site),
        None => machine_missing(machine),
    }
}

fn judge_leaving(site: &Site, wanted: Option<&str>) -> Attachment {
    let migrating = site.instance.as_ref().is_some_and(|i| i.migrating);
    let (reason, text) = match (migrating, wanted) {
        (true, _) => (
            "MigrationInFlight",
            format!("machine {} migrates; the volume leaves it afterwards", site.machine),
        ),
        (false, None) => (
            "Detaching",
            format!("waiting for machine {} to let the volume go", site.machine),
        ),
        (false, Some(wanted)) => (
            "OnAnotherMachine",
            format!(
                "machine {} must let the volume go before {wanted} gets it",
                site.machine
            ),
        ),
    };
    Attachment::new(AttachmentState::Detaching, reason, text)
}

fn machine_missing(machine: &str) -> Attachment {
    Attachment::new(
        AttachmentState::Failed,
        "MachineNotFound",
        format!("there is no machine {machine}"),
    )
}

fn judge_wanted(volume: &Volume, site: &Site) -> Attachment {
    use AttachmentState::{Attached, Detaching, Failed};
    let machine = site.machine.as_str();
    let disk = site.instance.as_ref().and_then(|i| i.disk.as_ref());
    let Some(vm) = &site.vm else {
        return match disk {
            Some(_) => Attachment::new(Detaching, "MachineGoing", format!("machine {machine} goes")).on(machine),
            None => machine_missing(machine),
        };
    };
    if site.is_attached() {
        let mut attached = Attachment::new(Attached, "", "").on(machine);
        attached.target = disk.map(|d| d.target.clone()).unwrap_or_default();
        return attached;
    }
    if vm.going {
        let gone = Attachment::new(Failed, "MachineDeleting", format!("machine {machine} is being deleted"));
        return if site.holds() { gone.on(machine) } else { gone };
    }
    let attaching = judge_attaching(volume, site, vm, disk);
    if site.holds() { attaching.on(machine) } else { attaching }
}

fn judge_attaching(volume: &Volume, site: &Site, vm: &SiteVm, disk: Option<&DiskStatus>) -> Attachment {
    use AttachmentState::{Attaching, Failed};
    match (volume.stage, vm.has_disk) {
        (Stage::Failed, _) => return Attachment::new(Failed, "ProvisioningFailed", volume.message.clone()),
        (Stage::Pending | Stage::Provisioning, false) => {
            return Attachment::new(Attaching, "VolumeProvisioning", "the volume is still being filled");
        }
        (Stage::Pending | Stage::Provisioning, true) | (Stage::Ready | Stage::WaitingForConsumer, _) => {}
    }
    if let Some(refusal) = &vm.refusal {
        return Attachment::new(Failed, "HotPlugRefused", refusal.clone());
    }
    match (&site.instance, vm.has_disk) {
        (Some(instance), _) if instance.migrating => Attachment::new(
            Attaching,
            "MigrationInFlight",
            "the machine migrates; it gets the volume afterwards",
        ),
        (_, false) => Attachment::new(Attaching, "Queued", "the volume waits for its turn at the machine"),
        (None, true) => Attachment::new(
            Attaching,
            "MachineNotRunning",
            "the machine gets the volume when it starts",
        ),
        (Some(_), true) => {
            let text = disk.map_or("the machine does not report the disk yet".to_owned(), |disk| {
                format!("the disk is {}: {}", disk.phase, disk.message)
                    .trim_end_matches([':', ' '])
                    .to_owned()
            });
            Attachment::new(Attaching, "WaitingForInstance", text)
        }
    }
}

/// Name of the disk by which a site shows the volume.
pub fn disk_of(volume: &Volume) -> String {
    disk_name(volume.id())
}

#[cfg(test)]
mod tests;
