//! One pass over a machine: reads it, plans over what was read, and changes records and the virtual machine in the order that
//! keeps a volume on one machine.
//!
//! ```text
//!  read VM, then VMI ─► plan ─► clear records (fence first) ─► verify detaches ─► write records ─► patch the VM
//! ```

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use jiff::Timestamp;
use kube::{Api, api::DynamicObject};
use serde_json::Value;
use steading_controller::{Fresh, ObjectRef};
use steading_infra::{
    apply::{FieldManager, patch_json},
    error::{InfraError, Result},
    kubevirt::{VirtualMachine, VirtualMachineInstance},
    labels,
};

use super::{Executor, Swap, events::Notice};
use crate::{
    domain::{
        machine::ObservedMachine,
        placement::{Clearance, InstanceTrace, Placement, Trace, VmTrace, clearance},
        site::Site,
        volume::Volume,
    },
    observe::{parse, version_of},
    plan::{
        machine::{Concerned, Detach, MachinePlan, MachineView, plan, record_for},
        patch::{is_moved, render, render_fence},
        refusal::{Batch, Batches, Verdict},
    },
};

/// Writes of one pass that are under way at once: records of one machine's volumes.
const CONCURRENT_RECORDS: usize = 8;

/// What became of a machine's plan.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Disks put on.
    pub(crate) attached: usize,
    /// Disks taken off.
    pub(crate) detached: usize,
    /// Patches of the virtual machine.
    pub(crate) patches: usize,
    /// Volumes that the machine refused.
    pub(crate) refused: usize,
    /// Whether something changed in between, so that the machine must be looked at again.
    pub(crate) again: bool,
    /// Whether records are kept because the infra cluster has not acted on what was written yet.
    pub(crate) waits: bool,
}

/// A machine as it was read in this pass: the virtual machine first, then its instance.
struct Reading {
    vm: Option<Fresh<DynamicObject>>,
    instance: Option<Fresh<VirtualMachineInstance>>,
}

/// What came of one patch of a virtual machine.
enum Patched {
    Done(Box<DynamicObject>),
    /// Something that the patch tests changed meanwhile.
    Moved,
    /// The infra cluster does not take it.
    Refused(String),
}

impl Executor {
    /// Puts the wanted volumes on a machine and takes the unwanted off.
    ///
    /// # Errors
    /// If the infra cluster cannot be asked, or refuses even to let a volume go.
    pub(crate) async fn apply_machine(&self, namespace: &str, machine: &str) -> Result<Applied> {
        let reading = self.read(namespace, machine).await?;
        let site = self.site(machine, &reading);
        self.note_machine(namespace, machine, &reading, &site);
        let view = self.observed.view(namespace, site);
        let now = self.clock.now();
        let planned = plan(&view, now);
        let mut applied = Applied::default();
        if !planned.clear.is_empty() {
            self.clear(namespace, &view, &planned.clear, &reading, &mut applied)
                .await?;
            if applied.again {
                // The fence may have been raised: what follows is planned over another reading.
                return Ok(applied);
            }
        }
        let Some(vm) = &reading.vm else {
            return Ok(applied);
        };
        let planned = self.verify_detaches(namespace, machine, planned, &mut applied).await?;
        let planned = self.write_records(&view, planned, &mut applied).await?;
        self.patch_machine(namespace, &view, vm, &planned, &mut applied, now)
            .await?;
        Ok(applied)
    }

