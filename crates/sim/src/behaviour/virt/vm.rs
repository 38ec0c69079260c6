//! The VM controller: start, stop, hot-plug into the VMI, status.

use std::time::Duration;

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use steading_infra::{
    kubevirt::{
        VirtualMachine, VirtualMachineInstance, condition,
        virtual_machine::{
            ControllerRevisionRef, InstancetypeStatusRef, Matcher, PrintableStatus, RunStrategy, VirtualMachineStatus,
        },
        virtual_machine_instance::{MigrationState, VmiPhase},
    },
    labels,
};

use super::{
    Virt,
    merge::{Merged, merge},
    start::{INSTANCETYPE, Start, revision_name},
    status::{clear, set},
};
use crate::{
    apiserver::Key,
    behaviour::drive::{Again, unless_gone},
};

/// What is to be done about a VM's VMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// There should be one.
    Running,
    /// There should be none.
    Stopped,
    /// Whatever there is may stay.
    AsItIs,
}

fn wanted(strategy: &RunStrategy, phase: Option<&VmiPhase>, started: bool) -> Wanted {
    let over = phase.is_some_and(VmiPhase::is_final);
    let run_if = |go: bool, otherwise: Wanted| if go { Wanted::Running } else { otherwise };
    match strategy {
        RunStrategy::Halted => Wanted::Stopped,
        RunStrategy::Always => run_if(!over, Wanted::Stopped),
        RunStrategy::RerunOnFailure => run_if(
            !over,
            if phase == Some(&VmiPhase::Failed) {
                Wanted::Stopped
            } else {
                Wanted::AsItIs
            },
        ),
        RunStrategy::Once => run_if(!started, Wanted::AsItIs),
        RunStrategy::Manual | RunStrategy::WaitAsReceiver | RunStrategy::Other(_) => Wanted::AsItIs,
    }
}

impl Virt {
    pub(super) async fn sync_vm(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
    ) -> kube::Result<Again> {
        if vm.metadata.deletion_timestamp.is_some() {
            return self.end_vm(key, vm, vmi).await;
        }
        if !vm
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == labels::KUBEVIRT_VM_FINALIZER)
        {
            self.write_finalizers(key, vm, |finalizers| {
                finalizers.push(labels::KUBEVIRT_VM_FINALIZER.to_owned())
            })
            .await?;
            return Ok(None);
        }
        let mut status = vm.status.clone().unwrap_or_default();
        clear(&mut status.conditions, "Failure");
        let strategy = vm.spec.run_strategy.clone().unwrap_or(RunStrategy::Halted);
        let phase = vmi
            .and_then(|vmi| vmi.status.as_ref())
            .and_then(|status| status.phase.clone());
        let mut waits = None;
        let mut again = None;
        match (
            wanted(
                &strategy,
                phase.as_ref(),
                status.created || status.start_failure.is_some(),
            ),
            vmi,
        ) {
            (Wanted::Running, None) => match self.start(key, vm).await? {
                Start::Made => waits = Some(PrintableStatus::Starting),
                Start::Waits(word, after) => (waits, again) = (Some(word), after),
                Start::Fails(reason, message) => {
                    set(
                        &self.context,
                        &mut status.conditions,
                        "Failure",
                        "True",
                        reason,
                        &message,
                    );
                    again = Some(Duration::from_secs(1));
                }
            },
            (Wanted::Stopped, Some(vmi)) if vmi.metadata.deletion_timestamp.is_none() => {
                self.delete_vmi(key, vmi).await?
            }
            (Wanted::Running, Some(vmi)) if vmi.metadata.deletion_timestamp.is_none() => {
                self.pass_on_volumes(key, vm, vmi, &mut status).await?;
            }
            _ => {}
        }
        self.fill(vm, vmi, &mut status, waits, &strategy);
        self.write_vm(key, vm, status).await?;
        Ok(again)
    }

    async fn end_vm(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
    ) -> kube::Result<Again> {
        match vmi {
            Some(vmi) if vmi.metadata.deletion_timestamp.is_none() => self.delete_vmi(key, vmi).await?,
            Some(_) => {}
            None => {
                self.write_finalizers(key, vm, |finalizers| {
                    finalizers.retain(|found| found != labels::KUBEVIRT_VM_FINALIZER)
                })
                .await?
            }
        }
        Ok(None)
    }

    pub(super) async fn delete_vmi(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
        let only = Preconditions {
            uid: vmi.uid(),
            resource_version: None,
        };
        unless_gone(
            api.delete(&key.name, &DeleteParams::background().preconditions(only))
                .await,
        )
        .map(|_| ())
    }

    async fn write_finalizers(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        change: impl FnOnce(&mut Vec<String>),
    ) -> kube::Result<()> {
        let mut finalizers = vm.finalizers().to_vec();
        change(&mut finalizers);
        if finalizers == vm.finalizers() {
            return Ok(());
        }
        let patch =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": vm.metadata.resource_version } });
        let api: Api<VirtualMachine> = self.api(&key.namespace);
        unless_gone(
            api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
        .map(|_| ())
    }

    /// Declarative hot-plug: the VMI's hot-pluggable volumes follow the VM's.
    async fn pass_on_volumes(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: &VirtualMachineInstance,
        status: &mut VirtualMachineStatus,
    ) -> kube::Result<()> {
        let Some(template) = &vm.spec.template else {
            return Ok(());
        };
        if is_migrating(vmi) {
            return Ok(());
        }
        match merge(&template.spec, &vmi.spec) {
            Merged::Same => {}
            Merged::Refused(message) => set(
                &self.context,
                &mut status.conditions,
                "Failure",
                "True",
                "HotPlugVolumeError",
                &message,
            ),
            Merged::Changed(spec) => {
                let mut next = vmi.clone();
                next.spec.spec = *spec;
                let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
                api.replace(&key.name, &PostParams::default(), &next).await?;
            }
        }
        Ok(())
    }

    fn fill(
        &self,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
        status: &mut VirtualMachineStatus,
        waits: Option<PrintableStatus>,
        strategy: &RunStrategy,
    ) {
        let of_vmi = vmi.and_then(|vmi| vmi.status.clone()).unwrap_or_default();
        status.created = vmi.is_some();
        status.ready = of_vmi.phase == Some(VmiPhase::Running);
        status.printable_status = Some(waits.unwrap_or_else(|| word(vmi)));
        status.run_strategy = Some(strategy.clone());
        status.desired_generation = vm.metadata.generation;
        status.observed_generation = vm.metadata.generation;
        status.instancetype_ref = reference(
            vm,
            vm.spec.instancetype.as_ref(),
            vmi.is_some(),
            status.instancetype_ref.take(),
        );
        status.preference_ref = reference(
            vm,
            vm.spec.preference.as_ref(),
            vmi.is_some(),
            status.preference_ref.take(),
        );
        for type_ in [
            "Ready",
            "LiveMigratable",
            "AgentConnected",
            "EvictionRequested",
            "PodScheduled",
        ] {
            match condition(&of_vmi.conditions, type_) {
                Some(found) => {
                    let (reason, message) = (
                        found.reason.clone().unwrap_or_default(),
                        found.message.clone().unwrap_or_default(),
                    );
                    set(
                        &self.context,
                        &mut status.conditions,
                        type_,
                        &found.status,
                        &reason,
                        &message,
                    );
                }
                None => clear(&mut status.conditions, type_),
            }
        }
        if vmi.is_none() {
            set(
                &self.context,
                &mut status.conditions,
                "Ready",
                "False",
                "VMINotExists",
                "VMI does not exist",
            );
        }
        let made_of = vmi.and_then(|vmi| vmi.annotations().get(INSTANCETYPE).cloned());
        let asks = vm.spec.instancetype.as_ref().map(|matcher| matcher.name.clone());
        if vmi.is_some() && made_of != asks {
            let message = "a non-live-updatable field was changed in the template spec";
            set(
                &self.context,
                &mut status.conditions,
                "RestartRequired",
                "True",
                "",
                message,
            );
        } else {
            clear(&mut status.conditions, "RestartRequired");
        }
    }

    async fn write_vm(&self, key: &Key, vm: &VirtualMachine, status: VirtualMachineStatus) -> kube::Result<()> {
        if vm.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let next = VirtualMachine {
            status: Some(status),
            ..vm.clone()
        };
        let api: Api<VirtualMachine> = self.api(&key.namespace);
        unless_gone(api.replace_status(&key.name, &PostParams::default(), &next).await).map(|_| ())
    }
}

