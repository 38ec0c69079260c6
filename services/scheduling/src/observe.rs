//! Objects of the infra cluster, projected to what scheduling needs of them. Synchronous; what keeps them is
//! [`crate::index`].

pub mod kubevirt;
pub mod node;
pub mod pod;
pub mod volume;

pub use kubevirt::{ObservedInstance, virt_config};
pub use node::{ObservedNode, Readiness};
pub use pod::{MachineRef, ObservedPod, PodKey, Workload};
pub use volume::{ObservedClaim, ObservedVolume};
