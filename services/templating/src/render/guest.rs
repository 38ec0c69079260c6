//! The guest: processors, memory, devices, networks and user data.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use steading_cloudinit::{Format, Merge, Part, compose};
use steading_infra::crd::machine_template::{Binding, Firmware, InterfaceSpec, MachineTemplateSpec};

use super::disks::disks;
use crate::domain::{Resolved, Size};

/// Name of the interface of templates that name none.
const DEFAULT_INTERFACE: &str = "default";

/// Size of the machine: the instance type's or the template's own.
pub fn size(spec: &MachineTemplateSpec, resolved: &Resolved) -> Size {
    if let Some(entry) = &resolved.instance_type {
        return entry.size();
    }
    let mut devices = BTreeMap::new();
    for (name, count) in spec.gpus.iter().map(|g| (&g.device_name, g.count)) {
        *devices.entry(name.clone()).or_default() += count;
    }
    for (name, count) in spec.host_devices.iter().map(|d| (&d.device_name, d.count)) {
        *devices.entry(name.clone()).or_default() += count;
    }
    Size {
        vcpus: spec.cpu.as_ref().map_or(1, |cpu| cpu.cores * cpu.sockets * cpu.threads),
        memory: spec.memory.clone().unwrap_or_default(),
        devices,
    }
}

/// The template's own part of the user data; empty if it has none. What the user wrote is in it byte for byte.
pub fn user_data(spec: &MachineTemplateSpec) -> String {
    let keys = keys(&spec.ssh_authorized_keys);
    let part = |text, format| Part {
        format,
        text,
        merge: Merge::Append,
    };
    // What was validated has a format.
    let format = Format::of(&spec.user_data).unwrap_or(Format::CloudConfig);
    match (spec.user_data.is_empty(), keys.is_empty()) {
        (_, true) => spec.user_data.clone(),
        (true, false) => keys,
        (false, false) => compose(&[part(&spec.user_data, format), part(&keys, Format::CloudConfig)]),
    }
}

fn keys(keys: &[String]) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let mut text = "#cloud-config\nssh_authorized_keys:\n".to_owned();
    for key in keys {
        text.extend(["  - \"", key, "\"\n"]);
    }
    text
}

pub(super) fn domain(spec: &MachineTemplateSpec, resolved: &Resolved) -> Value {
    let preferred = resolved.preference.as_ref().map(|entry| &entry.spec);
    let prefers = |pointer: &str| preferred.is_some_and(|p| p.pointer(pointer).is_some());
    let mut devices = Map::new();
    devices.insert(
        "disks".into(),
        Value::Array(disks(spec, prefers("/devices/preferredDiskBus"))),
    );
    devices.insert("interfaces".into(), Value::Array(interfaces(spec)));
    devices.insert("rng".into(), json!({}));
    match spec.network_multiqueue {
        Some(multiqueue) => {
            devices.insert("networkInterfaceMultiqueue".into(), json!(multiqueue));
        }
        None if !prefers("/devices/preferredNetworkInterfaceMultiQueue") => {
            devices.insert("networkInterfaceMultiqueue".into(), json!(true));
        }
        None => {}
    }
    if spec.tpm {
        devices.insert("tpm".into(), json!({}));
    }
    let mut domain = Map::new();
    if resolved.instance_type.is_none() {
        hardware(spec, &mut domain, &mut devices);
    }
    domain.insert("devices".into(), Value::Object(devices));
    if let Some(firmware) = spec.firmware {
        domain.insert(
            "firmware".into(),
            json!({"bootloader": match firmware {
                Firmware::Bios => json!({"bios": {}}),
                Firmware::Efi => json!({"efi": {"secureBoot": false}}),
                Firmware::EfiSecureBoot => json!({"efi": {"secureBoot": true}}),
            }}),
        );
        if firmware == Firmware::EfiSecureBoot {
            // Secure boot needs system management mode.
            domain.insert("features".into(), json!({"smm": {"enabled": true}}));
        }
    }
    if let Some(machine_type) = &spec.machine_type {
        domain.insert("machine".into(), json!({"type": machine_type}));
    }
    Value::Object(domain)
}

