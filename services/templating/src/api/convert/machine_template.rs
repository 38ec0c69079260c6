//! Machine templates: message ⇄ object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption};
use kube::ResourceExt;
use steading_api::templating::v1::{
    self as proto, Firmware as ProtoFirmware,
    machine_template::{DnsPolicy, EvictionStrategy as ProtoEviction, State},
    network_interface::{Binding as ProtoBinding, Network},
};
use steading_infra::crd::machine_template::{
    Binding, CpuSpec, EvictionStrategy, Firmware, GpuSpec, HostDeviceSpec, InterfaceSpec, MachineTemplate,
    MachineTemplateSpec, MultusSpec, PortSpec,
};
use steading_model::{name::MachineTemplateName, violation::Violations};
use steading_runtime::standard::condition;

use super::{disk, io_threads, io_threads_from, preference::policy, some};
use crate::observe::revisions::latest_id;

/// An object as a message; `None` if its name is not one of a template.
pub fn machine_template(object: &MachineTemplate) -> Option<proto::MachineTemplate> {
    let name = MachineTemplateName::from_object_name(&object.name_any())?;
    let meta = &object.metadata;
    let status = object.status.clone().unwrap_or_default();
    let terminating = meta.deletion_timestamp.is_some();
    let refused = status
        .conditions
        .iter()
        .any(|c| c.type_ == "Accepted" && c.status == "False");
    let revision = latest_id(object);
    let current = status.latest_revision.as_deref() == Some(&revision);
    let mut message = from_spec(&object.spec);
    message.revision = format!("{name}/revisions/{revision}");
    message.revision_number = if current {
        status.revision_number
    } else {
        meta.generation.unwrap_or_default()
    };
    message.name = name.to_string();
    message.state = match (terminating, refused) {
        (true, _) => State::Deleting,
        (false, true) => State::Invalid,
        (false, false) => State::Active,
    }
    .into();
    message.conditions = status.conditions.iter().map(condition).collect();
    message.reconciling = terminating || status.observed_generation != meta.generation.unwrap_or_default();
    Some(message)
}

/// The wanted fields of a message.
pub fn from_spec(spec: &MachineTemplateSpec) -> proto::MachineTemplate {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    proto::MachineTemplate {
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        instance_type: text(&spec.instance_type),
        preference: text(&spec.preference),
        cpu: spec.cpu.as_ref().map(cpu),
        memory: text(&spec.memory),
        root_disk: Some(disk::root(&spec.root_disk)),
        disks: spec.disks.iter().map(disk::additional).collect(),
        interfaces: spec.interfaces.iter().map(interface).collect(),
        dns_policy: match spec.dns_policy.as_deref() {
            Some("ClusterFirst") => DnsPolicy::ClusterFirst,
            Some("Default") => DnsPolicy::Default,
            Some("None") => DnsPolicy::None,
            _ => DnsPolicy::Unspecified,
        }
        .into(),
        dns_config: spec.dns_config.as_ref().map(dns),
        eviction_strategy: match spec.eviction_strategy {
            EvictionStrategy::External => ProtoEviction::External,
            EvictionStrategy::LiveMigrate => ProtoEviction::LiveMigrate,
            EvictionStrategy::LiveMigrateIfPossible => ProtoEviction::LiveMigrateIfPossible,
            EvictionStrategy::None => ProtoEviction::None,
        }
        .into(),
        user_data: spec.user_data.clone(),
        ssh_authorized_keys: spec.ssh_authorized_keys.clone(),
        termination_grace_period: spec
            .termination_grace_period_seconds
            .map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        network_multiqueue: spec.network_multiqueue,
        firmware: match spec.firmware {
            None => ProtoFirmware::Unspecified,
            Some(Firmware::Bios) => ProtoFirmware::Bios,
            Some(Firmware::Efi) => ProtoFirmware::Efi,
            Some(Firmware::EfiSecureBoot) => ProtoFirmware::EfiSecureBoot,
        }
        .into(),
        machine_labels: spec.machine_labels.clone().into_iter().collect(),
        machine_annotations: spec.machine_annotations.clone().into_iter().collect(),
        gpus: spec
            .gpus
            .iter()
            .map(|gpu| proto::Gpu {
                name: gpu.name.clone(),
                device_name: gpu.device_name.clone(),
                count: count(gpu.count),
                virtual_gpu_options: (gpu.display.is_some() || gpu.ram_framebuffer.is_some()).then(|| {
                    proto::VirtualGpuOptions {
                        display: gpu.display.unwrap_or(true),
                        ram_framebuffer: gpu.ram_framebuffer.unwrap_or(true),
                    }
                }),
            })
            .collect(),
        host_devices: spec
            .host_devices
            .iter()
            .map(|device| proto::HostDevice {
                name: device.name.clone(),
                device_name: device.device_name.clone(),
                count: count(device.count),
                tag: text(&device.tag),
            })
            .collect(),
        scheduler_name: text(&spec.scheduler_name),
        priority_class_name: text(&spec.priority_class_name),
        machine_type: text(&spec.machine_type),
        architecture: text(&spec.architecture),
        tpm: spec.tpm,
        io_threads_policy: io_threads_from(&text(&spec.io_threads_policy)).into(),
        refresh: spec.refresh.unwrap_or_default(),
        revision_history_limit: spec.revision_history_limit.unwrap_or_default(),
        ..proto::MachineTemplate::default()
    }
}

