//! The VM controller: start, stop, hot-plug into the VMI, status.

mod change;
mod strategy;
mod words;

use std::time::Duration;

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use steading_infra::{
    kubevirt::{
        VirtualMachine, VirtualMachineInstance,
        virtual_machine::{PrintableStatus, RunStrategy, VirtualMachineStatus},
        virtual_machine_instance::VmiPhase,
    },
    labels,
};
use steading_kubesim::Key;

use self::strategy::{Seen, Step};
use self::words::{is_migrating, is_over};
use super::{
    Virt,
    merge::{Merged, merge},
    start::{Failure, GENERATION},
    status::{clear, set},
};
use crate::behaviour::{
    drive::{Again, unless_gone},
    timers::owned_by,
};

/// Annotations with which KubeVirt's controllers say which version of the API they have seen.
const OBSERVED: [&str; 2] = [
    "kubevirt.io/latest-observed-api-version",
    "kubevirt.io/storage-observed-api-version",
];

/// When the controller tries again what failed, whether or not anything has changed.
const RETRY: Duration = Duration::from_secs(1);

/// What VMs have as their run strategy; `running` says it in the old way.
pub(super) fn run_strategy(vm: &VirtualMachine) -> RunStrategy {
    match (&vm.spec.run_strategy, vm.spec.other.get("running")) {
        (Some(strategy), _) => strategy.clone(),
        (None, Some(Value::Bool(true))) => RunStrategy::Always,
        (None, _) => RunStrategy::Halted,
    }
}