/// What an instance type would say.
fn hardware(spec: &MachineTemplateSpec, domain: &mut Map<String, Value>, devices: &mut Map<String, Value>) {
    if let Some(cpu) = &spec.cpu {
        let mut fields = json!({"cores": cpu.cores, "sockets": cpu.sockets, "threads": cpu.threads});
        if let Some(model) = &cpu.model {
            fields["model"] = json!(model);
        }
        if cpu.dedicated_cpu_placement {
            fields["dedicatedCpuPlacement"] = json!(true);
        }
        if cpu.isolate_emulator_thread {
            fields["isolateEmulatorThread"] = json!(true);
        }
        if cpu.numa_guest_mapping_passthrough {
            fields["numa"] = json!({"guestMappingPassthrough": {}});
        }
        if !cpu.features.is_empty() {
            let features = cpu
                .features
                .iter()
                .map(|(name, policy)| json!({"name": name, "policy": policy}));
            fields["features"] = features.collect();
        }
        domain.insert("cpu".into(), fields);
    }
    let mut memory = json!({"guest": spec.memory});
    if let Some(size) = spec.cpu.as_ref().and_then(|cpu| cpu.hugepages_page_size.as_ref()) {
        memory["hugepages"] = json!({"pageSize": size});
    }
    domain.insert("memory".into(), memory);
    if let Some(policy) = &spec.io_threads_policy {
        domain.insert("ioThreadsPolicy".into(), json!(policy));
    }
    let gpus: Vec<Value> = spec
        .gpus
        .iter()
        .flat_map(|gpu| {
            numbered(&gpu.name, gpu.count)
                .map(|name| {
                    let mut device = json!({"name": name, "deviceName": gpu.device_name});
                    if gpu.display.is_some() || gpu.ram_framebuffer.is_some() {
                        device["virtualGPUOptions"] = json!({"display": {"enabled": gpu.display.unwrap_or(true),
                    "ramFB": {"enabled": gpu.ram_framebuffer.unwrap_or(true)}}});
                    }
                    device
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let host_devices: Vec<Value> = spec
        .host_devices
        .iter()
        .flat_map(|each| {
            numbered(&each.name, each.count)
                .map(|name| {
                    let mut device = json!({"name": name, "deviceName": each.device_name});
                    if let Some(tag) = &each.tag {
                        device["tag"] = json!(tag);
                    }
                    device
                })
                .collect::<Vec<_>>()
        })
        .collect();
    for (key, list) in [("gpus", gpus), ("hostDevices", host_devices)] {
        if !list.is_empty() {
            devices.insert(key.into(), Value::Array(list));
        }
    }
}

/// Names for `count` devices: the first has the name itself.
pub(crate) fn numbered(name: &str, count: u32) -> impl Iterator<Item = String> {
    let name = name.to_owned();
    (0..count.max(1)).map(move |i| if i == 0 { name.clone() } else { format!("{name}-{i}") })
}

fn interfaces(spec: &MachineTemplateSpec) -> Vec<Value> {
    if spec.interfaces.is_empty() {
        return vec![json!({"name": DEFAULT_INTERFACE, "masquerade": {}})];
    }
    spec.interfaces.iter().map(interface).collect()
}

fn interface(interface: &InterfaceSpec) -> Value {
    let binding = match interface.binding {
        Binding::Masquerade => "masquerade",
        Binding::Bridge => "bridge",
        Binding::Sriov => "sriov",
    };
    let mut fields = json!({"name": interface.name, binding: {}});
    if let Some(model) = &interface.model {
        fields["model"] = json!(model);
    }
    if let Some(address) = &interface.mac_address {
        fields["macAddress"] = json!(address);
    }
    if !interface.ports.is_empty() {
        fields["ports"] = json!(interface.ports);
    }
    fields
}

pub(super) fn networks(spec: &MachineTemplateSpec) -> Vec<Value> {
    if spec.interfaces.is_empty() {
        return vec![json!({"name": DEFAULT_INTERFACE, "pod": {}})];
    }
    let network = |interface: &InterfaceSpec| {
        if let Some(multus) = &interface.multus {
            let mut fields = json!({"networkName": multus.network_name});
            if multus.default {
                fields["default"] = json!(true);
            }
            return json!({"name": interface.name, "multus": fields});
        }
        let mut fields = json!({});
        if let Some(range) = &interface.vm_network_cidr {
            fields["vmNetworkCIDR"] = json!(range);
        }
        if let Some(range) = &interface.vm_ipv6_network_cidr {
            fields["vmIPv6NetworkCIDR"] = json!(range);
        }
        json!({"name": interface.name, "pod": fields})
    };
    spec.interfaces.iter().map(network).collect()
}
