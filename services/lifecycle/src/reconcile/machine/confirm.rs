//! What cannot be undone is decided again over what was just read: the plan of a pass is made from indexes, which may be
//! behind, so that a machine whose deletion was revoked, or that another boot has taken, would be ended for nobody.

use kube::ResourceExt;
use steading_controller::Fresh;
use steading_infra::{
    crd::Cluster,
    kubevirt::{VirtualMachine, VirtualMachineInstance},
};

use super::Pass;
use crate::{
    error::Error,
    observe::machine::{observe_machine, observe_with},
    plan::machine::{AfterDrain, ClusterFate, MachineStep, plan_machine},
};

/// A step that holds over fresh reads, too.
pub(super) struct Confirmed {
    /// The machine.
    pub(super) vm: Fresh<VirtualMachine>,
    /// Its instance, where the step is about it; `None` if there is none.
    pub(super) instance: Option<Fresh<VirtualMachineInstance>>,
}

impl Pass<'_> {
    /// Reads the machine and plans again; `None` if anything but `step` is to be done now, or the machine is gone. What was read
    /// is what the next pass sees.
    pub(super) async fn confirm(&self, step: &MachineStep) -> Result<Option<Confirmed>, Error> {
        let (context, namespace, name) = (self.context, &self.key.namespace, &self.key.machine);
        if self.fate == ClusterFate::Terminating {
            // A cluster that is not seen may exist all the same.
            let cluster = Fresh::get(&context.all::<Cluster>(), namespace).await?;
            if cluster.is_some_and(|cluster| cluster.metadata.deletion_timestamp.is_none()) {
                tracing::info!(machine = %self.key, "the cluster stays; its machine is looked at again");
                return Ok(None);
            }
        }
        let vm = Fresh::get(&context.namespaced::<VirtualMachine>(namespace), name).await?;
        let Some(vm) = vm.filter(|vm| vm.uid() == self.vm.uid()) else {
            return Ok(None);
        };
        context.observed.vms.upsert(vm.clone());
        let now = context.clock.now();
        let (instance, machine) = match step {
            // Without an instance its disks and its address are free for others, so that it is gone must be certain; and one that
            // migrates meanwhile is not ended.
            MachineStep::Finish { .. } | MachineStep::Restart { .. } | MachineStep::Drain(AfterDrain::Restart(_)) => {
                let found = Fresh::get(&context.namespaced::<VirtualMachineInstance>(namespace), name).await?;
                if let Some(found) = &found {
                    context.observed.vmis.upsert((**found).clone());
                }
                let machine = observe_with(&context.observed, &vm, found.as_deref(), now);
                (found, machine)
            }
            _ => (None, observe_machine(&context.observed, &vm, now)),
        };
        let present = plan_machine(&machine, self.fate, now);
        if present != *step {
            tracing::info!(machine = %self.key, ?step, ?present, "what was planned is not wanted any longer");
            return Ok(None);
        }
        Ok(Some(Confirmed { vm, instance }))
    }
}
