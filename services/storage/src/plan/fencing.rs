//! Two leaders, patches that arrive late, and volumes that are wanted elsewhere meanwhile: the model of the order in which
//! [`crate::apply`] reads and writes, with its real deciders.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::machine::{Concerned, MachineView, plan, record_for};
use crate::{
    domain::{
        attachment::elsewhere,
        machine::{ObservedDisk, ObservedInstance, ObservedMachine},
        mark::disk_name,
        placement::{Clearance, InstanceTrace, Placement, Trace, VmTrace, clearance},
        site::Site,
        volume::Volume,
    },
    samples::mk_volume,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const MACHINES: [&str; 2] = ["m0", "m1"];

/// A patch of a virtual machine on its way: what it tests, and what it does.
#[derive(Debug, Clone)]
struct Sent {
    machine: usize,
    fence: u64,
    had: bool,
    attach: bool,
}

/// What a leader is about to do.
#[derive(Debug, Clone)]
enum Doing {
    /// It has read machine and volume, and is about to write the record.
    Recording {
        machine: usize,
        read: (u64, bool),
        version: u64,
    },
    /// The record is written; it is about to send the patch.
    Patching {
        machine: usize,
        read: (u64, bool),
        attach: bool,
    },
    /// It has seen the machine without the volume, and is about to clear the record.
    Clearing { version: u64 },
}

#[derive(Debug, Clone)]
struct World {
    volume: Volume,
    version: u64,
    /// Fence, and whether the spec has the volume, of each machine.
    specs: [(u64, bool); 2],
    /// Whether the instance has the volume.
    guests: [bool; 2],
    sent: Vec<Sent>,
    leaders: [Option<Doing>; 2],
    /// What each leader's index shows: any earlier state.
    seen: [Volume; 2],
    seen_version: [u64; 2],
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Want(Option<usize>),
    /// A leader's index hears of the volume.
    Hear(usize),
    /// A leader begins a pass over a machine, or takes its next step.
    Act(usize, usize),
    /// A leader dies; what it sent is still on its way.
    Crash(usize),
    /// A patch arrives, in any order, perhaps a second time.
    Arrive(prop::sample::Index, bool),
    /// KubeVirt acts on a machine.
    Sync(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop::option::of(0..2_usize).prop_map(Step::Want),
        3 => (0..2_usize).prop_map(Step::Hear),
        8 => (0..2_usize, 0..2_usize).prop_map(|(leader, machine)| Step::Act(leader, machine)),
        1 => (0..2_usize).prop_map(Step::Crash),
        4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, twice)| Step::Arrive(which, twice)),
        4 => (0..2_usize).prop_map(Step::Sync),
    ]
}

impl World {
    fn new() -> Self {
        let volume = mk_volume("data");
        Self {
            seen: [volume.clone(), volume.clone()],
            volume,
            version: 0,
            specs: [(0, false); 2],
            guests: [false; 2],
            sent: Vec::new(),
            leaders: [None, None],
            seen_version: [0; 2],
        }
    }

    fn site(&self, machine: usize) -> Site {
        let (fence, has) = self.specs[machine];
        let disk = ObservedDisk {
            claim: Some("data".into()),
            ours: true,
            bus: None,
        };
        let shown = self.guests[machine].then(|| {
            let disk = crate::domain::machine::InstanceDisk {
                claim: Some("data".into()),
                hotplugged: true,
                phase: "Ready".into(),
                ..Default::default()
            };
            (disk_name("data"), disk)
        });
        Site {
            machine: MACHINES[machine].into(),
            vm: Some(Arc::new(ObservedMachine {
                uid: MACHINES[machine].into(),
                fence,
                settled: has == self.guests[machine],
                disks: has.then(|| (disk_name("data"), disk)).into_iter().collect(),
                ..ObservedMachine::default()
            })),
            instance: Some(Arc::new(ObservedInstance {
                disks: shown.into_iter().collect(),
                ..ObservedInstance::default()
            })),
            node: None,
        }
    }

    fn write(&mut self, version: u64, change: impl FnOnce(&mut Volume)) -> bool {
        if version != self.version {
            return false;
        }
        self.version += 1;
        change(&mut self.volume);
        true
    }

