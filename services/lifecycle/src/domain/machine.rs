//! A machine as it is observed, and its phase, which is derived and never stored.

mod observed;
pub mod phase;
#[cfg(test)]
pub(crate) mod tests;

pub use observed::{
    DeleteMode, MigrationState, NodeCordon, ObservedInstance, ObservedMachine, ObservedMigration, ObservedNode,
    Patience,
};
pub use phase::{Phase, PhaseReport};