    async fn read(&self, namespace: &str, machine: &str) -> Result<Reading> {
        let vm = Fresh::get(&self.machines(namespace), machine).await?;
        let instances: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), namespace);
        let instance = Fresh::get(&instances, machine).await?;
        Ok(Reading { vm, instance })
    }

    fn site(&self, machine: &str, reading: &Reading) -> Site {
        let instance = reading.instance.as_deref().map(parse::instance);
        Site {
            machine: machine.to_owned(),
            vm: reading.vm.as_deref().and_then(observe).map(Arc::new),
            node: instance.as_ref().and_then(|instance| self.observed.node_of(instance)),
            instance: instance.map(Arc::new),
        }
    }

    fn note_machine(&self, namespace: &str, machine: &str, reading: &Reading, site: &Site) {
        let object = ObjectRef::new(namespace, machine);
        if let (Some(read), Some(vm)) = (reading.vm.as_deref(), &site.vm) {
            let seen = ObservedMachine::clone(vm);
            self.observed
                .machines
                .index()
                .upsert(object.clone(), version_of(read), seen);
        }
        if let (Some(read), Some(instance)) = (reading.instance.as_deref(), &site.instance) {
            let seen = instance.as_ref().clone();
            self.observed.instances.index().upsert(object, version_of(read), seen);
        }
    }

    /// Clears the records of volumes that machine and instance are seen without. The fence is raised first where an earlier
    /// attachment might still be on its way.
    async fn clear(
        &self,
        namespace: &str,
        view: &MachineView,
        volumes: &[String],
        reading: &Reading,
        applied: &mut Applied,
    ) -> Result<()> {
        let records: Vec<(&Volume, &Placement)> = volumes
            .iter()
            .filter_map(|id| find(view, id))
            .filter_map(|volume| volume.placement.as_ref().map(|record| (volume, record)))
            .collect();
        let judge = |reading: &Reading, (volume, record): &(&Volume, &Placement)| {
            clearance(record, &trace(reading, volume.id()))
        };
        let again;
        let mut reading = reading;
        if let Some(vm) = &reading.vm
            && records
                .iter()
                .any(|entry| judge(reading, entry) == Clearance::RaiseFence)
        {
            applied.again = true;
            let value = value_of(vm)?;
            match self
                .send(namespace, &view.site.machine, &value, render_fence(&value))
                .await?
            {
                Patched::Done(_) => {}
                Patched::Moved => return Ok(()),
                Patched::Refused(message) => return Err(InfraError::Invalid(message)),
            }
            again = self.read(namespace, &view.site.machine).await?;
            reading = &again;
        }
        for entry in &records {
            let (volume, record) = entry;
            if judge(reading, entry) != Clearance::Clear {
                applied.waits = true;
                tracing::debug!(volume = %volume.name, %record, "the record is kept: the machine may still have the volume");
                continue;
            }
            let cleared = BTreeMap::from([(labels::PLACED_ON, None), (labels::ATTACH_REFUSAL, None)]);
            applied.again = true;
            if self.swap_annotations(volume, cleared).await? == Swap::Made {
                tracing::info!(volume = %volume.name, machine = view.site.machine, "the machine has released the volume");
            }
        }
        Ok(())
    }

    /// Leaves out detaches of volumes that a fresh read wants on the machine: the index may be behind.
    async fn verify_detaches(
        &self,
        namespace: &str,
        machine: &str,
        mut planned: MachinePlan,
        applied: &mut Applied,
    ) -> Result<MachinePlan> {
        let api = self.volumes(namespace);
        let read = |detach: &Detach| {
            let (api, volume) = (api.clone(), detach.volume.clone());
            async move { Fresh::get(&api, &volume).await }.boxed()
        };
        let reads: Vec<BoxFuture<'_, _>> = planned.detach.iter().map(read).collect();
        let reads: Vec<_> = stream::iter(reads).buffered(CONCURRENT_RECORDS).try_collect().await?;
        let mut kept = Vec::new();
        for (detach, read) in planned.detach.drain(..).zip(reads) {
            let volume = read.as_deref().and_then(parse::volume);
            if volume
                .as_ref()
                .is_some_and(|volume| volume.wanted_on() == Some(machine))
            {
                applied.again = true;
            } else {
                kept.push(detach);
            }
            if let Some(volume) = volume {
                self.observed.put_volume(volume);
            }
        }
        planned.detach = kept;
        Ok(planned)
    }

    /// Writes the placement records that a plan needs; what lost its race is left out of the plan.
    async fn write_records(
        &self,
        view: &MachineView,
        mut planned: MachinePlan,
        applied: &mut Applied,
    ) -> Result<MachinePlan> {
        let Some(record) = record_for(&view.site).map(|record| record.to_string()) else {
            return Ok(MachinePlan::default());
        };
        let mut writes: Vec<BoxFuture<'_, Result<(String, Swap)>>> = Vec::new();
        for volume in planned.record.iter().filter_map(|id| find(view, id)) {
            let annotations = BTreeMap::from([(labels::PLACED_ON, Some(record.clone()))]);
            let write = async move {
                Ok((
                    volume.id().to_owned(),
                    self.swap_annotations(volume, annotations).await?,
                ))
            };
            writes.push(write.boxed());
        }
        let outcomes: Vec<(String, Swap)> = stream::iter(writes)
            .buffer_unordered(CONCURRENT_RECORDS)
            .try_collect()
            .await?;
        let lost: Vec<String> = outcomes
            .into_iter()
            .filter(|(_, swap)| *swap == Swap::Lost)
            .map(|(id, _)| id)
            .collect();
        applied.again |= !lost.is_empty();
        planned.attach.retain(|attach| !lost.contains(&attach.claim));
        planned.retry.retain(|attach| !lost.contains(&attach.claim));
        Ok(planned)
    }

    async fn patch_machine(
        &self,
        namespace: &str,
        view: &MachineView,
        vm: &Fresh<DynamicObject>,
        planned: &MachinePlan,
        applied: &mut Applied,
        now: Timestamp,
    ) -> Result<()> {
        let machine = view.site.machine.as_str();
        let mut present = value_of(vm)?;
        let mut batches = Batches::of(planned);
        while let Some(batch) = batches.take() {
            let Some(patch) = render(&present, &batch) else {
                continue;
            };
            match self.send(namespace, machine, &present, patch).await? {
                Patched::Done(object) => {
                    applied.patches += 1;
                    applied.attached += batch.attach.len();
                    applied.detached += batch.detach.len();
                    self.note_patched(namespace, view, &object, &batch).await;
                    if !batch.detach.is_empty() {
                        // The fence was raised: records of what is still to be attached are out of date.
                        applied.again |= batches.take().is_some();
                        return Ok(());
                    }
                    present = value_of(&object)?;
                }
                Patched::Moved => {
                    applied.again = true;
                    return Ok(());
                }
                Patched::Refused(message) => {
                    tracing::warn!(namespace, machine, attaches = batch.attach.len(), message, at = %now, "a patch was refused");
                    match batches.refused(batch) {
                        Verdict::Split => {}
                        Verdict::AtFault(attach) => {
                            applied.refused += 1;
                            self.note_refused(view, &attach.claim, &message).await?;
                        }
                        Verdict::CannotDetach => return Err(InfraError::Invalid(message)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a patch over the virtual machine as it was read. A refusal is told from a lost race by another read.
    async fn send(&self, namespace: &str, machine: &str, read: &Value, patch: json_patch::Patch) -> Result<Patched> {
        let api = self.machines(namespace);
        match patch_json(&api, FieldManager::Storage, machine, patch).await {
            Ok(object) => Ok(Patched::Done(Box::new(object))),
            Err(InfraError::Conflict(_) | InfraError::NotFound(_)) => Ok(Patched::Moved),
            Err(InfraError::Invalid(message) | InfraError::Forbidden(message)) => {
                let present = api.get_opt(machine).await?;
                let moved = match &present {
                    Some(present) => is_moved(read, &value_of(present)?),
                    None => true,
                };
                Ok(if moved {
                    Patched::Moved
                } else {
                    Patched::Refused(message)
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn note_patched(&self, namespace: &str, view: &MachineView, object: &DynamicObject, batch: &Batch) {
        let machine = view.site.machine.as_str();
        if let Some(seen) = observe(object) {
            let index = self.observed.machines.index();
            index.upsert(ObjectRef::new(namespace, machine), version_of(object), seen);
        }
        let (attached, detached) = (batch.attach.len(), batch.detach.len());
        tracing::info!(
            namespace,
            machine,
            attached,
            detached,
            "changed the volumes of a machine"
        );
        for attach in &batch.attach {
            let shown = view
                .site
                .instance
                .as_ref()
                .is_some_and(|instance| instance.shown(&attach.claim).is_some());
            if let (Some(volume), true) = (find(view, &attach.claim), shown) {
                self.events
                    .publish(volume, Notice::Reattached(machine.to_owned()))
                    .await;
            }
        }
        for detach in &batch.detach {
            // Where it was put by us, the record says so.
            if let Some(volume) = find(view, &detach.volume)
                && volume.placement.as_ref().is_none_or(|record| record.machine != machine)
            {
                self.events
                    .publish(volume, Notice::DriftDetached(machine.to_owned()))
                    .await;
            }
        }
    }

    async fn note_refused(&self, view: &MachineView, volume: &str, message: &str) -> Result<()> {
        let Some(volume) = find(view, volume) else {
            return Ok(());
        };
        let machine = view.site.machine.clone();
        // The record was written since the view was made.
        let present = self.observed.volumes.index().get(&volume.name.namespace(), volume.id());
        let present = present.as_deref().unwrap_or(volume);
        self.note_attach_refusal(present, &machine, message).await?;
        let message = message.to_owned();
        self.events
            .publish(volume, Notice::AttachRefused { machine, message })
            .await;
        Ok(())
    }
}

fn find<'a>(view: &'a MachineView, volume: &str) -> Option<&'a Volume> {
    let concerned = |concerned: &&Concerned| concerned.volume.id() == volume;
    view.volumes
        .iter()
        .find(concerned)
        .map(|concerned| concerned.volume.as_ref())
}

fn value_of(object: &DynamicObject) -> Result<Value> {
    serde_json::to_value(object).map_err(|error| InfraError::from(kube::Error::SerdeError(error)))
}

fn observe(object: &DynamicObject) -> Option<ObservedMachine> {
    let vm: VirtualMachine = serde_json::from_value(serde_json::to_value(object).ok()?).ok()?;
    Some(parse::machine(&vm))
}

/// What was read of one volume at a machine.
fn trace(reading: &Reading, volume: &str) -> Trace {
    let vm = reading.vm.as_deref().map(|object| {
        // What cannot be read may have the volume.
        observe(object).map_or(
            VmTrace {
                uid: String::new(),
                fence: 0,
                shows: true,
                deleting: false,
                settled: false,
            },
            |vm| VmTrace {
                shows: vm.plugged(volume).is_some(),
                uid: vm.uid,
                fence: vm.fence,
                deleting: vm.deleting,
                settled: vm.settled,
            },
        )
    });
    let instance = reading.instance.as_deref().map(|object| InstanceTrace {
        shows: parse::instance(object).shown(volume).is_some(),
    });
    Trace { vm, instance }
}