fn cpu(cpu: &CpuSpec) -> proto::Cpu {
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let feature = |(name, policy): (&String, &String)| {
        use proto::cpu_feature::Policy;
        let policy = match policy.as_str() {
            "optional" => Policy::Optional,
            "disable" => Policy::Disable,
            "forbid" => Policy::Forbid,
            "force" => Policy::Force,
            _ => Policy::Require,
        };
        proto::CpuFeature {
            name: name.clone(),
            policy: policy.into(),
        }
    };
    proto::Cpu {
        cores: count(cpu.cores),
        sockets: count(cpu.sockets),
        threads: count(cpu.threads),
        model: cpu.model.clone().unwrap_or_default(),
        dedicated_cpu_placement: cpu.dedicated_cpu_placement,
        isolate_emulator_thread: cpu.isolate_emulator_thread,
        numa_guest_mapping_passthrough: cpu.numa_guest_mapping_passthrough,
        hugepages_page_size: cpu.hugepages_page_size.clone().unwrap_or_default(),
        features: cpu.features.iter().map(feature).collect(),
    }
}

fn interface(interface: &InterfaceSpec) -> proto::NetworkInterface {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    proto::NetworkInterface {
        name: interface.name.clone(),
        binding: match interface.binding {
            Binding::Masquerade => ProtoBinding::Masquerade,
            Binding::Bridge => ProtoBinding::Bridge,
            Binding::Sriov => ProtoBinding::Sriov,
        }
        .into(),
        model: text(&interface.model),
        mac_address: text(&interface.mac_address),
        ports: interface
            .ports
            .iter()
            .map(|port| proto::Port {
                name: text(&port.name),
                port: port.port.into(),
                protocol: text(&port.protocol),
            })
            .collect(),
        network: Some(match &interface.multus {
            Some(multus) => Network::Multus(proto::MultusNetwork {
                network_name: multus.network_name.clone(),
                default: multus.default,
            }),
            None => Network::Pod(proto::PodNetwork {
                vm_network_cidr: text(&interface.vm_network_cidr),
                vm_ipv6_network_cidr: text(&interface.vm_ipv6_network_cidr),
            }),
        }),
    }
}

fn dns(config: &PodDNSConfig) -> proto::DnsConfig {
    let option = |o: &PodDNSConfigOption| proto::DnsOption {
        name: o.name.clone().unwrap_or_default(),
        value: o.value.clone().unwrap_or_default(),
    };
    proto::DnsConfig {
        nameservers: config.nameservers.clone().unwrap_or_default(),
        searches: config.searches.clone().unwrap_or_default(),
        options: config.options.iter().flatten().map(option).collect(),
    }
}

