//! VM, VMI and tenant node → [`ObservedMachine`].

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use steading_infra::{
    crd::MachinePool,
    kubevirt::{VirtualMachine, VirtualMachineInstance, condition, condition_is_true},
    labels,
};

use super::Observed;
use crate::domain::{
    drain::Progress,
    machine::{DeleteMode, NodeSight, ObservedMachine, Patience, VmiSight},
};

/// A machine with all that is seen of it.
pub fn observe_machine(observed: &Observed, vm: &VirtualMachine) -> ObservedMachine {
    let (namespace, name) = (vm.namespace().unwrap_or_default(), vm.name_any());
    let vmi = observed.vmis.get(&namespace, &name);
    let node = match observed.tenant(&namespace) {
        Some(tenant) if tenant.is_reachable() => tenant
            .nodes
            .get("", &name)
            .map_or(NodeSight::Absent, |node| node_sight(&node)),
        _ => NodeSight::Unknown,
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
    ObservedMachine {
        pool: label(labels::POOL),
        revision: label(labels::REVISION),
        created: vm.creation_timestamp().map(|t| t.0).unwrap_or_default(),
        vm_going: vm.metadata.deletion_timestamp.is_some(),
        delete: annotation(labels::DELETE_REQUESTED).map(|mode| {
            if mode == "force" {
                DeleteMode::Force
            } else {
                DeleteMode::Drain
            }
        }),
        drain_started: annotation(labels::DRAIN_STARTED).and_then(|text| text.parse().ok()),
        replace: annotation(labels::REPLACE_REQUESTED).is_some(),
        drain: annotation(labels::DRAIN_REQUESTED).is_some(),
        restart: annotation(labels::RESTART_REQUESTED).is_some(),
        printable: status
            .printable_status
            .map(|s| s.as_str().to_owned())
            .unwrap_or_default(),
        trouble,
        vmi: vmi.map(|vmi| vmi_sight(&vmi)),
        node,
        namespace,
        name,
    }
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

fn vmi_sight(vmi: &VirtualMachineInstance) -> VmiSight {
    let status = vmi.status.clone().unwrap_or_default();
    let addresses = addresses_of(vmi);
    VmiSight {
        phase: status.phase.as_ref().map(|p| p.as_str().to_owned()).unwrap_or_default(),
        ready: condition_is_true(&status.conditions, "Ready"),
        going: vmi.metadata.deletion_timestamp.is_some(),
        infra_node: status.node_name.clone().filter(|n| !n.is_empty()),
        addresses,
        migrating: status
            .migration_state
            .as_ref()
            .is_some_and(steading_infra::kubevirt::virtual_machine_instance::MigrationState::is_under_way),
        migratable: condition_is_true(&status.conditions, "LiveMigratable"),
    }
}

fn node_sight(node: &Node) -> NodeSight {
    let status = node.status.as_ref();
    let ready = status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    NodeSight::Present {
        ready: ready.is_some_and(|c| c.status == "True"),
        since: ready.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0),
        kubelet: status
            .and_then(|s| s.node_info.as_ref())
            .map(|i| i.kubelet_version.clone())
            .unwrap_or_default(),
        uninitialized: taints.is_some_and(|taints| taints.iter().any(|t| t.key == labels::UNINITIALIZED_TAINT)),
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
