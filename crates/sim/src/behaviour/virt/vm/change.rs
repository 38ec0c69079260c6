//! A VM whose spec has changed since its VMI was made: what the VMI follows at once, and what wants a restart.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};
use steading_infra::kubevirt::{
    VirtualMachine, VirtualMachineInstance, virtual_machine::VirtualMachineStatus, virtual_machine_instance::VmiPhase,
};
use steading_kubesim::Key;

use super::{
    super::{
        Virt,
        start::{GENERATION, revision_of},
        status::{clear, set},
    },
    made_from,
};
use crate::behaviour::{drive::unless_gone, virt_api::types};

/// Fields of the spec that a VMI follows while it runs.
const FOLLOWED: [&str; 3] = ["nodeSelector", "affinity", "tolerations"];

impl Virt {
    /// Compares a VM with what its VMI was made from.
    pub(super) async fn take_over(
        &self,
        key: &Key,
        vm: &VirtualMachine,
        vmi: &VirtualMachineInstance,
        status: &mut VirtualMachineStatus,
    ) -> kube::Result<()> {
        let Some(generation) = made_from(vmi) else {
            return Ok(());
        };
        let api: Api<ControllerRevision> = self.api(&key.namespace);
        let revision = api.get_opt(&revision_of(vm, generation)).await?;
        let Some(before) = revision.and_then(|revision| revision.data) else {
            return Ok(());
        };
        let now = json!(vm);
        let before = json!({ "metadata": now["metadata"], "spec": before.0["spec"] });
        let (Some(old), Some(new)) = (self.expanded(&before).await?, self.expanded(&now).await?) else {
            return Ok(());
        };
        if !same(&old, &new) {
            let message = "a non-live-updatable field was changed in the template spec";
            set(
                &self.context,
                &mut status.conditions,
                "RestartRequired",
                "True",
                "",
                message,
            );
            return Ok(());
        }
        clear(&mut status.conditions, "RestartRequired");
        let running = vmi
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Some(VmiPhase::Running));
        let mut patch = Map::new();
        if running {
            let spec = json!(vmi.spec);
            let differing = FOLLOWED.iter().filter(|field| spec.get(*field) != new.get(*field));
            let changes: Map<String, Value> = differing
                .map(|field| ((*field).to_owned(), new.get(*field).cloned().unwrap_or_default()))
                .collect();
            if !changes.is_empty() {
                patch.insert("spec".to_owned(), Value::Object(changes));
            }
        }
        if before["spec"]["template"] == now["spec"]["template"] {
            let generation = vm.metadata.generation.unwrap_or(1).to_string();
            patch.insert(
                "metadata".to_owned(),
                json!({ "annotations": { GENERATION: generation } }),
            );
        }
        if patch.is_empty() {
            return Ok(());
        }
        let api: Api<VirtualMachineInstance> = self.api(&key.namespace);
        unless_gone(
            api.patch(&key.name, &PatchParams::default(), &Patch::Merge(Value::Object(patch)))
                .await,
        )
        .map(|_| ())
    }

    /// The template's spec with the VM's instance type and preference applied; none if they are not to be found.
    async fn expanded(&self, vm: &Value) -> kube::Result<Option<Value>> {
        let Ok(found) = types::find(&self.context.client, vm).await? else {
            return Ok(None);
        };
        let mut vmi = vm["spec"]["template"].clone();
        let conflicts = types::apply("spec", &mut vmi, &found);
        Ok(conflicts.is_empty().then(|| vmi["spec"].take()))
    }
}

/// Whether nothing differs that a VMI cannot follow: hot-plugged volumes, placement, sockets and memory may.
fn same(old: &Value, new: &Value) -> bool {
    rest(old) == rest(new)
}

fn rest(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let plugged: Vec<Value> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|volume| {
            volume["dataVolume"]["hotpluggable"] == true || volume["persistentVolumeClaim"]["hotpluggable"] == true
        })
        .map(|volume| volume["name"].clone())
        .collect();
    for list in ["/volumes", "/domain/devices/disks"] {
        if let Some(list) = spec.pointer_mut(list).and_then(Value::as_array_mut) {
            list.retain(|item| !plugged.contains(&item["name"]));
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|field, _| !FOLLOWED.contains(&field.as_str()));
    }
    for (part, field) in [("cpu", "sockets"), ("memory", "guest")] {
        if let Some(part) = spec["domain"][part].as_object_mut() {
            part.remove(field);
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(json!({}), true)]
    #[case::placement(json!({ "nodeSelector": { "a": "b" } }), true)]
    #[case::sockets(json!({ "domain": { "cpu": { "sockets": 4 } } }), true)]
    #[case::plugged(json!({ "volumes": [{ "name": "boot" }, { "name": "a", "dataVolume": { "name": "a", "hotpluggable": true } }] }), true)]
    #[case::host_name(json!({ "hostname": "other" }), false)]
    #[case::cores(json!({ "domain": { "cpu": { "cores": 4 } } }), false)]
    #[case::fixed(json!({ "volumes": [{ "name": "boot" }, { "name": "a" }] }), false)]
    fn what_a_vmi_cannot_follow_wants_a_restart(#[case] patch: Value, #[case] wanted: bool) {
        let old = json!({
            "domain": { "cpu": { "sockets": 1, "cores": 1 }, "memory": {}, "devices": { "disks": [{ "name": "boot" }] } },
            "volumes": [{ "name": "boot" }],
        });
        let mut new = old.clone();
        json_patch::merge(&mut new, &patch);
        assert_eq!(same(&old, &new), wanted);
    }
}
