//! Plain drains: machines that an eviction has marked.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use steading_controller::Fresh;
use steading_infra::{
    apply::{self, FieldManager},
    crd::{
        Maintenance,
        maintenance::{MaintenanceDesire, MaintenanceScope, MaintenanceSpec},
    },
    error::{InfraError, optional},
    intent::{EVICTION, intents},
    kubevirt::migration::MigrationPhase,
    labels,
};
use steading_model::derived::derived_id;

use super::act::cancel_mark;
use crate::{
    context::Context,
    error::Error,
    observe::evacuation::observe_machine,
    plan::{
        evacuation::MachineKey,
        maintenance::{Eviction, State},
    },
};

/// What evictions have left on machines.
#[derive(Debug, Default)]
pub(super) struct Detected {
    /// Whether a drained infra node has no maintenance of its own yet.
    pub(super) found: bool,
    /// Machines that were evicted from infra nodes that nobody is emptying.
    pub(super) evictions: Vec<Eviction>,
}

/// Makes a maintenance for each drained infra node that has none, and finds evictions of single machines.
pub(super) async fn drains(context: &Context) -> Result<Detected, Error> {
    let mut marked: BTreeMap<String, Vec<MachineKey>> = BTreeMap::new();
    let mut detected = Detected::default();
    for vmi in context.observed.vmis.all() {
        let Some(status) = &vmi.status else { continue };
        let key = MachineKey {
            namespace: vmi.namespace().unwrap_or_default(),
            machine: vmi.name_any(),
        };
        let Some(vm) = context.observed.vms.get(&key.namespace, &key.machine) else {
            continue;
        };
        let mark = status.evacuation_node_name.as_ref().filter(|name| !name.is_empty());
        match mark {
            Some(mark) if status.node_name.as_ref() == Some(mark) => marked.entry(mark.clone()).or_default().push(key),
            // It has left that infra node already.
            Some(mark) => try_cancel(context, &key, mark).await,
            None if intents(vm.annotations()).iter().any(|one| one.owner == EVICTION) => {
                let node = status.node_name.clone().unwrap_or_default();
                detected.evictions.extend(eviction(context, &key, &node));
            }
            None => {}
        }
    }
    let active: BTreeSet<String> = context
        .observed
        .maintenances
        .all()
        .iter()
        .filter(|one| !State::of(&one.status.clone().unwrap_or_default()).is_final())
        .filter(|one| {
            one.spec.desired_state != MaintenanceDesire::Planned
                || one.status.as_ref().is_some_and(|s| s.start_time.is_some())
        })
        .map(|one| one.spec.infra_node.clone())
        .collect();
    for (node, machines) in marked.into_iter().filter(|(node, _)| !active.contains(node)) {
        // The indexes may lag behind each other; the node itself says whether the admin still wants it empty.
        let fresh = optional(context.all::<Node>().get(&node).await)?;
        let cordoned = fresh
            .as_ref()
            .and_then(|node| node.spec.as_ref())
            .and_then(|spec| spec.unschedulable)
            .unwrap_or(false);
        if cordoned {
            detected.found = true;
            begin(context, &node).await?;
            continue;
        }
        let evictions = machines.iter().filter_map(|key| eviction(context, key, &node));
        detected.evictions.extend(evictions);
    }
    Ok(detected)
}

fn eviction(context: &Context, key: &MachineKey, node: &str) -> Option<Eviction> {
    let vmi = context.observed.vmis.get(&key.namespace, &key.machine)?;
    let machine = observe_machine(context, key, &vmi, node)?;
    // Failures count within one eviction: an earlier one has been answered already.
    let vm = context.observed.vms.get(&key.namespace, &key.machine)?;
    let mut asked = intents(vm.annotations())
        .into_iter()
        .filter(|one| one.owner == EVICTION);
    let since = asked.find_map(|intent| intent.details.since);
    let failed = context
        .observed
        .migrations
        .list(&key.namespace)
        .into_iter()
        .filter(|one| {
            let phase = one.status.as_ref().and_then(|status| status.phase.as_ref());
            let ours = one
                .annotations()
                .get(labels::INTENT_OWNER)
                .is_some_and(|owner| owner == EVICTION);
            let made = one.creation_timestamp().map(|time| time.0);
            let recent = since.is_some_and(|since| made.is_some_and(|made| made >= since));
            ours && recent && one.spec.vmi_name == key.machine && phase == Some(&MigrationPhase::Failed)
        });
    Some(Eviction {
        node: node.to_owned(),
        machine,
        failures: i32::try_from(failed.count()).unwrap_or(i32::MAX),
    })
}

async fn try_cancel(context: &Context, key: &MachineKey, node: &str) {
    if let Err(error) = cancel_mark(context, key, node).await {
        tracing::warn!(machine = %key, node, error = %steading_runtime::tasks::Chain(&error), "an eviction's mark stays");
    }
}

/// Makes the maintenance of a plain drain; one of an earlier drain makes room for it.
async fn begin(context: &Context, node: &str) -> Result<(), Error> {
    let api = context.all::<Maintenance>();
    let name = name_of(node);
    let spec = MaintenanceSpec {
        infra_node: node.to_owned(),
        desired_state: MaintenanceDesire::InMaintenance,
        scope: MaintenanceScope::Evicted,
        description: "pods were evicted from the infra node".to_owned(),
        ..MaintenanceSpec::default()
    };
    let mut object = Maintenance::new(&name, spec);
    object
        .labels_mut()
        .insert(labels::MANAGED_BY.into(), labels::MANAGED_BY_STEADING.into());
    object
        .annotations_mut()
        .insert(labels::DRAIN_DETECTED.into(), context.clock.now().to_string());
    object.finalizers_mut().push(labels::MAINTENANCE_FINALIZER.into());
    match apply::create(&api, FieldManager::Lifecycle, &object).await {
        Ok(_) => {
            tracing::info!(node, maintenance = %name, "machines were evicted from a cordoned infra node");
            Ok(())
        }
        Err(InfraError::AlreadyExists(_)) => {
            if let Some(old) = Fresh::get(&api, &name).await?.filter(is_over) {
                let manager = FieldManager::Lifecycle.as_str();
                old.without_finalizer(&api, manager, labels::MAINTENANCE_FINALIZER)
                    .await?;
            }
            if let Some(old) = Fresh::get(&api, &name).await?.filter(is_over) {
                old.delete(&api).await?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a maintenance is of a drain that was detected, and has ended.
fn is_over(maintenance: &Fresh<Maintenance>) -> bool {
    let status = maintenance.status.clone().unwrap_or_default();
    maintenance.annotations().contains_key(labels::DRAIN_DETECTED) && State::of(&status).is_final()
}

/// The maintenance of a drain that was detected on `node`.
fn name_of(node: &str) -> String {
    derived_id("eviction", node, 0)
}

#[cfg(test)]
mod tests {
    use steading_model::name::MaintenanceName;

    use super::name_of;

    #[test]
    fn the_maintenance_of_every_node_name_has_a_valid_id() {
        assert_eq!(name_of("infra-1"), "eviction-infra-1");
        for node in [
            "infra-1",
            "rack1.dc2.example.com",
            "a-very-long-node-name-of-a-machine",
            "ip-10-0-0-1.ec2",
            "x--y",
        ] {
            let name = format!("maintenances/{}", name_of(node));
            assert!(name.parse::<MaintenanceName>().is_ok(), "{name}");
        }
        assert_ne!(name_of("rack1.a"), name_of("rack1.b"));
    }
}