impl Virt {
    pub(super) async fn sync_vm(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
    ) -> kube::Result<Again> {
        let vmi = vmi.filter(|vmi| owner_of(vmi).is_none_or(|owner| Some(owner) == vm.uid()));
        if vm.metadata.deletion_timestamp.is_some() {
            return self.end_vm(key, vm, vmi.filter(|vmi| owner_of(vmi).is_some())).await;
        }
        if !vm
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == labels::KUBEVIRT_VM_FINALIZER)
        {
            return self.claim(key, vm).await;
        }
        if let Some(vmi) = vmi.filter(|vmi| owner_of(vmi).is_none() && vmi.metadata.deletion_timestamp.is_none()) {
            return self.adopt(key, vm, vmi).await;
        }
        let mut status = vm.status.clone().unwrap_or_default();
        let (failure, again) = match self.advance(key, vm, vmi, &mut status).await? {
            Ok(again) => (None, again),
            Err(failure) => (Some(failure), Some(RETRY)),
        };
        self.report(key, vm, vmi, status, failure.as_ref()).await?;
        if let Some(vmi) = vmi.filter(|vmi| is_over(vmi)) {
            self.let_go(key, vmi).await?;
        }
        Ok(again)
    }

    /// Brings a VM one step on; what it cannot do, if so.
    async fn advance(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
        status: &mut VirtualMachineStatus,
    ) -> kube::Result<Result<Again, Failure>> {
        if let Err(failure) = self.keep_revisions(key, vm, status).await? {
            return Ok(Err(failure));
        }
        let strategy = run_strategy(vm);
        let filled = self.data_volumes(key, vm).await?;
        if !filled && strategy != RunStrategy::Halted {
            return Ok(Ok(None));
        }
        let vm = &VirtualMachine {
            status: Some(status.clone()),
            ..vm.clone()
        };
        match strategy::step(&strategy, status, vmi.map(Seen::of).as_ref()) {
            Step::Start => {
                let wait = strategy::backoff(status, self.context.time.now());
                if wait.is_some() {
                    return Ok(Ok(wait));
                }
                clear(&mut status.conditions, "RestartRequired");
                return Ok(self.start(key, vm).await?.map(|()| None));
            }
            Step::Stop { rerun } => {
                if let Some(vmi) = vmi {
                    self.delete_vmi(key, vmi).await?;
                }
                clear(&mut status.conditions, "RestartRequired");
                if rerun {
                    status.state_change_requests.push(json!({ "action": "Start" }));
                }
                return Ok(Ok(None));
            }
            Step::Always => {
                let patch = json!({ "spec": { "runStrategy": "Always" } });
                let api: Api<VirtualMachine> = self.api(&key.namespace);
                unless_gone(
                    api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                        .await,
                )?;
                return Ok(Ok(None));
            }
            Step::Nothing => {}
        }
        let Some(vmi) = vmi.filter(|vmi| vmi.metadata.deletion_timestamp.is_none()) else {
            return Ok(Ok(None));
        };
        if vm.metadata.generation != made_from(vmi) {
            self.take_over(key, vm, vmi, status).await?;
        }
        Ok(self.pass_on_volumes(key, vm, vmi).await?.map(|()| None))
    }

    async fn end_vm(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
    ) -> kube::Result<Again> {
        let orphans = vm.finalizers().iter().any(|finalizer| finalizer == "orphan");
        let Some(vmi) = vmi.filter(|_| !orphans) else {
            self.write_finalizers(key, vm, |finalizers| {
                finalizers.retain(|found| found != labels::KUBEVIRT_VM_FINALIZER)
            })
            .await?;
            return Ok(None);
        };
        let mut status = vm.status.clone().unwrap_or_default();
        status.printable_status = Some(PrintableStatus::Terminating);
        self.write_vm(key, vm, status).await?;
        self.delete_vmi(key, vmi).await?;
        if is_over(vmi) {
            self.let_go(key, vmi).await?;
        }
        Ok(None)
    }

    pub(super) async fn delete_vmi(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        if vmi.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
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

    /// Takes the VM controller's finalizer off a VMI that is over, now that its end was seen.
    async fn let_go(&self, key: &Key, vmi: &VirtualMachineInstance) -> kube::Result<()> {
        let rest: Vec<&String> = vmi
            .finalizers()
            .iter()
            .filter(|found| *found != labels::KUBEVIRT_VM_FINALIZER)
            .collect();
        if rest.len() == vmi.finalizers().len() {
            return Ok(());
        }
        let patch = json!({ "metadata": { "finalizers": rest, "resourceVersion": vmi.metadata.resource_version } });
        let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
        unless_gone(
            api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )
        .map(|_| ())
    }

    /// Takes on a VM that is new.
    async fn claim(&self, key: &Key, vm: &VirtualMachine) -> kube::Result<Again> {
        let mut finalizers = vm.finalizers().to_vec();
        finalizers.push(labels::KUBEVIRT_VM_FINALIZER.to_owned());
        let patch = json!({ "metadata": {
            "finalizers": finalizers, "resourceVersion": vm.metadata.resource_version,
            "annotations": { OBSERVED[0]: "v1", OBSERVED[1]: "v1" },
        }});
        let api: Api<VirtualMachine> = self.api(&key.namespace);
        unless_gone(
            api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(None)
    }

    /// Makes a VMI without an owner the VM's own.
    async fn adopt(&self, key: &Key, vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> kube::Result<Again> {
        let patch = json!({ "metadata": {
            "ownerReferences": [owned_by(vm)], "resourceVersion": vmi.metadata.resource_version,
        }});
        let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
        unless_gone(
            api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
                .await,
        )?;
        Ok(None)
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
    ) -> kube::Result<Result<(), Failure>> {
        let running = vmi
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Some(VmiPhase::Running));
        let Some(template) = vm.spec.template.as_ref().filter(|_| running && !is_migrating(vmi)) else {
            return Ok(Ok(()));
        };
        match merge(&template.spec, &vmi.spec) {
            Merged::Same => {}
            Merged::Refused(message) => {
                let message = format!("Error encountered while handling declarative hotplug volumes: {message}");
                return Ok(Err(Failure::new("HotPlugVolumeError", message)));
            }
            Merged::Changed(spec) => {
                let mut next = vmi.clone();
                next.spec.spec = *spec;
                let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
                api.replace(&key.name, &PostParams::default(), &next).await?;
            }
        }
        Ok(Ok(()))
    }

    async fn report(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
        mut status: VirtualMachineStatus,
        failure: Option<&Failure>,
    ) -> kube::Result<()> {
        let context = &self.context;
        let strategy = run_strategy(vm);
        status.created = vmi.is_some();
        status.ready = vmi.is_some_and(words::is_ready);
        if let Some(vmi) = vmi {
            status.desired_generation = vm.metadata.generation;
            status.observed_generation = made_from(vmi);
        }
        if status.run_strategy.is_some() || status.created {
            status.run_strategy = Some(strategy.clone());
        }
        strategy::trim(&mut status, vmi.map(Seen::of).as_ref());
        strategy::count_failures(&mut status, &strategy, vmi, context.time.now());
        words::conditions(context, &mut status, vmi);
        match failure {
            Some(Failure(reason, message)) => {
                set(context, &mut status.conditions, "Failure", "True", reason, message);
            }
            None => clear(&mut status.conditions, "Failure"),
        }
        let volumes = self.volumes_of(key, vm);
        status.printable_status = Some(words::word(&status, &strategy, vmi, volumes));
        self.write_vm(key, vm, status).await
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

/// Uid of a VMI's controller.
fn owner_of(vmi: &VirtualMachineInstance) -> Option<String> {
    let owners = vmi.owner_references();
    owners
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
}

/// The generation of the VM that a VMI is made from.
fn made_from(vmi: &VirtualMachineInstance) -> Option<i64> {
    vmi.annotations().get(GENERATION)?.parse().ok()
}
