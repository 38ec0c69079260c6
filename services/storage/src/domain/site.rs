//! One machine from the view of a volume: the virtual machine, its instance, the infra node below.

use std::sync::Arc;

use super::{
    machine::{InstanceDisk, ObservedInstance, ObservedMachine, ObservedNode},
    mark::disk_name,
};

/// One machine on which a volume is wanted, recorded or seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Id of the machine.
    pub machine: String,
    /// The virtual machine, if there is one.
    pub vm: Option<Arc<ObservedMachine>>,
    /// The running instance, if there is one.
    pub instance: Option<Arc<ObservedInstance>>,
    /// The infra node that the instance runs on, if it is known.
    pub node: Option<Arc<ObservedNode>>,
}

impl Site {
    /// Whether the volume may still be in use here, by what is seen. A machine that is being deleted and has no
    /// instance cannot start again.
    pub fn holds(&self, volume: &str) -> bool {
        let in_spec = self
            .vm
            .as_ref()
            .is_some_and(|vm| vm.plugged(volume).is_some() && !(vm.deleting && self.instance.is_none()));
        in_spec || self.shown(volume).is_some()
    }

    /// Whether it is being migrated.
    pub fn is_migrating(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| instance.migrating)
    }

    /// Whether nobody can say at present what runs here.
    pub fn is_unreachable(&self) -> bool {
        let lost = |instance: &Arc<ObservedInstance>| {
            instance.unreachable || (instance.node.is_some() && self.node.as_ref().is_some_and(|node| node.silent))
        };
        self.instance.as_ref().is_some_and(lost)
    }

    /// What the running instance says of a volume.
    pub fn shown(&self, volume: &str) -> Option<&InstanceDisk> {
        self.instance.as_ref().and_then(|instance| instance.shown(volume))
    }

    /// Whether the virtual machine has a volume, and the running instance reports it ready.
    pub fn is_attached(&self, volume: &str) -> bool {
        let in_spec = self.vm.as_ref().is_some_and(|vm| vm.plugged(volume).is_some());
        in_spec && self.shown(volume).is_some_and(InstanceDisk::is_ready)
    }

    /// What KubeVirt says against hot-plugging, if it concerns this volume: it names its disk or claim, or names nobody.
    pub fn refusal(&self, volume: &str) -> Option<&str> {
        let vm = self.vm.as_deref()?;
        let text = vm.refusal.as_deref()?;
        let disk = disk_name(volume);
        let names_others = || {
            let others = vm
                .disks
                .iter()
                .filter(|(_, disk)| disk.claim.as_deref() != Some(volume));
            let mut words = others.flat_map(|(name, disk)| [Some(name.as_str()), disk.claim.as_deref()]);
            words.any(|word| word.is_some_and(|word| mentions(text, word)))
        };
        (mentions(text, &disk) || mentions(text, volume) || !names_others()).then_some(text)
    }
}

/// Whether a text has a name as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.split(|c| !is_part(c))
        .any(|word| word.trim_end_matches('.') == name)
}
