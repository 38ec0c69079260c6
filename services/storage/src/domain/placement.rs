//! Where a volume may be: the record on its DataVolume that makes a second machine impossible.
//!
//! ```text
//!             compare-and-swap            one JSON patch: tests uid, fence, lists
//!  no record ─────────────────► record ─────────────────────────────────────────► disk in the VM
//!      ▲                           │
//!      └──── compare-and-swap ─────┘  only after fresh reads of VM and VMI show no trace of the volume, and
//!                                     the VM's fence is no longer the record's
//! ```
//!
//! The fence is a number on the VirtualMachine that only counts up. A patch that attaches tests the fence that stands in the
//! record. Every patch that detaches raises it, and a record is cleared only once the fence has left the record's value
//! behind: so a patch that was sent long ago, by a leader that is none any more or whose reply was lost, cannot take effect
//! after the volume was given to another machine.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The machine that may have a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// Id of the machine.
    pub machine: String,
    /// Uid of its VirtualMachine: a later machine of the same name is another one.
    pub vm: String,
    /// The fence of the VirtualMachine when the record was written.
    pub fence: u64,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.machine, self.vm, self.fence)
    }
}

impl FromStr for Placement {
    type Err = std::convert::Infallible;

    /// Reads a record. A damaged one still names its machine, and is never taken for none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (machine, vm, fence) = (part(), part(), part());
        Ok(Self {
            machine,
            vm,
            fence: fence.parse().unwrap_or_default(),
        })
    }
}

/// What fresh reads of a machine show of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The VirtualMachine; `None` if there is none.
    pub vm: Option<VmTrace>,
    /// The running instance: whether it shows the volume; `None` if there is no instance.
    pub instance: Option<InstanceTrace>,
}

/// What a VirtualMachine shows of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmTrace {
    /// Its uid.
    pub uid: String,
    /// Its fence.
    pub fence: u64,
    /// Whether its spec has the volume, under whatever name.
    pub shows: bool,
    /// Whether it is being deleted: then it starts no instance again.
    pub deleting: bool,
    /// Whether KubeVirt has acted on the present spec.
    pub settled: bool,
}

/// What a running instance shows of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceTrace {
    /// Whether its spec or status has the volume.
    pub shows: bool,
}

/// What may become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearance {
    /// It may be cleared.
    Clear,
    /// The VirtualMachine's fence has to be raised first.
    RaiseFence,
    /// The machine may still have, or still get, the volume.
    Keep,
}

/// Judges a record by fresh reads: first of the VirtualMachine, then of the instance.
pub fn clearance(record: &Placement, trace: &Trace) -> Clearance {
    if trace.instance.is_some_and(|instance| instance.shows) {
        return Clearance::Keep;
    }
    let Some(vm) = &trace.vm else {
        return Clearance::Clear;
    };
    if vm.deleting && trace.instance.is_none() {
        return Clearance::Clear;
    }
    if vm.shows || (trace.instance.is_some() && !vm.settled) {
        return Clearance::Keep;
    }
    if vm.uid == record.vm && vm.fence <= record.fence {
        return Clearance::RaiseFence;
    }
    Clearance::Clear
}

/// That a machine refused a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRefusal {
    /// Id of the machine.
    pub machine: String,
    /// What was said.
    pub message: String,
    /// When it was tried last.
    pub at: Timestamp,
}

/// That a volume could not grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpandRefusal {
    /// The size that the claim was to ask for, as Kubernetes writes it.
    pub size: String,
    /// What was said.
    pub message: String,
    /// When it was tried last.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mk_record() -> Placement {
        Placement {
            machine: "m1".into(),
            vm: "u1".into(),
            fence: 3,
        }
    }

    fn mk_vm(fence: u64) -> VmTrace {
        VmTrace {
            uid: "u1".into(),
            fence,
            shows: false,
            deleting: false,
            settled: true,
        }
    }

    fn judge(vm: Option<VmTrace>, instance: Option<bool>) -> Clearance {
        let instance = instance.map(|shows| InstanceTrace { shows });
        clearance(&mk_record(), &Trace { vm, instance })
    }

    #[test]
    fn a_record_is_cleared_only_when_machine_and_instance_are_seen_without_the_volume() {
        let vm = |change: fn(&mut VmTrace)| {
            let mut vm = mk_vm(4);
            change(&mut vm);
            Some(vm)
        };
        assert_eq!(judge(vm(|_| {}), Some(false)), Clearance::Clear);
        assert_eq!(judge(vm(|_| {}), None), Clearance::Clear);
        assert_eq!(judge(vm(|_| {}), Some(true)), Clearance::Keep);
        assert_eq!(judge(vm(|vm| vm.shows = true), None), Clearance::Keep);
        assert_eq!(judge(None, Some(true)), Clearance::Keep, "the instance outlives its VM");
        assert_eq!(judge(None, None), Clearance::Clear);
        assert_eq!(
            judge(vm(|vm| vm.settled = false), Some(false)),
            Clearance::Keep,
            "KubeVirt may be about to plug what the spec had before"
        );
    }

    #[test]
    fn a_machine_that_is_being_deleted_cannot_start_again() {
        let vm = VmTrace {
            shows: true,
            deleting: true,
            ..mk_vm(3)
        };
        assert_eq!(judge(Some(vm.clone()), None), Clearance::Clear);
        assert_eq!(judge(Some(vm), Some(true)), Clearance::Keep);
    }

    #[test]
    fn an_earlier_patch_is_fenced_off_before_its_record_is_cleared() {
        assert_eq!(judge(Some(mk_vm(3)), Some(false)), Clearance::RaiseFence);
        assert_eq!(judge(Some(mk_vm(4)), Some(false)), Clearance::Clear);
        let another = VmTrace {
            uid: "u2".into(),
            ..mk_vm(0)
        };
        assert_eq!(judge(Some(another), Some(false)), Clearance::Clear);
    }

    #[test]
    fn a_damaged_record_is_not_taken_for_none() {
        let read = |text: &str| text.parse::<Placement>().expect("always readable");
        assert_eq!(read("m1/u1/3"), mk_record());
        assert_eq!(read("m1").machine, "m1");
        assert_eq!(read("m1/u1/x").fence, 0);
    }

    proptest! {
        #[test]
        fn records_survive_being_written(machine in "[a-z][a-z0-9-]{0,20}", vm in "[a-f0-9-]{0,36}", fence: u64) {
            let record = Placement { machine, vm, fence };
            prop_assert_eq!(record.to_string().parse::<Placement>().expect("readable"), record);
        }
    }
}
