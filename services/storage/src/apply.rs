//! Carries out plans. Decides nothing: what it writes, it was told by [`crate::plan`] over a fresh read.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};
use steading_infra::{
    apply::{FieldManager, add_finalizer, patch_merge, patch_with_retry, remove_finalizer},
    cdi::DataVolume,
    error::{InfraError, Result},
    kubevirt::VirtualMachine,
    labels, list,
};

use crate::{
    domain::volume::Volume,
    observe::{ObservedMachine, SharedIndex, parse},
    plan::{
        machine::{MachinePlan, plan, wishes},
        patch::render,
        volume::VolumeAction,
    },
};

/// What became of a machine's plan.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Disks put on.
    pub(crate) attached: usize,
    /// Disks taken off.
    pub(crate) detached: usize,
}

/// Puts the wanted volumes on a machine and takes the unwanted off, in one patch. The plan is made again over a fresh
/// read, and each time that somebody else was faster.
pub(crate) async fn apply_machine(
    client: &Client,
    index: &SharedIndex,
    namespace: &str,
    machine: &str,
) -> Result<Applied> {
    let resource = ApiResource::erase::<VirtualMachine>(&());
    // Untyped, so that the patch tests the lists exactly as they are stored.
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let kept = wanted_anew(client, index, namespace, machine).await?;
    let mut last = MachinePlan::default();
    let outcome = patch_with_retry(&api, FieldManager::Storage, machine, |object| {
        let value = serde_json::to_value(object).ok()?;
        let fresh = observe(&value)?;
        last = replan(index, namespace, machine, &fresh, &kept);
        render(&value, &last)
    })
    .await;
    match outcome {
        Ok(object) => {
            if let Some(seen) = serde_json::to_value(&object).ok().as_ref().and_then(observe) {
                index.update(|index| index.set_machine(namespace, machine, Some(seen)));
            }
            Ok(Applied {
                attached: last.attach.len(),
                detached: last.detach.len(),
            })
        }
        Err(InfraError::NotFound(_)) => Ok(Applied::default()),
        Err(error) => Err(error),
    }
}

fn observe(vm: &Value) -> Option<ObservedMachine> {
    let vm: VirtualMachine = serde_json::from_value(vm.clone()).ok()?;
    Some(parse::machine(&vm))
}

fn replan(
    index: &SharedIndex,
    namespace: &str,
    machine: &str,
    fresh: &ObservedMachine,
    kept: &[String],
) -> MachinePlan {
    let index = index.read();
    let migrating = index.instance(namespace, machine).is_some_and(|i| i.migrating);
    let mut plan = plan(fresh, migrating, &wishes(&index, namespace, machine));
    plan.detach.retain(|disk| !kept.contains(disk));
    plan
}

/// Disks that a fresh read wants on the machine. The watch may be behind: before anything is taken off, the wishes
/// themselves are asked, once for the whole batch. Nothing is read if nothing is to be taken off.
async fn wanted_anew(client: &Client, index: &SharedIndex, namespace: &str, machine: &str) -> Result<Vec<String>> {
    let detaches = {
        let index = index.read();
        let wishes = wishes(&index, namespace, machine);
        index
            .machine(namespace, machine)
            .is_none_or(|seen| !plan(seen, false, &wishes).detach.is_empty())
    };
    if !detaches {
        return Ok(Vec::new());
    }
    let api: Api<DataVolume> = Api::namespaced(client.clone(), namespace);
    let volumes = list::all(&api, labels::VOLUME).await?.items;
    let volumes: Vec<Volume> = volumes.iter().filter_map(parse::volume).collect();
    let wanted = volumes.iter().filter(|volume| volume.wanted_on() == Some(machine));
    Ok(wanted.map(crate::domain::attachment::disk_of).collect())
}

/// Takes one step at a volume.
pub(crate) async fn apply_volume(client: &Client, volume: &Volume, action: &VolumeAction) -> Result<()> {
    let (namespace, id) = (volume.name.namespace(), volume.id());
    let volumes: Api<DataVolume> = Api::namespaced(client.clone(), &namespace);
    let outcome = match action {
        VolumeAction::Hold => add_finalizer(&volumes, FieldManager::Storage, id, labels::VOLUME_FINALIZER)
            .await
            .map(drop),
        VolumeAction::Release => remove_finalizer(&volumes, FieldManager::Storage, id, labels::VOLUME_FINALIZER).await,
        VolumeAction::Expand(size) => {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
            let patch = json!({"spec": {"resources": {"requests": {"storage": size.to_string()}}}});
            patch_merge(&claims, FieldManager::Storage, id, &patch).await.map(drop)
        }
        VolumeAction::Retain(name) => {
            let persistent: Api<PersistentVolume> = Api::all(client.clone());
            let patch = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
            patch_merge(&persistent, FieldManager::Storage, name, &patch)
                .await
                .map(drop)
        }
    };
    match outcome {
        Err(InfraError::NotFound(_)) => Ok(()),
        outcome => outcome,
    }
}
