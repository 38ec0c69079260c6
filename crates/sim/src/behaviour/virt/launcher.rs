//! Pods that KubeVirt makes: launchers and hot-plug attachments.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use steading_infra::{
    kubevirt::{Cpu, VirtualMachineInstance, VirtualMachineInstanceMigration, virtual_machine::Volume},
    labels,
};
use steading_model::quantity::Quantity;

use super::{digest, node_of};
use crate::behaviour::timers::owned_by;

/// What the launcher itself needs besides the guest's memory.
const OVERHEAD: u64 = 256 << 20;
/// KubeVirt's default: a vCPU asks for a tenth of a CPU.
const MILLIS_PER_VCPU: u64 = 100;

/// How long a guest has to end if its VMI does not say.
const DEFAULT_GRACE: i64 = 30;
/// What its pod gets on top.
const GRACE_PADDING: i64 = 30;
/// Taints of the node that an attachment pod tolerates: where the launcher is, it has to go.
const TOLERATED: [&str; 5] = [
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];

/// Annotation of a target pod: the name of the migration that made it.
const MIGRATION_JOB_NAME: &str = "kubevirt.io/migrationJobName";
/// Annotations of a VMI that are not the pod's business.
const KEPT_BACK: [&str; 3] = [
    "kubectl.kubernetes.io",
    "kubevirt.io/storage-observed-api-version",
    "kubevirt.io/latest-observed-api-version",
];

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
    let spec = &vmi.spec;
    let hostname = spec.hostname.clone().unwrap_or_else(|| vmi.name_any());
    let mut pod = base(vmi, name, "virt-launcher");
    pod["metadata"]["generateName"] = json!(format!("virt-launcher-{}-", vmi.name_any()));
    let labels = &mut pod["metadata"]["labels"];
    labels[labels::KUBEVIRT_CREATED_BY] = json!(vmi.uid());
    labels[labels::KUBEVIRT_VM_NAME] = json!(hostname);
    let mut selector = spec.node_selector.clone();
    selector.insert(labels::KUBEVIRT_SCHEDULABLE.to_owned(), "true".to_owned());
    pod["metadata"]["ownerReferences"] = json!([owned_by(vmi)]);
    let grace = spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE) + GRACE_PADDING;
    pod["spec"] = json!({
        "containers": containers(vmi),
        "volumes": secrets(vmi),
        "nodeSelector": selector,
        "tolerations": spec.tolerations,
        "topologySpreadConstraints": spec.topology_spread_constraints,
        "hostname": hostname, "subdomain": spec.other.get("subdomain"),
        "affinity": spec.affinity, "schedulerName": spec.scheduler_name, "priorityClassName": spec.priority_class_name,
        "restartPolicy": "Never", "terminationGracePeriodSeconds": grace,
        "automountServiceAccountToken": false, "enableServiceLinks": false,
    });
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    serde_json::from_value(pod)
}

/// The container that runs the guest, and one for each disk that is an image.
fn containers(vmi: &VirtualMachineInstance) -> Vec<Value> {
    let image = "quay.io/kubevirt/virt-launcher:v1.8.0";
    let compute = json!({ "name": "compute", "image": image, "resources": resources(vmi) });
    let disks = vmi.spec.volumes.iter().filter_map(|volume| {
        let disk = volume.container_disk.as_ref()?;
        let resources = json!({ "requests": { "cpu": "1m", "memory": "1M", "ephemeral-storage": "50M" }, "limits": { "cpu": "10m", "memory": "40M" } });
        Some(json!({ "name": format!("volume{}", volume.name), "image": disk.image, "resources": resources }))
    });
    std::iter::once(compute).chain(disks).collect()
}

fn resources(vmi: &VirtualMachineInstance) -> Value {
    let domain = &vmi.spec.domain;
    let own = domain.resources.clone().unwrap_or_default();
    let (asked, most) = (own.requests.unwrap_or_default(), own.limits.unwrap_or_default());
    let vcpus = u64::from(domain.cpu.as_ref().map_or(1, Cpu::vcpus));
    let cpu = asked
        .get("cpu")
        .map_or_else(|| format!("{}m", vcpus * MILLIS_PER_VCPU), |cpu| cpu.0.clone());
    let guest = domain.memory.as_ref().and_then(|memory| memory.guest.clone());
    let guest = guest.or_else(|| asked.get("memory").map(|memory| memory.0.clone()));
    let with_overhead = |memory: &str| {
        let bytes = memory.parse::<Quantity>().map_or(1 << 30, Quantity::bytes);
        Quantity::from_bytes(bytes.saturating_add(OVERHEAD)).to_string()
    };
    let mut limits =
        json!({ "devices.kubevirt.io/kvm": "1", "devices.kubevirt.io/tun": "1", "devices.kubevirt.io/vhost-net": "1" });
    let mut requests = limits.clone();
    requests["cpu"] = json!(cpu);
    // What an overcommitted instance type asks for is less than the guest has.
    let memory = asked.get("memory").map(|memory| memory.0.clone()).or(guest);
    requests["memory"] = json!(with_overhead(memory.as_deref().unwrap_or_default()));
    if let Some(cpu) = most.get("cpu") {
        limits["cpu"] = json!(cpu.0);
    }
    if let Some(memory) = most.get("memory") {
        limits["memory"] = json!(with_overhead(&memory.0));
    }
    json!({ "requests": requests, "limits": limits })
}

