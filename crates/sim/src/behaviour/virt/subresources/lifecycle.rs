//! start, stop, restart, migrate.

use kube::{
    Api, ResourceExt,
    api::{Patch, PostParams},
};
use serde_json::{Value, json};
use steading_infra::kubevirt::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration, virtual_machine::RunStrategy,
    virtual_machine_instance::VmiPhase,
};

use super::{Call, Subresources, json_patch, passed_on};
use steading_kubesim::ApiError;

use crate::behaviour::virt::vm::run_strategy;

const NOT_RUNNING: &str = "VM is not running";

impl Subresources {
    pub(super) async fn start(&self, call: &Call) -> Result<(), ApiError> {
        let vm = self.machine(call).await?;
        let vmi = self.instances(call).get_opt(&call.name).await.map_err(passed_on)?;
        if vmi.as_ref().is_some_and(|vmi| !is_over(vmi)) {
            return Err(call.conflict("VM is already running"));
        }
        let paused = call.options["paused"] == true;
        let data = if paused { json!({ "paused": "true" }) } else { json!({}) };
        let start = json!({ "action": "Start", "data": data });
        match run_strategy(&vm) {
            RunStrategy::Halted if !paused => self.set_running(call, &vm, true).await,
            RunStrategy::Halted => self.ask(call, &vm, &[start]).await,
            strategy @ (RunStrategy::Manual | RunStrategy::RerunOnFailure) => match vmi {
                Some(vmi) if strategy == RunStrategy::RerunOnFailure && phase(&vmi) == Some(&VmiPhase::Failed) => {
                    Err(call.conflict("RerunOnFailure does not support starting VM from failed state"))
                }
                Some(vmi) => self.ask(call, &vm, &[stop_of(&vmi), start]).await,
                None => self.ask(call, &vm, &[start]).await,
            },
            strategy => Err(call.conflict(&format!("{strategy} does not support manual start requests"))),
        }
    }

    pub(super) async fn stop(&self, call: &Call) -> Result<(), ApiError> {
        let vm = self.machine(call).await?;
        let vmi = self.instances(call).get_opt(&call.name).await.map_err(passed_on)?;
        let running = vmi.filter(|vmi| !is_over(vmi));
        match run_strategy(&vm) {
            RunStrategy::Halted => {
                let vmi = running.ok_or_else(|| call.conflict(NOT_RUNNING))?;
                let shorter = call.options["gracePeriod"]
                    .as_i64()
                    .is_some_and(|grace| vmi.spec.termination_grace_period_seconds.is_none_or(|old| grace < old));
                if !shorter {
                    let why = "Halted only supports manual stop requests with a shorter graceperiod";
                    return Err(call.conflict(why));
                }
                self.ask(call, &vm, &[stop_of(&vmi)]).await
            }
            RunStrategy::Manual | RunStrategy::RerunOnFailure => {
                let vmi = running.ok_or_else(|| call.conflict(NOT_RUNNING))?;
                self.ask(call, &vm, &[stop_of(&vmi)]).await
            }
            _ => self.set_running(call, &vm, false).await,
        }
    }

    pub(super) async fn restart(&self, call: &Call) -> Result<(), ApiError> {
        let grace = call.options["gracePeriodSeconds"].as_i64();
        if grace.is_some_and(|grace| grace != 0) {
            let why = match grace {
                Some(1..) => "For force restart, only gracePeriod=0 is supported for now",
                _ => "gracePeriod has to be greater or equal to 0",
            };
            return Err(ApiError::bad_request(why));
        }
        let vm = self.machine(call).await?;
        let strategy = run_strategy(&vm);
        if matches!(strategy, RunStrategy::Halted | RunStrategy::Once) {
            let why = format!("RunStategy {strategy} does not support manual restart requests");
            return Err(call.conflict(&why));
        }
        let found = self.instances(call).get_opt(&call.name).await.map_err(passed_on)?;
        let vmi = found.ok_or_else(|| call.conflict("VM is not running: Halted"))?;
        self.ask(call, &vm, &[stop_of(&vmi), json!({ "action": "Start" })])
            .await
    }

    pub(super) async fn migrate(&self, call: &Call) -> Result<(), ApiError> {
        self.machine(call).await?;
        let vmi = self.instance(call).await?;
        if phase(&vmi) != Some(&VmiPhase::Running) {
            return Err(call.conflict(NOT_RUNNING));
        }
        let mut migration = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": { "generateName": "kubevirt-migrate-vm-" }, "spec": { "vmiName": call.name },
        });
        if let Some(added) = call.options.get("addedNodeSelector") {
            migration["spec"]["addedNodeSelector"] = added.clone();
        }
        let migration = serde_json::from_value(migration).map_err(|error| ApiError::internal(error.to_string()))?;
        let api: Api<VirtualMachineInstanceMigration> = Api::namespaced(self.client.clone(), &call.namespace);
        let params = PostParams {
            dry_run: call.params().dry_run,
            ..PostParams::default()
        };
        let outcome = api.create(&params, &migration).await;
        outcome.map(|_| ()).map_err(internal)
    }

    /// Changes what the VM says about itself: its run strategy, or `running` where it says it in the old way.
    async fn set_running(&self, call: &Call, vm: &VirtualMachine, running: bool) -> Result<(), ApiError> {
        let patch = match &vm.spec.run_strategy {
            Some(strategy) => {
                let next = if running { "Always" } else { "Halted" };
                replacement("/spec/runStrategy", &json!(strategy), &json!(next))
            }
            None => replacement("/spec/running", &json!(!running), &json!(running)),
        };
        let patch = json_patch::<()>(patch)?;
        let outcome = self.machines(call).patch(&call.name, &call.params(), &patch).await;
        outcome.map(|_| ()).map_err(internal)
    }

    /// Asks the VM controller for something, by the VM's status.
    async fn ask(&self, call: &Call, vm: &VirtualMachine, requests: &[Value]) -> Result<(), ApiError> {
        let pending = vm.status.clone().unwrap_or_default().state_change_requests;
        let stops = requests.len() == 1 && requests[0]["action"] == "Stop";
        if !pending.is_empty() && !stops {
            return Err(ApiError::internal(
                "unable to complete request: stop/start already underway",
            ));
        }
        let status = json!({ "status": { "stateChangeRequests": requests } });
        let patch = Patch::Merge(status);
        let outcome = self
            .machines(call)
            .patch_status(&call.name, &call.params(), &patch)
            .await;
        outcome.map(|_| ()).map_err(internal)
    }
}

fn replacement(path: &str, old: &Value, new: &Value) -> Value {
    json!([{ "op": "test", "path": path, "value": old }, { "op": "replace", "path": path, "value": new }])
}

fn stop_of(vmi: &VirtualMachineInstance) -> Value {
    json!({ "action": "Stop", "uid": vmi.uid() })
}

/// What a write was refused for is passed on as an error of virt-api's own.
fn internal(error: kube::Error) -> ApiError {
    let message = passed_on(error).message;
    let mut error = ApiError::internal(message.clone());
    error.details.causes.push(steading_kubesim::Cause::new("", "", message));
    error
}

fn phase(vmi: &VirtualMachineInstance) -> Option<&VmiPhase> {
    vmi.status.as_ref().and_then(|status| status.phase.as_ref())
}

fn is_over(vmi: &VirtualMachineInstance) -> bool {
    phase(vmi).is_some_and(VmiPhase::is_final)
}
