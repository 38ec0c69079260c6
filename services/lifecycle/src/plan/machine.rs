//! What is done about one machine next.
//!
//! ```text
//! VM going ──► wait until the instance is gone ──► delete Node ──► delete secrets ──► finalizer off
//! delete asked for ──► drain ──► detach volumes ──► delete VM          (forced: delete VM at once)
//! drain asked for ──► drain, machine stays        (called off: take new pods again)
//! otherwise ──► restart if asked for, fill in the Node, remove its token
//! ```

use crate::domain::machine::{DeleteMode, NodeSight, ObservedMachine};

/// Whether the whole cluster is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterFate {
    /// It stays.
    Stays,
    /// It is being deleted, so that its nodes need not be told apart from it.
    Going,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineStep {
    /// Wait until KubeVirt has ended the instance.
    WaitForInstance,
    /// The tenant cannot be told that the node is gone; wait for it.
    WaitForTenant,
    /// Delete the tenant Node, the secrets, then take the finalizer off.
    Finish {
        /// Whether there is a Node to delete.
        delete_node: bool,
    },
    /// Go on with the drain; what follows when it is done.
    Drain(AfterDrain),
    /// Delete the VM.
    DeleteVm,
    /// Delete the instance so that KubeVirt makes another one.
    Restart,
    /// A drain was called off: take new pods again.
    Uncordon,
    /// Keep the Node as it should be.
    Maintain,
}

/// What follows a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterDrain {
    /// Volumes are detached and the VM deleted.
    Delete,
    /// Nothing.
    Stay,
}

/// Decides the next step of a machine.
pub fn plan_machine(machine: &ObservedMachine, fate: ClusterFate) -> MachineStep {
    if machine.vm_going {
        return if machine.vmi.is_some() {
            MachineStep::WaitForInstance
        } else {
            match (&machine.node, fate) {
                (NodeSight::Present { .. }, _) => MachineStep::Finish { delete_node: true },
                (NodeSight::Absent, _) | (NodeSight::Unknown, ClusterFate::Going) => {
                    MachineStep::Finish { delete_node: false }
                }
                (NodeSight::Unknown, ClusterFate::Stays) => MachineStep::WaitForTenant,
            }
        };
    }
    match machine.delete {
        Some(DeleteMode::Force) => MachineStep::DeleteVm,
        Some(DeleteMode::Drain) => match (&machine.node, fate) {
            (NodeSight::Unknown, ClusterFate::Going) => MachineStep::DeleteVm,
            _ => MachineStep::Drain(AfterDrain::Delete),
        },
        None if machine.drain => MachineStep::Drain(AfterDrain::Stay),
        None if machine.restart && machine.vmi.as_ref().is_some_and(|vmi| !vmi.going && !vmi.migrating) => {
            MachineStep::Restart
        }
        None if machine.drain_started.is_some() => MachineStep::Uncordon,
        None => MachineStep::Maintain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::machine::tests::mk_running;

    #[test]
    fn nothing_is_deleted_before_the_drain_unless_forced() {
        let mut machine = mk_running("w-1");
        assert_eq!(plan_machine(&machine, ClusterFate::Stays), MachineStep::Maintain);
        machine.delete = Some(DeleteMode::Drain);
        assert_eq!(
            plan_machine(&machine, ClusterFate::Stays),
            MachineStep::Drain(AfterDrain::Delete)
        );
        machine.node = NodeSight::Unknown;
        assert_eq!(
            plan_machine(&machine, ClusterFate::Stays),
            MachineStep::Drain(AfterDrain::Delete)
        );
        machine.delete = Some(DeleteMode::Force);
        assert_eq!(plan_machine(&machine, ClusterFate::Stays), MachineStep::DeleteVm);
    }

    #[test]
    fn the_finalizer_stays_until_instance_and_node_are_known_to_be_gone() {
        let mut machine = mk_running("w-1");
        machine.vm_going = true;
        assert_eq!(plan_machine(&machine, ClusterFate::Stays), MachineStep::WaitForInstance);
        machine.vmi = None;
        assert_eq!(
            plan_machine(&machine, ClusterFate::Stays),
            MachineStep::Finish { delete_node: true }
        );
        machine.node = NodeSight::Unknown;
        assert_eq!(plan_machine(&machine, ClusterFate::Stays), MachineStep::WaitForTenant);
        assert_eq!(
            plan_machine(&machine, ClusterFate::Going),
            MachineStep::Finish { delete_node: false }
        );
    }
}
