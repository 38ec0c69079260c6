//! Pods that KubeVirt makes: launchers and hot-plug attachments.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use steading_infra::{
    kubevirt::{Cpu, VirtualMachineInstance, virtual_machine::Volume},
    labels,
};
use steading_model::quantity::Quantity;

use super::{digest, node_of};
use crate::behaviour::timers::owned_by;

/// What the launcher itself needs besides the guest's memory.
const OVERHEAD: u64 = 256 << 20;
/// KubeVirt's default: a vCPU asks for a tenth of a CPU.
const MILLIS_PER_VCPU: u64 = 100;

/// Name of a launcher pod; `job` is the uid of the migration that makes it, empty for the first.
pub(super) fn launcher_name(vmi: &VirtualMachineInstance, job: &str) -> String {
    format!(
        "virt-launcher-{}-{}",
        vmi.name_any(),
        digest(&format!("{}{job}", vmi.uid().unwrap_or_default()))
    )
}

/// The launcher pod of a VMI.
pub(super) fn launcher_pod(vmi: &VirtualMachineInstance, name: &str) -> serde_json::Result<Pod> {
    let mut pod = base(vmi, name, "virt-launcher");
    let spec = &vmi.spec;
    let mut selector = spec.node_selector.clone();
    selector.insert(labels::KUBEVIRT_SCHEDULABLE.to_owned(), "true".to_owned());
    let own = spec
        .domain
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.clone())
        .unwrap_or_default();
    let cpu = own.get("cpu").map_or_else(
        || {
            format!(
                "{}m",
                u64::from(spec.domain.cpu.as_ref().map_or(1, Cpu::vcpus)) * MILLIS_PER_VCPU
            )
        },
        |cpu| cpu.0.clone(),
    );
    let guest = spec
        .domain
        .memory
        .as_ref()
        .and_then(|memory| memory.guest.clone())
        .or_else(|| own.get("memory").map(|memory| memory.0.clone()));
    let bytes = guest
        .and_then(|guest| guest.parse::<Quantity>().ok())
        .map_or(1 << 30, Quantity::bytes);
    let memory = Quantity::from_bytes(bytes.saturating_add(OVERHEAD)).to_string();
    let devices =
        json!({ "devices.kubevirt.io/kvm": "1", "devices.kubevirt.io/tun": "1", "devices.kubevirt.io/vhost-net": "1" });
    let mut requests = devices.clone();
    requests["cpu"] = json!(cpu);
    requests["memory"] = json!(memory);
    pod["metadata"]["ownerReferences"] = json!([owned_by(vmi)]);
    pod["spec"] = json!({
        "containers": [{
            "name": "compute", "image": "quay.io/kubevirt/virt-launcher:v1.8.0",
            "resources": { "requests": requests, "limits": devices },
        }],
        "nodeSelector": selector,
        "tolerations": spec.tolerations,
        "topologySpreadConstraints": spec.topology_spread_constraints,
        "hostname": spec.hostname.clone().unwrap_or_else(|| vmi.name_any()),
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 30, "automountServiceAccountToken": false,
    });
    for (field, value) in [
        ("affinity", json!(spec.affinity)),
        ("schedulerName", json!(spec.scheduler_name)),
        ("priorityClassName", json!(spec.priority_class_name)),
    ] {
        if !value.is_null() {
            pod["spec"][field] = value;
        }
    }
    serde_json::from_value(pod)
}

/// The target pod of a migration: like the launcher, but not where the VMI is.
pub(super) fn target_pod(vmi: &VirtualMachineInstance, job: &str, added: &Value) -> serde_json::Result<Pod> {
    let mut pod = serde_json::to_value(launcher_pod(vmi, &launcher_name(vmi, job))?)?;
    pod["metadata"]["labels"][labels::KUBEVIRT_MIGRATION_JOB] = json!(job);
    let away = json!({
        "topologyKey": labels::HOSTNAME,
        "labelSelector": { "matchLabels": { labels::KUBEVIRT_CREATED_BY: vmi.uid() } },
    });
    let path = &mut pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match path.as_array_mut() {
        Some(list) => list.push(away),
        None => *path = json!([away]),
    }
    for (key, value) in added.as_object().into_iter().flatten() {
        pod["spec"]["nodeSelector"][key] = value.clone();
    }
    serde_json::from_value(pod)
}

/// Name of the attachment pod that holds just these volumes beside a launcher pod.
pub(super) fn attachment_name(home: &Pod, volumes: &[&Volume]) -> String {
    let names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    let uid = home.uid().unwrap_or_default();
    format!("hp-volume-{}", digest(&format!("{uid} {}", names.join(","))))
}

/// The attachment pod: it makes the node attach the volumes, pinned to the launcher's node, cordoned or not.
pub(super) fn attachment_pod(vmi: &VirtualMachineInstance, home: &Pod, volumes: &[&Volume]) -> serde_json::Result<Pod> {
    let mut pod = base(vmi, &attachment_name(home, volumes), "hotplug-disk");
    pod["metadata"]["ownerReferences"] = json!([owned_by(home)]);
    let volumes: Vec<Value> = volumes
        .iter()
        .map(|volume| json!({ "name": volume.name, "persistentVolumeClaim": { "claimName": volume.claim_name() } }))
        .collect();
    let node = node_of(home);
    pod["spec"] = json!({
        "containers": [{ "name": "hotplug-disk", "image": "quay.io/kubevirt/virt-launcher:v1.8.0" }],
        "volumes": volumes,
        "tolerations": [{ "operator": "Exists" }],
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": labels::HOSTNAME, "operator": "In", "values": [node] }] },
        ]}}},
    });
    serde_json::from_value(pod)
}

fn base(vmi: &VirtualMachineInstance, name: &str, role: &str) -> Value {
    // Attachment pods must not be counted by the spread constraints that select the machine's labels.
    let mut labels = if role == "virt-launcher" {
        vmi.labels().clone()
    } else {
        std::collections::BTreeMap::new()
    };
    labels.insert(labels::KUBEVIRT_ROLE.to_owned(), role.to_owned());
    labels.insert(labels::KUBEVIRT_CREATED_BY.to_owned(), vmi.uid().unwrap_or_default());
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": vmi.namespace(), "labels": labels,
            "annotations": { labels::KUBEVIRT_DOMAIN: vmi.name_any() },
        },
    })
}