/// The wanted side of a message.
///
/// # Errors
/// If something is said that the object cannot hold; the rest is for [`crate::validate`].
pub fn spec(message: &proto::MachineTemplate) -> Result<MachineTemplateSpec, Violations> {
    let mut all = Violations::new();
    let interfaces = message
        .interfaces
        .iter()
        .enumerate()
        .filter_map(|(i, each)| interface_from(&mut all, i, each));
    let interfaces: Vec<InterfaceSpec> = interfaces.collect();
    all.require(message.root_disk.is_some(), "root_disk", "must be set");
    let mut positive = |path: &str, n: i32| {
        all.require((0..=1024).contains(&n), path, "must be 0 to 1024");
        u32::try_from(n).unwrap_or_default().max(1)
    };
    let cpu = message.cpu.as_ref().map(|cpu| CpuSpec {
        cores: positive("cpu.cores", cpu.cores),
        sockets: positive("cpu.sockets", cpu.sockets),
        threads: positive("cpu.threads", cpu.threads),
        model: some(&cpu.model),
        dedicated_cpu_placement: cpu.dedicated_cpu_placement,
        isolate_emulator_thread: cpu.isolate_emulator_thread,
        numa_guest_mapping_passthrough: cpu.numa_guest_mapping_passthrough,
        hugepages_page_size: some(&cpu.hugepages_page_size),
        features: cpu
            .features
            .iter()
            .map(|f| (f.name.clone(), policy(f).to_owned()))
            .collect(),
    });
    let gpus = message.gpus.iter().enumerate().map(|(index, gpu)| GpuSpec {
        name: gpu.name.clone(),
        device_name: gpu.device_name.clone(),
        count: positive(&format!("gpus[{index}].count"), gpu.count),
        display: gpu.virtual_gpu_options.as_ref().map(|o| o.display),
        ram_framebuffer: gpu.virtual_gpu_options.as_ref().map(|o| o.ram_framebuffer),
    });
    let gpus: Vec<GpuSpec> = gpus.collect();
    let host_devices = message
        .host_devices
        .iter()
        .enumerate()
        .map(|(index, device)| HostDeviceSpec {
            name: device.name.clone(),
            device_name: device.device_name.clone(),
            count: positive(&format!("host_devices[{index}].count"), device.count),
            tag: some(&device.tag),
        });
    let host_devices: Vec<HostDeviceSpec> = host_devices.collect();
    let spec = MachineTemplateSpec {
        display_name: message.display_name.clone(),
        description: message.description.clone(),
        instance_type: some(&message.instance_type),
        preference: some(&message.preference),
        cpu,
        memory: some(&message.memory),
        root_disk: message.root_disk.as_ref().map(disk::root_from).unwrap_or_default(),
        disks: message.disks.iter().map(disk::additional_from).collect(),
        interfaces,
        dns_policy: match message.dns_policy() {
            DnsPolicy::Unspecified => None,
            DnsPolicy::ClusterFirst => Some("ClusterFirst".into()),
            DnsPolicy::Default => Some("Default".into()),
            DnsPolicy::None => Some("None".into()),
        },
        dns_config: message.dns_config.as_ref().map(dns_from),
        eviction_strategy: match message.eviction_strategy() {
            ProtoEviction::Unspecified | ProtoEviction::External => EvictionStrategy::External,
            ProtoEviction::LiveMigrate => EvictionStrategy::LiveMigrate,
            ProtoEviction::LiveMigrateIfPossible => EvictionStrategy::LiveMigrateIfPossible,
            ProtoEviction::None => EvictionStrategy::None,
        },
        user_data: message.user_data.clone(),
        ssh_authorized_keys: message.ssh_authorized_keys.clone(),
        termination_grace_period_seconds: message.termination_grace_period.as_ref().map(|d| d.seconds),
        network_multiqueue: message.network_multiqueue,
        firmware: match message.firmware() {
            ProtoFirmware::Unspecified => None,
            ProtoFirmware::Bios => Some(Firmware::Bios),
            ProtoFirmware::Efi => Some(Firmware::Efi),
            ProtoFirmware::EfiSecureBoot => Some(Firmware::EfiSecureBoot),
        },
        machine_labels: message.machine_labels.clone().into_iter().collect::<BTreeMap<_, _>>(),
        machine_annotations: message
            .machine_annotations
            .clone()
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        gpus,
        host_devices,
        scheduler_name: some(&message.scheduler_name),
        priority_class_name: some(&message.priority_class_name),
        machine_type: some(&message.machine_type),
        architecture: some(&message.architecture),
        tpm: message.tpm,
        io_threads_policy: io_threads(message.io_threads_policy()).map(str::to_owned),
        refresh: Some(message.refresh).filter(|n| *n != 0),
        revision_history_limit: Some(message.revision_history_limit).filter(|n| *n != 0),
    };
    all.finish_with(Some(spec))
}

fn interface_from(all: &mut Violations, index: usize, interface: &proto::NetworkInterface) -> Option<InterfaceSpec> {
    let path = format!("interfaces[{index}]");
    let binding = match interface.binding() {
        ProtoBinding::Masquerade => Binding::Masquerade,
        ProtoBinding::Bridge => Binding::Bridge,
        ProtoBinding::Sriov => Binding::Sriov,
        ProtoBinding::Unspecified => {
            all.add(format!("{path}.binding"), "must be set");
            return None;
        }
    };
    let (multus, pod) = match &interface.network {
        Some(Network::Multus(multus)) => (
            Some(MultusSpec {
                network_name: multus.network_name.clone(),
                default: multus.default,
            }),
            proto::PodNetwork::default(),
        ),
        Some(Network::Pod(pod)) => (None, pod.clone()),
        None => {
            all.add(format!("{path}.network"), "must be exactly one of pod and multus");
            return None;
        }
    };
    let mut ports = Vec::new();
    for (number, port) in interface.ports.iter().enumerate() {
        match u16::try_from(port.port) {
            Ok(n) if n > 0 => ports.push(PortSpec {
                name: some(&port.name),
                port: n,
                protocol: some(&port.protocol),
            }),
            _ => all.add(format!("{path}.ports[{number}].port"), "must be 1 to 65535"),
        }
    }
    Some(InterfaceSpec {
        name: interface.name.clone(),
        binding,
        multus,
        vm_network_cidr: some(&pod.vm_network_cidr),
        vm_ipv6_network_cidr: some(&pod.vm_ipv6_network_cidr),
        model: some(&interface.model),
        mac_address: some(&interface.mac_address),
        ports,
    })
}

fn dns_from(config: &proto::DnsConfig) -> PodDNSConfig {
    let list = |list: &[String]| if list.is_empty() { None } else { Some(list.to_vec()) };
    let options: Vec<PodDNSConfigOption> = config
        .options
        .iter()
        .map(|o| PodDNSConfigOption {
            name: some(&o.name),
            value: some(&o.value),
        })
        .collect();
    PodDNSConfig {
        nameservers: list(&config.nameservers),
        searches: list(&config.searches),
        options: Some(options).filter(|o| !o.is_empty()),
    }
}
