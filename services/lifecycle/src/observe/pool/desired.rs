//! What a pool wants now.

use steading_infra::crd::MachinePool;

use crate::domain::{
    machine::ObservedMachine,
    pool::{DesiredPool, desired_replicas},
};

/// What a pool wants now.
pub fn desired_of(pool: &MachinePool, machines: &[ObservedMachine], revision: Option<String>) -> DesiredPool {
    let existing = machines.iter().filter(|m| !m.is_terminating()).count();
    let last = pool.status.as_ref().and_then(|status| status.desired_replicas);
    DesiredPool::of(&pool.spec, desired_replicas(&pool.spec, last, existing), revision)
}