fn reference(
    vm: &VirtualMachine,
    matcher: Option<&Matcher>,
    started: bool,
    known: Option<InstancetypeStatusRef>,
) -> Option<InstancetypeStatusRef> {
    let matcher = matcher?;
    if known
        .as_ref()
        .is_some_and(|known| known.name.as_deref() == Some(&matcher.name))
        || !started
    {
        return known;
    }
    Some(InstancetypeStatusRef {
        name: Some(matcher.name.clone()),
        kind: matcher.kind.clone(),
        controller_revision_ref: Some(ControllerRevisionRef {
            name: revision_name(vm, &matcher.name),
        }),
        ..InstancetypeStatusRef::default()
    })
}

/// Whether a migration of the VMI has begun and not ended.
pub(super) fn is_migrating(vmi: &VirtualMachineInstance) -> bool {
    let state = vmi.status.as_ref().and_then(|status| status.migration_state.as_ref());
    state.is_some_and(MigrationState::is_under_way)
}

fn word(vmi: Option<&VirtualMachineInstance>) -> PrintableStatus {
    let Some(vmi) = vmi else {
        return PrintableStatus::Stopped;
    };
    let status = vmi.status.clone().unwrap_or_default();
    if vmi.metadata.deletion_timestamp.is_some() {
        return PrintableStatus::Stopping;
    }
    let unschedulable = condition(&status.conditions, "PodScheduled").is_some_and(|found| found.status == "False");
    match status.phase {
        Some(VmiPhase::Running) if is_migrating(vmi) => PrintableStatus::Migrating,
        Some(VmiPhase::Running) => PrintableStatus::Running,
        Some(VmiPhase::Succeeded | VmiPhase::Failed) => PrintableStatus::Stopped,
        _ if unschedulable => PrintableStatus::ErrorUnschedulable,
        _ => PrintableStatus::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_strategy_says_what_it_wants() {
        let table = [
            (RunStrategy::Always, None, false, Wanted::Running),
            (RunStrategy::Always, Some(VmiPhase::Succeeded), true, Wanted::Stopped),
            (RunStrategy::Halted, Some(VmiPhase::Running), true, Wanted::Stopped),
            (
                RunStrategy::RerunOnFailure,
                Some(VmiPhase::Failed),
                true,
                Wanted::Stopped,
            ),
            (
                RunStrategy::RerunOnFailure,
                Some(VmiPhase::Succeeded),
                true,
                Wanted::AsItIs,
            ),
            (RunStrategy::Once, None, true, Wanted::AsItIs),
            (RunStrategy::Manual, None, false, Wanted::AsItIs),
        ];
        for (strategy, phase, started, expected) in table {
            assert_eq!(
                wanted(&strategy, phase.as_ref(), started),
                expected,
                "{strategy} {phase:?}"
            );
        }
    }
}
