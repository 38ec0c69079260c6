//! Instance types: message ⇄ spec of a VirtualMachineClusterInstancetype.

use kube::{ResourceExt, api::ObjectMeta};
use serde_json::{Value, json};
use steading_api::templating::v1::{self as proto, instance_type::State};
use steading_infra::labels;
use steading_model::{name::InstanceTypeName, quantity::Quantity, violation::Violations};

use super::{DESCRIPTION, annotation, io_threads, io_threads_from, origin};
use crate::{domain::standard::CATALOGUE_LABEL, render, validate::memory_size};

/// An object as a message; `None` if its name is not one of an entry.
pub fn instance_type(object: &impl ResourceExt, spec: &Value) -> Option<proto::InstanceType> {
    let meta: &ObjectMeta = object.meta();
    let name = InstanceTypeName::from_object_name(&object.name_any())?;
    let text = |pointer: &str| {
        spec.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let flag = |pointer: &str| spec.pointer(pointer).and_then(Value::as_bool).unwrap_or_default();
    let number = |pointer: &str| {
        spec.pointer(pointer)
            .and_then(Value::as_i64)
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or_default()
    };
    let terminating = meta.deletion_timestamp.is_some();
    Some(proto::InstanceType {
        name: name.to_string(),
        state: if terminating { State::Deleting } else { State::Active }.into(),
        conditions: Vec::new(),
        reconciling: terminating,
        origin: origin(meta).into(),
        display_name: annotation(meta, labels::DISPLAY_NAME),
        description: annotation(meta, DESCRIPTION),
        vcpus: number("/cpu/guest"),
        memory: text("/memory/guest"),
        dedicated_cpu_placement: flag("/cpu/dedicatedCPUPlacement"),
        isolate_emulator_thread: flag("/cpu/isolateEmulatorThread"),
        numa_guest_mapping_passthrough: spec.pointer("/cpu/numa/guestMappingPassthrough").is_some(),
        hugepages_page_size: text("/memory/hugepages/pageSize"),
        io_threads_policy: io_threads_from(&text("/ioThreadsPolicy")).into(),
        supplemental_pool_thread_count: number("/ioThreads/supplementalPoolThreadCount"),
        gpus: list(spec, "/gpus", |device| proto::Gpu {
            name: field(device, "name"),
            device_name: field(device, "deviceName"),
            count: 1,
            virtual_gpu_options: device
                .pointer("/virtualGPUOptions")
                .map(|options| proto::VirtualGpuOptions {
                    display: options
                        .pointer("/display/enabled")
                        .and_then(Value::as_bool)
                        .unwrap_or(true),
                    ram_framebuffer: options
                        .pointer("/display/ramFB/enabled")
                        .and_then(Value::as_bool)
                        .unwrap_or(true),
                }),
        }),
        host_devices: list(spec, "/hostDevices", |device| proto::HostDevice {
            name: field(device, "name"),
            device_name: field(device, "deviceName"),
            count: 1,
            tag: field(device, "tag"),
        }),
        max_sockets: number("/cpu/maxSockets"),
        max_guest_memory: text("/memory/maxGuest"),
        overcommit_percent: number("/memory/overcommitPercent"),
        cpu_model: text("/cpu/model"),
        realtime_mask: match spec.pointer("/cpu/realtime") {
            None => String::new(),
            Some(realtime) => Some(field(realtime, "mask"))
                .filter(|m| !m.is_empty())
                .unwrap_or("*".into()),
        },
        node_selector: spec
            .pointer("/nodeSelector")
            .and_then(|v| serde_json::from_value(v.clone()).ok())
            .unwrap_or_default(),
        scheduler_name: text("/schedulerName"),
        standard: meta.labels.as_ref().is_some_and(|l| l.contains_key(CATALOGUE_LABEL)),
        ..proto::InstanceType::default()
    })
}

fn list<T>(spec: &Value, pointer: &str, read: impl Fn(&Value) -> T) -> Vec<T> {
    spec.pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(read)
        .collect()
}

fn field(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The spec that a message wants. A device with a count becomes that many entries.
///
/// # Errors
/// Every rule that the message breaks.
pub fn instance_type_spec(message: &proto::InstanceType) -> Result<Value, Violations> {
    validate(message)?;
    let mut cpu = json!({"guest": message.vcpus});
    let mut memory = json!({"guest": message.memory});
    let mut spec = json!({});
    if message.dedicated_cpu_placement {
        cpu["dedicatedCPUPlacement"] = json!(true);
    }
    if message.isolate_emulator_thread {
        cpu["isolateEmulatorThread"] = json!(true);
    }
    if message.numa_guest_mapping_passthrough {
        cpu["numa"] = json!({"guestMappingPassthrough": {}});
    }
    if message.max_sockets > 0 {
        cpu["maxSockets"] = json!(message.max_sockets);
    }
    if !message.cpu_model.is_empty() {
        cpu["model"] = json!(message.cpu_model);
    }
    match message.realtime_mask.as_str() {
        "" => {}
        "*" => cpu["realtime"] = json!({}),
        mask => cpu["realtime"] = json!({"mask": mask}),
    }
    if !message.hugepages_page_size.is_empty() {
        memory["hugepages"] = json!({"pageSize": message.hugepages_page_size});
    }
    if !message.max_guest_memory.is_empty() {
        memory["maxGuest"] = json!(message.max_guest_memory);
    }
    if message.overcommit_percent > 0 {
        memory["overcommitPercent"] = json!(message.overcommit_percent);
    }
    spec["cpu"] = cpu;
    spec["memory"] = memory;
    if let Some(policy) = io_threads(message.io_threads_policy()) {
        spec["ioThreadsPolicy"] = json!(policy);
    }
    if message.supplemental_pool_thread_count > 0 {
        spec["ioThreads"] = json!({"supplementalPoolThreadCount": message.supplemental_pool_thread_count});
    }
    if !message.node_selector.is_empty() {
        spec["nodeSelector"] = json!(message.node_selector);
    }
    if !message.scheduler_name.is_empty() {
        spec["schedulerName"] = json!(message.scheduler_name);
    }
    devices(message, &mut spec);
    Ok(spec)
}

fn devices(message: &proto::InstanceType, spec: &mut Value) {
    let count = |n: i32| u32::try_from(n).unwrap_or_default();
    let mut gpus = Vec::new();
    for gpu in &message.gpus {
        for name in render::numbered(&gpu.name, count(gpu.count)) {
            let mut device = json!({"name": name, "deviceName": gpu.device_name});
            if let Some(options) = &gpu.virtual_gpu_options {
                device["virtualGPUOptions"] =
                    json!({"display": {"enabled": options.display, "ramFB": {"enabled": options.ram_framebuffer}}});
            }
            gpus.push(device);
        }
    }
    let mut host_devices = Vec::new();
    for each in &message.host_devices {
        for name in render::numbered(&each.name, count(each.count)) {
            let mut device = json!({"name": name, "deviceName": each.device_name});
            if !each.tag.is_empty() {
                device["tag"] = json!(each.tag);
            }
            host_devices.push(device);
        }
    }
    for (key, list) in [("gpus", gpus), ("hostDevices", host_devices)] {
        if !list.is_empty() {
            spec[key] = Value::Array(list);
        }
    }
}

fn validate(message: &proto::InstanceType) -> Result<(), Violations> {
    let mut all = Violations::new();
    all.require((1..=512).contains(&message.vcpus), "vcpus", "must be 1 to 512");
    memory_size(&mut all, "memory", &message.memory);
    if !message.max_guest_memory.is_empty() {
        memory_size(&mut all, "max_guest_memory", &message.max_guest_memory);
        let (least, most) = (message.memory.parse::<Quantity>(), message.max_guest_memory.parse());
        if let (Ok(least), Ok(most)) = (least, most) {
            all.require(least <= most, "max_guest_memory", "must be at least memory");
        }
    }
    if !message.hugepages_page_size.is_empty() {
        all.require(
            matches!(message.hugepages_page_size.as_str(), "2Mi" | "1Gi"),
            "hugepages_page_size",
            "must be 2Mi or 1Gi",
        );
    }
    let pinned = message.dedicated_cpu_placement;
    all.require(
        !message.isolate_emulator_thread || pinned,
        "isolate_emulator_thread",
        "needs dedicated_cpu_placement",
    );
    all.require(
        message.realtime_mask.is_empty() || pinned,
        "realtime_mask",
        "needs dedicated_cpu_placement",
    );
    all.require(
        !message.numa_guest_mapping_passthrough || (pinned && !message.hugepages_page_size.is_empty()),
        "numa_guest_mapping_passthrough",
        "needs dedicated_cpu_placement and hugepages_page_size",
    );
    all.require(
        (0..=100).contains(&message.overcommit_percent),
        "overcommit_percent",
        "must be 0 to 100",
    );
    all.require(
        message.overcommit_percent == 0 || message.hugepages_page_size.is_empty(),
        "overcommit_percent",
        "cannot be used with hugepages",
    );
    for (index, gpu) in message.gpus.iter().enumerate() {
        device(
            &mut all,
            &format!("gpus[{index}]"),
            &gpu.name,
            &gpu.device_name,
            gpu.count,
        );
    }
    for (index, each) in message.host_devices.iter().enumerate() {
        device(
            &mut all,
            &format!("host_devices[{index}]"),
            &each.name,
            &each.device_name,
            each.count,
        );
    }
    all.finish()
}

fn device(all: &mut Violations, path: &str, name: &str, device_name: &str, count: i32) {
    all.require(!name.is_empty(), format!("{path}.name"), "must be set");
    all.require(!device_name.is_empty(), format!("{path}.device_name"), "must be set");
    all.require((0..=16).contains(&count), format!("{path}.count"), "must be 0 to 16");
}
