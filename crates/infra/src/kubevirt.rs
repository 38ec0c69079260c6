//! Slim types of KubeVirt's API (1.8), kubevirt.io/v1 and its instancetype group.
//!
//! What Steading reads is typed; what it writes back whole keeps unknown fields in `other`. Enumerations are
//! open: a value of a newer KubeVirt survives a round trip.

mod condition;
pub mod instancetype;
#[expect(clippy::module_inception, reason = "named after KubeVirt's own kind")]
pub mod kubevirt;
pub mod migration;
mod open_enum;
pub mod preference;
pub mod virtual_machine;
pub mod virtual_machine_instance;

pub use condition::{Condition, condition, condition_is_true};
pub use instancetype::{VirtualMachineClusterInstancetype, VirtualMachineInstancetype};
pub use kubevirt::KubeVirt;
pub use migration::VirtualMachineInstanceMigration;
pub use preference::{VirtualMachineClusterPreference, VirtualMachinePreference};
pub use virtual_machine::{Cpu, VirtualMachine};
pub use virtual_machine_instance::VirtualMachineInstance;

pub(crate) use open_enum::open_enum;
