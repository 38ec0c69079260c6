//! Sample objects of the KubeVirt cases, as JSON: what a client would send.

use serde_json::{Value, json};

/// A VM with one container disk, one core and 64Mi, that always runs.
pub(super) fn mk_vm(name: &str) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": { "name": name },
        "spec": { "runStrategy": "Always", "template": {
            "metadata": { "labels": { "machine": name } },
            "spec": mk_vmi_spec(),
        }},
    })
}

/// The spec of a VMI with one container disk.
pub(super) fn mk_vmi_spec() -> Value {
    json!({
        "domain": {
            "cpu": { "cores": 1 },
            "memory": { "guest": "64Mi" },
            "devices": {
                "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }],
                "interfaces": [{ "name": "default", "masquerade": {} }],
            },
        },
        "networks": [{ "name": "default", "pod": {} }],
        "terminationGracePeriodSeconds": 0,
        "volumes": [{ "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } }],
    })
}

/// A VMI without a VM.
pub(super) fn mk_vmi(name: &str) -> Value {
    json!({ "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": { "name": name }, "spec": mk_vmi_spec() })
}

/// A VM without CPU and memory of its own.
pub(super) fn mk_vm_without_size(name: &str) -> Value {
    let mut vm = mk_vm(name);
    if let Some(domain) = vm
        .pointer_mut("/spec/template/spec/domain")
        .and_then(Value::as_object_mut)
    {
        domain.remove("cpu");
        domain.remove("memory");
    }
    vm
}

/// An object with a merge patch applied.
pub(super) fn changed(mut object: Value, patch: Value) -> Value {
    json_patch::merge(&mut object, &patch);
    object
}

/// A VM whose template spec has a merge patch applied.
pub(super) fn with_template(vm: Value, spec: Value) -> Value {
    changed(vm, json!({ "spec": { "template": { "spec": spec } } }))
}

/// A migration of a VMI.
pub(super) fn mk_migration(name: &str, vmi: &str) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": { "name": name }, "spec": { "vmiName": vmi },
    })
}

/// An empty DataVolume that many nodes may mount at once.
pub(super) fn mk_data_volume(name: &str) -> Value {
    json!({ "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": { "name": name }, "spec": mk_data_volume_spec() })
}

/// Its spec.
pub(super) fn mk_data_volume_spec() -> Value {
    json!({
        "source": { "blank": {} },
        "storage": { "accessModes": ["ReadWriteMany"], "volumeMode": "Block", "resources": { "requests": { "storage": "1Gi" } } },
    })
}

/// A hot-pluggable volume on a DataVolume, and its disk.
pub(super) fn mk_hotplug(name: &str) -> (Value, Value) {
    (
        json!({ "name": name, "dataVolume": { "name": name, "hotpluggable": true } }),
        json!({ "name": name, "serial": format!("serial-{name}"), "disk": { "bus": "scsi" } }),
    )
}

/// An instance type or preference, cluster-wide or not, by its kind.
pub(super) fn mk_instancetype(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}