    /// Begins a pass with a stale index: nothing of other machines is seen, so that the record alone protects.
    fn begin(&mut self, leader: usize, machine: usize) -> Option<Doing> {
        let (volume, version) = (self.seen[leader].clone(), self.seen_version[leader]);
        let site = self.site(machine);
        let other = elsewhere(&volume, &[], Some(&site.machine)).map(str::to_owned);
        let record = record_for(&site);
        let view = MachineView {
            site,
            volumes: vec![Concerned {
                volume: Arc::new(volume.clone()),
                elsewhere: other,
            }],
        };
        let plan = plan(&view, NOW);
        let read = self.specs[machine];
        if !plan.clear.is_empty() {
            let own = volume.placement.as_ref()?;
            return self.judge(own, machine, version);
        }
        if !plan.detach.is_empty() {
            // A fresh read of the volume has the last word.
            let wanted = self.volume.wanted_on() == Some(MACHINES[machine]);
            return (!wanted).then_some(Doing::Patching {
                machine,
                read,
                attach: false,
            });
        }
        if !plan.record.is_empty() {
            return Some(Doing::Recording { machine, read, version });
        }
        let fits = volume.placement == record;
        (!plan.attach.is_empty() && fits).then_some(Doing::Patching {
            machine,
            read,
            attach: true,
        })
    }

    fn judge(&mut self, record: &Placement, machine: usize, version: u64) -> Option<Doing> {
        let trace = |world: &Self| Trace {
            vm: Some(VmTrace {
                uid: MACHINES[machine].into(),
                fence: world.specs[machine].0,
                shows: world.specs[machine].1,
                deleting: false,
                settled: world.specs[machine].1 == world.guests[machine],
            }),
            instance: Some(InstanceTrace {
                shows: world.guests[machine],
            }),
        };
        let mut verdict = clearance(record, &trace(self));
        if verdict == Clearance::RaiseFence {
            self.specs[machine].0 += 1;
            verdict = clearance(record, &trace(self));
        }
        (verdict == Clearance::Clear).then_some(Doing::Clearing { version })
    }

    fn go_on(&mut self, leader: usize, doing: Doing) -> Option<Doing> {
        match doing {
            Doing::Recording { machine, read, version } => {
                let record = Placement {
                    machine: MACHINES[machine].into(),
                    vm: MACHINES[machine].into(),
                    fence: read.0,
                };
                let made = self.write(version, |volume| volume.placement = Some(record));
                if made {
                    self.hear(leader);
                }
                (made && !read.1).then_some(Doing::Patching {
                    machine,
                    read,
                    attach: true,
                })
            }
            Doing::Patching { machine, read, attach } => {
                self.sent.push(Sent {
                    machine,
                    fence: read.0,
                    had: read.1,
                    attach,
                });
                None
            }
            Doing::Clearing { version } => {
                self.write(version, |volume| volume.placement = None);
                None
            }
        }
    }

    fn hear(&mut self, leader: usize) {
        self.seen[leader] = self.volume.clone();
        self.seen_version[leader] = self.version;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Want(machine) => {
                let elsewhere = self.volume.placement.is_some() || self.volume.attach_to.is_some();
                if machine.is_none() || !elsewhere {
                    let version = self.version;
                    self.write(version, |volume| {
                        volume.attach_to = machine.map(|m| MACHINES[m].to_owned())
                    });
                }
            }
            Step::Hear(leader) => self.hear(leader),
            Step::Act(leader, machine) => {
                let next = match self.leaders[leader].take() {
                    Some(doing) => self.go_on(leader, doing),
                    None => self.begin(leader, machine),
                };
                self.leaders[leader] = next;
            }
            Step::Crash(leader) => self.leaders[leader] = None,
            Step::Arrive(which, twice) => {
                if self.sent.is_empty() {
                    return;
                }
                let at = which.index(self.sent.len());
                let patch = self.sent[at].clone();
                if !twice {
                    self.sent.swap_remove(at);
                }
                let spec = &mut self.specs[patch.machine];
                if (patch.fence, patch.had) == *spec {
                    *spec = if patch.attach {
                        (spec.0, true)
                    } else {
                        (spec.0 + 1, false)
                    };
                }
            }
            Step::Sync(machine) => self.guests[machine] = self.specs[machine].1,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_volume_is_never_on_two_machines_whoever_leads_and_however_late_patches_arrive(
        steps in prop::collection::vec(steps(), 1..80),
    ) {
        let mut world = World::new();
        for (number, step) in steps.iter().enumerate() {
            world.step(*step);
            let on = |machine: usize| world.specs[machine].1 || world.guests[machine];
            prop_assert!(!(on(0) && on(1)), "step {}: {:?} in {:#?}", number, step, world);
            for (machine, name) in MACHINES.iter().enumerate() {
                let recorded = world.volume.placement.as_ref().map(|record| record.machine.as_str());
                prop_assert!(!on(machine) || recorded == Some(*name), "on a machine without its record: {:#?}", world);
            }
        }
    }
}
