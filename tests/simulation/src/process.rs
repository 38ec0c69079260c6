//! Leaders: what each sees, the pass that it is in, and the order in which it reads and writes. What is done is decided by the services'
//! own deciders; here stands only how their executors carry it out.

use std::collections::{BTreeMap, VecDeque};

use steading_lifecycle::plan::{drain::EvictionAttempts, evacuation::MachineKey};

use crate::{
    step::{Mishap, Pass},
    world::{CLUSTERS, Objects, VOLUMES, World},
};

pub mod arrival;
pub mod disks;
pub mod machine;
pub mod maintenance;
pub mod observe;
pub mod operation;
pub mod pool;
pub mod write;

pub use operation::{Operation, Read};
pub use write::Write;

/// A leader: one process of each service.
#[derive(Debug, Clone)]
pub struct Leader {
    /// What its indexes show.
    pub view: Objects,
    /// What is left of its pass.
    pub operations: VecDeque<Operation>,
    /// Refused evictions by pod: memory of its term.
    pub attempts: BTreeMap<String, EvictionAttempts>,
}

impl Leader {
    /// A leader that has just listed everything.
    pub fn new(world: &World) -> Self {
        Self {
            view: world.objects.clone(),
            operations: VecDeque::new(),
            attempts: BTreeMap::new(),
        }
    }

    /// Whether it is between passes.
    pub fn is_idle(&self) -> bool {
        self.operations.is_empty()
    }

    /// Begins a pass: plans from its view.
    pub fn begin(&mut self, world: &World, pass: Pass, which: u8) {
        let operations = match pass {
            Pass::Machine => match machine_of(&self.view, which) {
                Some(key) => machine::begin(&self.view, &key, world.now),
                None => Vec::new(),
            },
            Pass::Pool => pool::begin(&self.view, usize::from(which) % CLUSTERS.len(), world.now),
            Pass::Maintenances => maintenance::begin(&self.view, world.now),
            Pass::Disks => disks_of(&self.view, which)
                .map(|key| Operation::Read(Read::Disks(key)))
                .into_iter()
                .collect(),
            Pass::Volume => disks::begin_volume(&self.view, VOLUMES[usize::from(which) % VOLUMES.len()], world.now),
        };
        self.operations.extend(operations);
    }

    /// Takes the next operation; returns a write that is on its way, if it does not arrive at once.
    ///
    /// # Errors
    /// The promise that the write would break.
    pub fn act(&mut self, world: &mut World, mishap: Mishap) -> Result<Option<Write>, String> {
        let Some(operation) = self.operations.pop_front() else {
            return Ok(None);
        };
        if mishap == Mishap::Refused {
            self.operations.clear();
            return Ok(None);
        }
        match operation {
            Operation::Read(read) => {
                let Some(next) = self.read(world, read) else {
                    self.operations.clear();
                    return Ok(None);
                };
                for one in next.into_iter().rev() {
                    self.operations.push_front(one);
                }
                Ok(None)
            }
            Operation::Write(write) => {
                if mishap == Mishap::Delayed {
                    self.operations.clear();
                    return Ok(Some(write));
                }
                let arrived = arrival::arrive(&write, world, Some(&mut self.attempts))?;
                if !arrived || mishap == Mishap::ReplyLost {
                    self.operations.clear();
                } else {
                    write.reply(&mut self.view, world);
                }
                Ok(None)
            }
        }
    }

    /// `None` if it cannot be read.
    fn read(&mut self, world: &World, read: Read) -> Option<Vec<Operation>> {
        match read {
            Read::Drain { key, after, rounds } => {
                machine::drain(&self.view, world, &key, after, rounds, &self.attempts)
            }
            Read::Detach(key) => Some(machine::detach(world, &key)),
            Read::Confirm { key, step } => Some(machine::confirm(&mut self.view, world, &key, &step)),
            Read::Pool(at) => Some(pool::again(&self.view, world, at)),
            Read::Disks(key) => Some(disks::begin(&self.view, world, &key)),
            Read::ConfirmDetach(patch) => Some(disks::confirm(world, *patch)),
            Read::Clear { key, volumes } => Some(disks::clear(&self.view, world, &key, &volumes)),
        }
    }
}

/// The machine of a number in a view.
fn machine_of(view: &Objects, which: u8) -> Option<MachineKey> {
    let vms = &view.vms;
    (!vms.is_empty()).then(|| vms.keys().nth(usize::from(which) % vms.len()).cloned())?
}

/// A machine of the first cluster that is there, or that a volume names.
fn disks_of(view: &Objects, which: u8) -> Option<MachineKey> {
    let mut names: Vec<String> = view
        .vms
        .keys()
        .chain(view.instances.keys())
        .filter(|key| key.namespace == CLUSTERS[0])
        .map(|key| key.machine.clone())
        .collect();
    for (_, volume) in view.volumes.values() {
        names.extend(volume.attach_to.clone());
        names.extend(volume.placement.as_ref().map(|record| record.machine.clone()));
    }
    names.sort();
    names.dedup();
    let machine = names.get(usize::from(which).checked_rem(names.len())?)?.clone();
    Some(MachineKey {
        namespace: CLUSTERS[0].into(),
        machine,
    })
}
