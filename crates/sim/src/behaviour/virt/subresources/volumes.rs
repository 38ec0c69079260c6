//! addvolume and removevolume: with declarative hot-plug they change the VM.

use kube::api::Patch;
use serde_json::{Value, json};

use super::{Call, Subresources, passed_on};
use steading_kubesim::ApiError;

use crate::behaviour::timers::controller_of;

impl Subresources {
    pub(super) async fn add_volume(&self, call: &Call) -> Result<(), ApiError> {
        let options = &call.options;
        let name = options["name"].as_str().unwrap_or_default();
        let lacks = [
            (name.is_empty(), "AddVolumeOptions requires name to be set"),
            (
                options["disk"].is_null(),
                "AddVolumeOptions requires disk to not be nil",
            ),
            (
                options["volumeSource"].is_null(),
                "AddVolumeOptions requires VolumeSource to not be nil",
            ),
        ];
        if let Some((_, message)) = lacks.iter().find(|(lacks, _)| *lacks) {
            return Err(ApiError::bad_request(*message));
        }
        self.change_volumes(call, |volumes, disks| {
            let source = source_of(&options["volumeSource"]);
            for volume in volumes.iter() {
                if volume["name"] == name {
                    return Err(format!(
                        "Unable to add volume [{name}] because volume with that name already exists"
                    ));
                }
                if source_of(volume) == source {
                    return Err(format!(
                        "Unable to add volume source [{source}] because it already exists"
                    ));
                }
            }
            let mut volume = options["volumeSource"].clone();
            for kind in ["dataVolume", "persistentVolumeClaim"] {
                if let Some(source) = volume.get_mut(kind) {
                    source["hotpluggable"] = json!(true);
                }
            }
            volume["name"] = json!(name);
            volumes.push(volume);
            let mut disk = options["disk"].clone();
            disk["name"] = json!(name);
            disks.push(disk);
            Ok(())
        })
        .await
    }

    pub(super) async fn remove_volume(&self, call: &Call) -> Result<(), ApiError> {
        let name = call.options["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(ApiError::bad_request("RemoveVolumeOptions requires name to be set"));
        }
        self.change_volumes(call, |volumes, disks| {
            let found = volumes
                .iter()
                .find(|volume| volume["name"] == name || source_of(volume) == name)
                .ok_or_else(|| format!("Unable to remove volume [{name}] because it does not exist"))?;
            if !is_hotpluggable(found) {
                return Err(format!(
                    "Unable to remove volume [{name}] because it is not hotpluggable"
                ));
            }
            let name = found["name"].clone();
            volumes.retain(|volume| volume["name"] != name);
            disks.retain(|disk| disk["name"] != name);
            Ok(())
        })
        .await
    }

    async fn change_volumes(
        &self,
        call: &Call,
        change: impl FnOnce(&mut Vec<Value>, &mut Vec<Value>) -> Result<(), String>,
    ) -> Result<(), ApiError> {
        if !call.of_machine {
            let vmi = self.instance(call).await?;
            if controller_of(&vmi, "VirtualMachine").is_some() {
                let message = format!("VMI {}/{} is owned by a VM", call.namespace, call.name);
                return Err(ApiError::bad_request(message));
            }
            return Err(call.conflict("volumes of a VMI without a VM are not played by the simulation"));
        }
        let vm = json!(self.machine(call).await?);
        let spec = &vm["spec"]["template"]["spec"];
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (mut volumes, mut disks) = (list(&spec["volumes"]), list(&spec["domain"]["devices"]["disks"]));
        change(&mut volumes, &mut disks).map_err(|why| call.conflict(&why))?;
        let spec = json!({ "volumes": volumes, "domain": { "devices": { "disks": disks } } });
        // The revision makes this a compare-and-set, as the real one's tests of both lists do.
        let patch = json!({
            "metadata": { "resourceVersion": vm["metadata"]["resourceVersion"] }, "spec": { "template": { "spec": spec } },
        });
        let outcome = self
            .machines(call)
            .patch(&call.name, &call.params(), &Patch::Merge(patch))
            .await;
        outcome.map(|_| ()).map_err(|error| {
            let error = passed_on(error);
            if error.code == 422 {
                return error;
            }
            ApiError::internal(format!("unable to patch vm: {}", error.message))
        })
    }
}

fn source_of(volume: &Value) -> String {
    let name = volume["dataVolume"]["name"].as_str();
    name.or_else(|| volume["persistentVolumeClaim"]["claimName"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn is_hotpluggable(volume: &Value) -> bool {
    ["dataVolume", "persistentVolumeClaim"]
        .iter()
        .any(|kind| volume[kind]["hotpluggable"] == true)
}
