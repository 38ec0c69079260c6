//! VirtualMachine, instance, migrations and tenant node → [`ObservedMachine`].

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use steading_infra::{
    crd::MachinePool,
    intent::{Intent, intents},
    kubevirt::{
        VirtualMachine, VirtualMachineInstance, condition, condition_is_true,
        migration::MigrationPhase,
        virtual_machine_instance::{MigrationState as KubevirtMigration, VmiPhase, VolumePhase},
    },
    labels,
};

use super::Observed;
use crate::domain::{
    drain::Progress,
    machine::{
        MigrationState, NodeCordon, ObservedInstance, ObservedMachine, ObservedMigration, ObservedNode, Patience,
    },
};

/// A machine with all that is observed of it.
pub fn observe_machine(observed: &Observed, vm: &VirtualMachine, now: Timestamp) -> ObservedMachine {
    let instance = observed.vmis.get(&vm.namespace().unwrap_or_default(), &vm.name_any());
    observe_with(observed, vm, instance.as_deref(), now)
}

/// The same with an instance that was read otherwise; `None` if there is none.
pub fn observe_with(
    observed: &Observed,
    vm: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> ObservedMachine {
    let (namespace, name) = (vm.namespace().unwrap_or_default(), vm.name_any());
    let tenant = observed.tenant(&namespace).filter(|tenant| tenant.is_reachable());
    let tenant_node = tenant.as_ref().and_then(|tenant| tenant.nodes.get("", &name));
    let node = match (&tenant, &tenant_node) {
        (None, _) => ObservedNode::Unknown,
        (Some(_), None) => ObservedNode::Absent,
        (Some(_), Some(node)) => observe_node(node),
    };
    let annotation = |key: &str| vm.annotations().get(key);
    let label = |key: &str| vm.labels().get(key).cloned().unwrap_or_default();
    let status = vm.status.clone().unwrap_or_default();
    let trouble = ["Failure", "PodScheduled", "Ready"]
        .iter()
        .filter_map(|kind| condition(&status.conditions, kind))
        .find(|c| {
            if c.type_ == "Failure" {
                c.is_true()
            } else {
                !c.is_true()
            }
        })
        .and_then(|c| c.message.clone());
    let (expired, in_force): (Vec<Intent>, Vec<Intent>) = intents(vm.annotations())
        .into_iter()
        .partition(|intent| intent.is_expired(now));
    let cost = |annotations: Option<&String>| annotations.and_then(|text| text.trim().parse().ok());
    let node_cost = || cost(tenant_node.as_ref()?.annotations().get(labels::DELETION_COST));
    ObservedMachine {
        pool: label(labels::POOL),
        revision: label(labels::REVISION),
        created: vm.creation_timestamp().map(|t| t.0).unwrap_or_default(),
        vm_terminating: vm.metadata.deletion_timestamp.is_some(),
        intents: in_force,
        expired: expired.iter().map(Intent::key).collect(),
        drain_started: annotation(labels::DRAIN_STARTED).and_then(|text| text.parse().ok()),
        joined: annotation(labels::JOINED).and_then(|text| text.parse().ok()),
        deletion_cost: cost(annotation(labels::DELETION_COST))
            .or_else(node_cost)
            .unwrap_or_default(),
        printable: status
            .printable_status
            .map(|s| s.as_str().to_owned())
            .unwrap_or_default(),
        trouble,
        instance: instance.map(observe_instance),
        node,
        migrations: observe_migrations(observed, &namespace, &name),
        namespace,
        name,
    }
}

fn observe_migrations(observed: &Observed, namespace: &str, machine: &str) -> Vec<ObservedMigration> {
    let mut found: Vec<ObservedMigration> = observed
        .migrations
        .list(namespace)
        .iter()
        .filter(|one| one.spec.vmi_name == machine)
        .map(|one| {
            let phase = one.status.as_ref().and_then(|status| status.phase.as_ref());
            ObservedMigration {
                name: one.name_any(),
                owner: one.annotations().get(labels::INTENT_OWNER).cloned(),
                state: match phase {
                    Some(MigrationPhase::Succeeded) => MigrationState::Succeeded,
                    Some(phase) if phase.is_final() => MigrationState::Failed,
                    Some(_) | None => MigrationState::Active,
                },
                created: one.creation_timestamp().map(|time| time.0).unwrap_or_default(),
            }
        })
        .collect();
    found.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    found
}

/// How far the drain of a machine is, as its object tells.
pub fn stored_progress(vm: &VirtualMachine, started: Timestamp) -> Option<Progress> {
    Progress::parse(vm.annotations().get(labels::DRAIN_PROGRESS)?, started)
}

/// The addresses of a machine on the networks that its VMI is attached to, each once, the primary one first. The guest agent reports
/// every interface of the guest, such as bridges of its pods; the infra cluster routes none of their addresses.
pub fn addresses_of(vmi: &VirtualMachineInstance) -> Vec<String> {
    let interfaces = vmi
        .status
        .as_ref()
        .map(|status| status.interfaces.as_slice())
        .unwrap_or_default();
    let networks: Vec<&str> = vmi
        .spec
        .networks
        .iter()
        .filter_map(|network| network["name"].as_str())
        .collect();
    // KubeVirt attaches a machine that names no network to the pod network, as `default`.
    let is_attached = |name: &str| networks.contains(&name) || (networks.is_empty() && name == "default");
    let mut addresses: Vec<String> = Vec::new();
    for interface in interfaces
        .iter()
        .filter(|one| one.name.as_deref().is_some_and(is_attached))
    {
        for address in interface.ip_address.iter().chain(&interface.ip_addresses) {
            if !address.is_empty() && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
    }
    addresses
}

fn observe_instance(vmi: &VirtualMachineInstance) -> ObservedInstance {
    let status = vmi.status.clone().unwrap_or_default();
    let addresses = addresses_of(vmi);
    let started = status
        .phase_transition_timestamps
        .iter()
        .find(|one| one.phase == VmiPhase::Running);
    let unsettled = |one: &steading_infra::kubevirt::virtual_machine_instance::VolumeStatus| {
        one.hotplug_volume.is_some() && one.phase != Some(VolumePhase::Ready)
    };
    ObservedInstance {
        uid: vmi.uid().unwrap_or_default(),
        phase: status.phase.as_ref().map(|p| p.as_str().to_owned()).unwrap_or_default(),
        ready: condition_is_true(&status.conditions, "Ready"),
        terminating: vmi.metadata.deletion_timestamp.is_some(),
        created: vmi.creation_timestamp().map(|time| time.0),
        running_since: started.map(|one| one.phase_transition_timestamp.0),
        infra_node: status.node_name.clone().filter(|n| !n.is_empty()),
        addresses,
        migrating: status
            .migration_state
            .as_ref()
            .is_some_and(KubevirtMigration::is_under_way),
        migratable: condition_is_true(&status.conditions, "LiveMigratable"),
        hotplug_settled: !status.volume_status.iter().any(unsettled),
    }
}

fn observe_node(node: &Node) -> ObservedNode {
    let status = node.status.as_ref();
    let ready = status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    ObservedNode::Present {
        ready: ready.is_some_and(|c| c.status == "True"),
        since: ready.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0),
        kubelet: status
            .and_then(|s| s.node_info.as_ref())
            .map(|i| i.kubelet_version.clone())
            .unwrap_or_default(),
        uninitialized: taints.is_some_and(|taints| taints.iter().any(|t| t.key == labels::UNINITIALIZED_TAINT)),
        cordon: match (unschedulable, node.annotations().contains_key(labels::CORDONED)) {
            (false, _) => NodeCordon::None,
            (true, true) => NodeCordon::Ours,
            (true, false) => NodeCordon::Others,
        },
    }
}

/// How patient a pool is.
pub fn patience_of(pool: Option<&MachinePool>) -> Patience {
    let seconds = |value: Option<i64>, default| value.map_or(default, jiff::SignedDuration::from_secs);
    let usual = Patience::default();
    pool.map_or(usual, |pool| Patience {
        join: seconds(pool.spec.health.join_timeout_seconds, usual.join),
        unhealthy: seconds(pool.spec.health.unhealthy_after_seconds, usual.unhealthy),
        min_ready: seconds(pool.spec.rollout.min_ready_seconds, usual.min_ready),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mk_vmi(networks: &serde_json::Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "w-1"},
            "spec": {"domain": {"devices": {}}, "networks": networks},
            "status": {"interfaces": [
                {"ipAddress": "10.42.0.1", "ipAddresses": ["10.42.0.1"], "interfaceName": "cni0", "infoSource": "guest-agent"},
                {"name": "default", "ipAddress": "10.0.0.5", "ipAddresses": ["10.0.0.5", "fd00::5", "10.0.0.5"]},
                {"name": "kube-ipvs0", "ipAddress": "10.96.0.1", "ipAddresses": ["10.96.0.1"]},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn addresses_inside_the_guest_are_not_the_machines() {
        let vmi = mk_vmi(&json!([{"name": "default", "pod": {}}]));
        assert_eq!(addresses_of(&vmi), ["10.0.0.5", "fd00::5"]);
        assert_eq!(addresses_of(&mk_vmi(&json!([]))), ["10.0.0.5", "fd00::5"]);
        assert_eq!(addresses_of(&mk_vmi(&json!([{"name": "storage"}]))), [""; 0]);
    }
}
