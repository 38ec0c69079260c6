//! Sample objects for tests of the crates that work on the infra cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::VolumeResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cdi::{BlankSource, DataVolume, DataVolumeSource as Fill, DataVolumeSpec, StorageSpec};
use crate::kubevirt::virtual_machine::{
    ContainerDiskSource, Cpu, DataVolumeSource, Devices, Disk, DiskTarget, Domain, EvictionStrategy, Matcher, Memory,
    RunStrategy, VirtualMachineSpec, VmiSpec, VmiTemplate, Volume,
};
use crate::kubevirt::virtual_machine_instance::{
    VirtualMachineInstance, VirtualMachineInstanceSpec, VirtualMachineInstanceStatus, VmiInterface, VmiPhase,
};
use crate::kubevirt::{Condition, VirtualMachine};
use crate::labels;

/// A VM with one container disk, 2 vCPUs and 2Gi, strategy Always, eviction External.
pub fn mk_vm(namespace: &str, name: &str) -> VirtualMachine {
    let labels = BTreeMap::from([
        (labels::MACHINE.to_owned(), name.to_owned()),
        (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_STEADING.to_owned()),
    ]);
    VirtualMachine {
        metadata: mk_meta(namespace, name, labels.clone()),
        spec: VirtualMachineSpec {
            run_strategy: Some(RunStrategy::Always),
            template: Some(VmiTemplate {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: mk_vmi_spec(name),
            }),
            ..VirtualMachineSpec::default()
        },
        status: None,
    }
}

/// Like [`mk_vm`], with CPU and memory from an instance type.
pub fn mk_vm_of_instancetype(namespace: &str, name: &str, instancetype: &str) -> VirtualMachine {
    let mut vm = mk_vm(namespace, name);
    vm.spec.instancetype = Some(Matcher {
        name: instancetype.to_owned(),
        ..Matcher::default()
    });
    if let Some(template) = vm.spec.template.as_mut() {
        template.spec.domain.cpu = None;
        template.spec.domain.memory = None;
    }
    vm
}

/// A VMI of [`mk_vm`] that runs on a node.
pub fn mk_running_vmi(namespace: &str, name: &str, node: &str, address: &str) -> VirtualMachineInstance {
    VirtualMachineInstance {
        metadata: mk_meta(
            namespace,
            name,
            BTreeMap::from([(labels::MACHINE.to_owned(), name.to_owned())]),
        ),
        spec: VirtualMachineInstanceSpec {
            spec: mk_vmi_spec(name),
        },
        status: Some(VirtualMachineInstanceStatus {
            phase: Some(VmiPhase::Running),
            node_name: Some(node.to_owned()),
            conditions: vec![mk_condition("Ready", "True"), mk_condition("LiveMigratable", "True")],
            interfaces: vec![VmiInterface {
                name: Some("default".to_owned()),
                ip_address: Some(address.to_owned()),
                ip_addresses: vec![address.to_owned()],
                ..VmiInterface::default()
            }],
            ..VirtualMachineInstanceStatus::default()
        }),
    }
}

/// The spec of a VMI with one container disk.
pub fn mk_vmi_spec(name: &str) -> VmiSpec {
    VmiSpec {
        domain: Domain {
            cpu: Some(Cpu {
                cores: Some(2),
                ..Cpu::default()
            }),
            memory: Some(Memory {
                guest: Some("2Gi".to_owned()),
                ..Memory::default()
            }),
            devices: Devices {
                disks: vec![mk_disk("boot", None)],
                ..Devices::default()
            },
            ..Domain::default()
        },
        volumes: vec![Volume {
            name: "boot".to_owned(),
            container_disk: Some(ContainerDiskSource {
                image: "registry.example/linux:1".to_owned(),
                ..ContainerDiskSource::default()
            }),
            ..Volume::default()
        }],
        eviction_strategy: Some(EvictionStrategy::External),
        hostname: Some(name.to_owned()),
        ..VmiSpec::default()
    }
}

/// A virtio disk, with a serial if it is to be hot-plugged.
pub fn mk_disk(name: &str, serial: Option<&str>) -> Disk {
    Disk {
        name: name.to_owned(),
        disk: Some(DiskTarget {
            bus: Some("virtio".to_owned()),
            ..DiskTarget::default()
        }),
        serial: serial.map(str::to_owned),
        ..Disk::default()
    }
}

/// A hot-pluggable volume on a DataVolume.
pub fn mk_hotplug_volume(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        data_volume: Some(DataVolumeSource {
            name: name.to_owned(),
            hotpluggable: Some(true),
        }),
        ..Volume::default()
    }
}

/// An empty DataVolume.
pub fn mk_blank_data_volume(namespace: &str, name: &str, size: &str) -> DataVolume {
    DataVolume {
        metadata: mk_meta(
            namespace,
            name,
            BTreeMap::from([(labels::VOLUME.to_owned(), name.to_owned())]),
        ),
        spec: DataVolumeSpec {
            source: Some(Fill {
                blank: Some(BlankSource {}),
                ..Fill::default()
            }),
            storage: Some(StorageSpec {
                resources: Some(VolumeResourceRequirements {
                    requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size.to_owned()))])),
                    ..VolumeResourceRequirements::default()
                }),
                ..StorageSpec::default()
            }),
            ..DataVolumeSpec::default()
        },
        status: None,
    }
}

/// A condition without times.
pub fn mk_condition(type_: &str, status: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        ..Condition::default()
    }
}

fn mk_meta(namespace: &str, name: &str, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}
