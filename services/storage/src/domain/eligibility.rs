//! Whether a machine may be given a volume now, and if not, why. Asked by calls before a wish is noted, by the planner before
//! anything is queued, and by whoever says what a volume waits for: so all three give the same answer.

use jiff::{SignedDuration, Timestamp};

use super::{
    class::Offer,
    machine::Obstacle,
    site::Site,
    volume::{Bus, Stage, Volume},
};

/// What is to be attached.
#[derive(Clone, Copy)]
pub enum Attachee<'a> {
    /// A volume that exists.
    Present(&'a Volume),
    /// One that is about to be made of this class.
    New(&'a Offer),
}

/// How long a volume that its machine refused rests before it is tried again, alone.
pub const REFUSAL_REST: SignedDuration = SignedDuration::from_secs(60);

/// Why a volume is not put on its machine now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldReason {
    /// The machine is being deleted.
    MachineTerminating,
    /// The machine migrates.
    MigrationInFlight,
    /// The volume is still being filled.
    Provisioning,
    /// The volume could not be made.
    ProvisioningFailed,
    /// The claim that held its bytes is gone.
    ClaimLost,
    /// Another machine may still use it.
    OnAnotherMachine,
    /// The machine has another disk of that name.
    DiskNameTaken,
    /// The machine takes no disks while it runs.
    HotplugDisabled,
    /// The bus of the volume is full at the machine.
    NoFreePort,
    /// The machine runs in a zone that does not reach the volume.
    WrongZone,
    /// The machine refused it a moment ago.
    Refused,
}

impl HoldReason {
    /// The reason in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MachineTerminating => "MachineDeleting",
            Self::MigrationInFlight => "MigrationInFlight",
            Self::Provisioning => "VolumeProvisioning",
            Self::ProvisioningFailed => "ProvisioningFailed",
            Self::ClaimLost => "ClaimLost",
            Self::OnAnotherMachine => "OnAnotherMachine",
            Self::DiskNameTaken => "DiskNameTaken",
            Self::HotplugDisabled => "HotplugDisabled",
            Self::NoFreePort => "NoFreePort",
            Self::WrongZone => "WrongZone",
            Self::Refused => "HotPlugRefused",
        }
    }

    /// Whether it also keeps a volume from becoming ready that is in the machine's spec already.
    pub fn concerns_plugged(self) -> bool {
        match self {
            Self::MachineTerminating | Self::MigrationInFlight | Self::ProvisioningFailed | Self::ClaimLost => true,
            Self::Provisioning
            | Self::OnAnotherMachine
            | Self::DiskNameTaken
            | Self::HotplugDisabled
            | Self::NoFreePort
            | Self::WrongZone
            | Self::Refused => false,
        }
    }

    /// Whether waiting alone does not help: something else has to change first.
    pub fn is_failure(self) -> bool {
        match self {
            Self::MachineTerminating
            | Self::ProvisioningFailed
            | Self::ClaimLost
            | Self::DiskNameTaken
            | Self::HotplugDisabled
            | Self::NoFreePort
            | Self::WrongZone
            | Self::Refused => true,
            Self::MigrationInFlight | Self::Provisioning | Self::OnAnotherMachine => false,
        }
    }
}

/// Why a volume waits, with a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The reason.
    pub reason: HoldReason,
    /// The sentence.
    pub message: String,
}

impl Hold {
    fn new(reason: HoldReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Why `volume` cannot be put on the machine of `site` now; `elsewhere` is another machine that may still have it.
pub fn hold(volume: &Volume, site: &Site, elsewhere: Option<&str>, now: Timestamp) -> Option<Hold> {
    site.vm.as_ref()?;
    of_volume(volume, site, elsewhere)
        .or_else(|| unfit(volume.id(), volume.bus, &volume.zones, site))
        .or_else(|| refused(volume, site, now))
        .or_else(|| {
            site.is_migrating().then(|| {
                let text = "the machine migrates; it gets the volume afterwards";
                Hold::new(HoldReason::MigrationInFlight, text)
            })
        })
}

fn of_volume(volume: &Volume, site: &Site, elsewhere: Option<&str>) -> Option<Hold> {
    if let Some(other) = elsewhere {
        let text = format!(
            "machine {other} must release the volume before {} gets it",
            site.machine
        );
        return Some(Hold::new(HoldReason::OnAnotherMachine, text));
    }
    match volume.stage {
        Stage::Pending | Stage::Provisioning => {
            Some(Hold::new(HoldReason::Provisioning, "the volume is still being filled"))
        }
        Stage::Failed => Some(Hold::new(HoldReason::ProvisioningFailed, volume.message.clone())),
        Stage::Lost => Some(Hold::new(HoldReason::ClaimLost, volume.message.clone())),
        Stage::Ready | Stage::WaitingForConsumer => None,
    }
}

/// Why the machine of `site` cannot have a volume of this id, bus and zones at all, whatever the state of the volume.
pub fn unfit(id: &str, bus: Bus, zones: &[String], site: &Site) -> Option<Hold> {
    let machine = site.vm.as_deref()?;
    let name = &site.machine;
    if machine.terminating {
        let text = format!("machine {name} is being deleted");
        return Some(Hold::new(HoldReason::MachineTerminating, text));
    }
    if machine.has_name_taken(id) {
        let text = format!("machine {name} has another disk of the name that the volume's disk would get");
        return Some(Hold::new(HoldReason::DiskNameTaken, text));
    }
    match &machine.obstacle {
        Some(Obstacle::HotplugDisabled) => {
            let text = format!("the template of machine {name} disables hot-plugging");
            return Some(Hold::new(HoldReason::HotplugDisabled, text));
        }
        Some(Obstacle::DiskWithoutBus(disk)) => {
            let text =
                format!("KubeVirt refuses all hot-plugging of machine {name} because its disk {disk} has no bus");
            return Some(Hold::new(HoldReason::HotplugDisabled, text));
        }
        None => {}
    }
    if !machine.has_port(bus) {
        let text = format!("machine {name} has no free port for another {} disk", bus.as_str());
        return Some(Hold::new(HoldReason::NoFreePort, text));
    }
    let zone = site.node.as_deref().map(|node| node.zone.as_str()).unwrap_or_default();
    if !zone.is_empty() && !zones.is_empty() && !zones.iter().any(|reached| reached == zone) {
        let text = format!(
            "machine {name} runs in zone {zone}; the volume can be reached from {} only",
            zones.join(", ")
        );
        return Some(Hold::new(HoldReason::WrongZone, text));
    }
    None
}

fn refused(volume: &Volume, site: &Site, now: Timestamp) -> Option<Hold> {
    let refusal = volume.attach_refusal.as_ref()?;
    let rests = refusal.machine == site.machine && now.duration_since(refusal.at) < REFUSAL_REST;
    rests.then(|| Hold::new(HoldReason::Refused, refusal.message.clone()))
}