/// The secrets with user and network data.
fn secrets(vmi: &VirtualMachineInstance) -> Vec<Value> {
    let mut found = Vec::new();
    for volume in &vmi.spec.volumes {
        let sources = [&volume.cloud_init_no_cloud, &volume.cloud_init_config_drive];
        for source in sources.into_iter().flatten() {
            let network = source
                .other
                .get("networkDataSecretRef")
                .and_then(|secret| secret["name"].as_str());
            let user = source.secret_ref.as_ref().map(|secret| secret.name.as_str());
            for (kind, secret) in [("udata", user), ("ndata", network)] {
                if let Some(secret) = secret {
                    found
                        .push(json!({ "name": format!("{}-{kind}", volume.name), "secret": { "secretName": secret } }));
                }
            }
        }
    }
    found
}

/// The target pod of a migration: like the launcher, but not where the VMI is.
pub(super) fn target_pod(
    vmi: &VirtualMachineInstance,
    migration: &VirtualMachineInstanceMigration,
) -> serde_json::Result<Pod> {
    let job = migration.uid().unwrap_or_default();
    let mut pod = serde_json::to_value(launcher_pod(vmi, &launcher_name(vmi, &job))?)?;
    pod["metadata"]["labels"][labels::KUBEVIRT_MIGRATION_JOB] = json!(job);
    pod["metadata"]["annotations"][MIGRATION_JOB_NAME] = json!(migration.name_any());
    let away = json!({
        "topologyKey": labels::HOSTNAME,
        "labelSelector": { "matchLabels": { labels::KUBEVIRT_CREATED_BY: vmi.uid() } },
    });
    let path = &mut pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match path.as_array_mut() {
        Some(list) => list.push(away),
        None => *path = json!([away]),
    }
    let added = json!(migration.spec.added_node_selector);
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
    pod["metadata"]["generateName"] = json!("hp-volume-");
    pod["metadata"]["annotations"][labels::KUBEVIRT_CREATED_BY] = json!(vmi.uid());
    pod["metadata"]["ownerReferences"] = json!([owned_by(home)]);
    let volumes: Vec<Value> = volumes
        .iter()
        .map(|volume| json!({ "name": volume.name, "persistentVolumeClaim": { "claimName": volume.claim_name() } }))
        .collect();
    let node = node_of(home);
    let tolerated = TOLERATED.map(|key| json!({ "key": key, "operator": "Exists", "effect": "NoSchedule" }));
    let own = json!(vmi.spec.tolerations);
    let tolerations: Vec<Value> = tolerated
        .into_iter()
        .chain(own.as_array().cloned().unwrap_or_default())
        .collect();
    pod["spec"] = json!({
        "containers": [{ "name": "hotplug-disk", "image": "quay.io/kubevirt/virt-launcher:v1.8.0" }],
        "volumes": volumes,
        "tolerations": tolerations, "terminationGracePeriodSeconds": 0,
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": labels::HOSTNAME, "operator": "In", "values": [node] }] },
        ]}}},
    });
    serde_json::from_value(pod)
}

fn base(vmi: &VirtualMachineInstance, name: &str, role: &str) -> Value {
    // Attachment pods must not be counted by the spread constraints that select the machine's labels.
    let (mut labels, mut annotations) = if role == "virt-launcher" {
        (vmi.labels().clone(), vmi.annotations().clone())
    } else {
        Default::default()
    };
    annotations.retain(|key, _| !KEPT_BACK.iter().any(|kept| key.starts_with(kept)));
    annotations.insert(labels::KUBEVIRT_DOMAIN.to_owned(), vmi.name_any());
    labels.insert(labels::KUBEVIRT_ROLE.to_owned(), role.to_owned());
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": vmi.namespace(), "labels": labels,
            "annotations": annotations,
        },
    })
}
