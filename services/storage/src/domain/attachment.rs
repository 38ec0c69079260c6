//! When a volume counts as attached. The one place that decides it.
//!
//! A volume is *attached* only if the virtual machine has the disk **and** its running instance reports it ready. It is
//! *detached* only if it has no placement record and no virtual machine and no instance shows it; what cannot be seen is
//! *unknown*, never detached. The record is read with the volume itself, so that a replica whose watches lag never says
//! *detached* of a volume that another replica has just put on a machine.

use jiff::Timestamp;

use super::{
    eligibility::{self, HoldReason},
    machine::ObservedMachine,
    site::Site,
    volume::Volume,
};

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

/// Whether the infra cluster can be seen at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight<'a> {
    /// All that matters is current.
    Clear,
    /// Something is not, for this reason.
    Clouded(&'a str),
}

/// The machine other than `machine` that may have the volume: by its record, or by what is seen.
pub fn elsewhere<'a>(volume: &'a Volume, sites: &'a [Site], machine: Option<&str>) -> Option<&'a str> {
    let recorded = volume.placement.as_ref().map(|record| record.machine.as_str());
    let seen = sites
        .iter()
        .filter(|site| site.holds(volume.id()))
        .map(|site| site.machine.as_str());
    recorded.into_iter().chain(seen).find(|other| Some(*other) != machine)
}

/// Judges a volume by the sites where it is wanted, recorded or seen; `sites` must have all of them.
pub fn judge(volume: &Volume, sites: &[Site], sight: Sight<'_>, now: Timestamp) -> Attachment {
    let wanted = volume.wanted_on();
    let recorded = volume.placement.as_ref().map(|record| record.machine.as_str());
    let holds = |site: &Site| site.holds(volume.id()) || recorded == Some(site.machine.as_str());
    let held = sites
        .iter()
        .find(|site| holds(site))
        .map(|site| site.machine.as_str())
        .or(recorded);
    if let (Sight::Clouded(why), true) = (sight, held.is_some() || wanted.is_some()) {
        return Attachment {
            // Where it may be: whoever asks what is on a machine must not be told "nothing".
            machine: held.map(str::to_owned),
            ..Attachment::unknown(why)
        };
    }
    let lost = |site: &&Site| site.is_unreachable() && (holds(site) || Some(site.machine.as_str()) == wanted);
    if let Some(site) = sites.iter().find(lost) {
        let text = format!("machine {} does not answer", site.machine);
        let unknown = Attachment::new(AttachmentState::Unknown, "MachineUnreachable", text);
        return if holds(site) {
            unknown.on(&site.machine)
        } else {
            unknown
        };
    }
    if let Some(other) = elsewhere(volume, sites, wanted) {
        let site = sites.iter().find(|site| site.machine == other);
        return judge_leaving(volume, other, site, wanted).on(other);
    }
    let Some(machine) = wanted else {
        return Attachment::new(AttachmentState::Detached, "", "");
    };
    match sites.iter().find(|site| site.machine == machine) {
        Some(site) => judge_wanted(volume, site, now),
        None => machine_missing(machine),
    }
}

fn judge_leaving(volume: &Volume, machine: &str, site: Option<&Site>, wanted: Option<&str>) -> Attachment {
    let migrating = site.is_some_and(Site::is_migrating);
    let plugged = site
        .and_then(|site| site.vm.as_ref())
        .and_then(|vm| vm.plugged(volume.id()));
    let (reason, text) = match (migrating, plugged, wanted) {
        (true, ..) => (
            "MigrationInFlight",
            format!("machine {machine} migrates; the volume leaves it afterwards"),
        ),
        (false, Some((disk, seen)), _) if !seen.ours => (
            "PluggedByHand",
            format!(
                "disk {disk} of machine {machine} was not plugged by Steading: whoever plugged it must take it off"
            ),
        ),
        (false, _, None) => (
            "Detaching",
            format!("waiting for machine {machine} to release the volume"),
        ),
        (false, _, Some(wanted)) => (
            HoldReason::OnAnotherMachine.as_str(),
            format!("machine {machine} must release the volume before {wanted} gets it"),
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

fn judge_wanted(volume: &Volume, site: &Site, now: Timestamp) -> Attachment {
    use AttachmentState::{Attached, Detaching};
    let machine = site.machine.as_str();
    let shown = site.shown(volume.id());
    let Some(vm) = &site.vm else {
        return match shown {
            Some(_) => {
                let text = format!("machine {machine} is terminating");
                Attachment::new(Detaching, "MachineTerminating", text).on(machine)
            }
            None => machine_missing(machine),
        };
    };
    if site.is_attached(volume.id()) {
        let mut attached = Attachment::new(Attached, "", "").on(machine);
        attached.target = shown.map(|disk| disk.target.clone()).unwrap_or_default();
        return attached;
    }
    let judged = judge_attaching(volume, site, vm, now);
    if site.holds(volume.id()) {
        judged.on(machine)
    } else {
        judged
    }
}

fn judge_attaching(volume: &Volume, site: &Site, vm: &ObservedMachine, now: Timestamp) -> Attachment {
    use AttachmentState::{Attaching, Failed};
    let plugged = vm.plugged(volume.id()).is_some();
    // A refusal stays said while the volume waits to be tried again.
    let refusal = volume
        .attach_refusal
        .as_ref()
        .filter(|refusal| refusal.machine == site.machine);
    if let (Some(refusal), false) = (refusal, plugged) {
        return Attachment::new(Failed, HoldReason::Refused.as_str(), refusal.message.clone());
    }
    if let Some(hold) = eligibility::hold(volume, site, None, now)
        && (!plugged || hold.reason.concerns_plugged())
    {
        let state = if hold.reason.is_failure() { Failed } else { Attaching };
        return Attachment::new(state, hold.reason.as_str(), hold.message);
    }
    if let Some(refusal) = site.refusal(volume.id()) {
        return Attachment::new(Failed, HoldReason::Refused.as_str(), refusal);
    }
    match (&site.instance, plugged) {
        (_, false) => Attachment::new(Attaching, "Queued", "the volume waits for its turn at the machine"),
        (None, true) => Attachment::new(
            Attaching,
            "MachineNotRunning",
            "the machine gets the volume when it starts",
        ),
        (Some(_), true) => {
            let text = site
                .shown(volume.id())
                .map_or("the machine does not report the disk yet".to_owned(), |disk| {
                    format!("the disk is {}: {}", disk.phase, disk.message)
                        .trim_end_matches([':', ' '])
                        .to_owned()
                });
            Attachment::new(Attaching, "WaitingForInstance", text)
        }
    }
}

#[cfg(test)]
mod tests;
