//! What a pass consists of.

use steading_lifecycle::plan::{
    evacuation::MachineKey,
    machine::{AfterDrain, MachineStep},
};

use super::write::{Patch, Write};

/// One operation of a pass.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A write to an API server.
    Write(Write),
    /// A read of an API server, out of which further operations follow.
    Read(Read),
}

/// A read within a pass.
#[derive(Debug, Clone)]
pub enum Read {
    /// The next step of a drain, after reads of the tenant.
    Drain {
        /// The machine.
        key: MachineKey,
        /// What follows.
        after: AfterDrain,
        /// Rounds that are left in this pass.
        rounds: u8,
    },
    /// Whether storage has taken everything off.
    Detach(MachineKey),
    /// Whether a step that cannot be undone is to be taken over what is read now, too.
    Confirm {
        /// The machine.
        key: MachineKey,
        /// The step.
        step: MachineStep,
    },
    /// The pool and its machines, read now.
    Pool(usize),
    /// A machine's disks, read now.
    Disks(MachineKey),
    /// Whether what a plan takes off is unwanted, read now; then the patch.
    ConfirmDetach(Box<Patch>),
    /// A machine after its fence was raised: records that may be cleared.
    Clear {
        /// The machine.
        key: MachineKey,
        /// Volumes, with the versions in which they were seen.
        volumes: Vec<(String, u64)>,
    },
}
