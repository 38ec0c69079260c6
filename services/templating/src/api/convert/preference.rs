//! Preferences: message ⇄ spec of a VirtualMachineClusterPreference.

use kube::{ResourceExt, api::ObjectMeta};
use serde_json::{Map, Value, json};
use steading_api::templating::v1::{
    self as proto, CpuFeature, Firmware,
    cpu_feature::Policy,
    preference::{CpuTopology, Requirements, State},
};
use steading_infra::labels;
use steading_model::{name::PreferenceName, quantity::Quantity, violation::Violations};

use super::{DESCRIPTION, annotation, disk_bus, disk_bus_from, origin};
use crate::domain::standard::CATALOGUE_LABEL;

/// KubeVirt's texts; the first is what is written, `prefer…` are their old names.
const TOPOLOGIES: [(CpuTopology, &str, &str); 5] = [
    (CpuTopology::Sockets, "sockets", "preferSockets"),
    (CpuTopology::Cores, "cores", "preferCores"),
    (CpuTopology::Threads, "threads", "preferThreads"),
    (CpuTopology::Spread, "spread", "preferSpread"),
    (CpuTopology::Any, "any", "preferAny"),
];

/// An object as a message; `None` if its name is not one of an entry.
pub fn preference(object: &impl ResourceExt, spec: &Value) -> Option<proto::Preference> {
    let meta: &ObjectMeta = object.meta();
    let name = PreferenceName::from_object_name(&object.name_any())?;
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
    let topology = text("/cpu/preferredCPUTopology");
    let topology = TOPOLOGIES
        .iter()
        .find(|(_, new, old)| topology == *new || topology == *old);
    let features = spec.pointer("/cpu/preferredCPUFeatures").and_then(Value::as_array);
    let terminating = meta.deletion_timestamp.is_some();
    Some(proto::Preference {
        name: name.to_string(),
        state: if terminating { State::Deleting } else { State::Active }.into(),
        conditions: Vec::new(),
        reconciling: terminating,
        origin: origin(meta).into(),
        display_name: annotation(meta, labels::DISPLAY_NAME),
        description: annotation(meta, DESCRIPTION),
        cpu_topology: topology.map_or(CpuTopology::Unspecified, |(value, _, _)| *value).into(),
        spread_ratio: number("/cpu/spreadOptions/ratio"),
        cpu_features: features.into_iter().flatten().map(feature).collect(),
        disk_bus: disk_bus_from(&text("/devices/preferredDiskBus")).into(),
        disk_io: text("/devices/preferredDiskIO"),
        disk_cache: text("/devices/preferredDiskCache"),
        disk_dedicated_io_thread: flag("/devices/preferredDiskDedicatedIoThread"),
        interface_model: text("/devices/preferredInterfaceModel"),
        network_multiqueue: flag("/devices/preferredNetworkInterfaceMultiQueue"),
        rng: spec.pointer("/devices/preferredRng").is_some(),
        firmware: match spec.pointer("/firmware/preferredEfi") {
            Some(efi) if efi.get("secureBoot").and_then(Value::as_bool) == Some(true) => Firmware::EfiSecureBoot,
            Some(_) => Firmware::Efi,
            None if flag("/firmware/preferredUseBios") => Firmware::Bios,
            None => Firmware::Unspecified,
        }
        .into(),
        tpm: spec.pointer("/devices/preferredTPM").is_some(),
        persistent_tpm: flag("/devices/preferredTPM/persistent"),
        machine_type: text("/machine/preferredMachineType"),
        storage_class: text("/volumes/preferredStorageClassName"),
        clock_timezone: text("/clock/preferredClockOffset/timezone"),
        termination_grace_period: spec
            .pointer("/preferredTerminationGracePeriodSeconds")
            .and_then(Value::as_i64)
            .map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        requirements: spec.pointer("/requirements").map(|_| Requirements {
            vcpus: number("/requirements/cpu/guest"),
            memory: text("/requirements/memory/guest"),
            architecture: text("/requirements/architecture"),
        }),
        machine_annotations: spec
            .pointer("/annotations")
            .and_then(|v| serde_json::from_value(v.clone()).ok())
            .unwrap_or_default(),
        architecture: text("/preferredArchitecture"),
        standard: meta.labels.as_ref().is_some_and(|l| l.contains_key(CATALOGUE_LABEL)),
        ..proto::Preference::default()
    })
}

fn feature(value: &Value) -> CpuFeature {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let policy = match text("policy") {
        "optional" => Policy::Optional,
        "disable" => Policy::Disable,
        "forbid" => Policy::Forbid,
        "force" => Policy::Force,
        _ => Policy::Require,
    };
    CpuFeature {
        name: text("name").to_owned(),
        policy: policy.into(),
    }
}

/// KubeVirt's text of what is asked for a feature.
pub(crate) fn policy(feature: &CpuFeature) -> &'static str {
    match feature.policy() {
        Policy::Unspecified | Policy::Require => "require",
        Policy::Optional => "optional",
        Policy::Disable => "disable",
        Policy::Forbid => "forbid",
        Policy::Force => "force",
    }
}

/// The spec that a message wants.
///
/// # Errors
/// Every rule that the message breaks.
pub fn preference_spec(message: &proto::Preference) -> Result<Value, Violations> {
    validate(message)?;
    let mut spec = Map::new();
    let mut put = |section: &str, key: &str, value: Value| {
        let empty = matches!(&value, Value::String(s) if s.is_empty()) || value == json!(false) || value == json!(0);
        if !empty {
            let section = spec.entry(section).or_insert_with(|| json!({}));
            section[key] = value;
        }
    };
    if let Some((_, text, _)) = TOPOLOGIES.iter().find(|(value, _, _)| *value == message.cpu_topology()) {
        put("cpu", "preferredCPUTopology", json!(text));
    }
    if message.spread_ratio > 0 {
        put("cpu", "spreadOptions", json!({"ratio": message.spread_ratio}));
    }
    if !message.cpu_features.is_empty() {
        let features = message
            .cpu_features
            .iter()
            .map(|f| json!({"name": f.name, "policy": policy(f)}));
        put("cpu", "preferredCPUFeatures", features.collect());
    }
    put(
        "devices",
        "preferredDiskBus",
        json!(disk_bus(message.disk_bus()).unwrap_or_default()),
    );
    put("devices", "preferredDiskIO", json!(message.disk_io));
    put("devices", "preferredDiskCache", json!(message.disk_cache));
    put(
        "devices",
        "preferredDiskDedicatedIoThread",
        json!(message.disk_dedicated_io_thread),
    );
    put("devices", "preferredInterfaceModel", json!(message.interface_model));
    put(
        "devices",
        "preferredNetworkInterfaceMultiQueue",
        json!(message.network_multiqueue),
    );
    if message.rng {
        put("devices", "preferredRng", json!({}));
    }
    if message.tpm || message.persistent_tpm {
        put(
            "devices",
            "preferredTPM",
            if message.persistent_tpm {
                json!({"persistent": true})
            } else {
                json!({})
            },
        );
    }
    match message.firmware() {
        Firmware::Unspecified => {}
        Firmware::Bios => put("firmware", "preferredUseBios", json!(true)),
        Firmware::Efi => put("firmware", "preferredEfi", json!({"secureBoot": false})),
        Firmware::EfiSecureBoot => put("firmware", "preferredEfi", json!({"secureBoot": true})),
    }
    put("machine", "preferredMachineType", json!(message.machine_type));
    put("volumes", "preferredStorageClassName", json!(message.storage_class));
    if !message.clock_timezone.is_empty() {
        put(
            "clock",
            "preferredClockOffset",
            json!({"timezone": message.clock_timezone}),
        );
    }
    if let Some(needs) = &message.requirements {
        if needs.vcpus > 0 {
            put("requirements", "cpu", json!({"guest": needs.vcpus}));
        }
        if !needs.memory.is_empty() {
            put("requirements", "memory", json!({"guest": needs.memory}));
        }
        put("requirements", "architecture", json!(needs.architecture));
    }
    if let Some(period) = &message.termination_grace_period {
        spec.insert("preferredTerminationGracePeriodSeconds".into(), json!(period.seconds));
    }
    if !message.machine_annotations.is_empty() {
        spec.insert("annotations".into(), json!(message.machine_annotations));
    }
    if !message.architecture.is_empty() {
        spec.insert("preferredArchitecture".into(), json!(message.architecture));
    }
    Ok(Value::Object(spec))
}

fn validate(message: &proto::Preference) -> Result<(), Violations> {
    let mut all = Violations::new();
    let spread = message.cpu_topology() == CpuTopology::Spread;
    all.require(
        message.spread_ratio == 0 || spread,
        "spread_ratio",
        "can only be set with SPREAD",
    );
    all.require(message.spread_ratio >= 0, "spread_ratio", "must not be negative");
    all.require(
        matches!(message.disk_io.as_str(), "" | "native" | "threads" | "io_uring"),
        "disk_io",
        "is not known",
    );
    all.require(
        matches!(message.disk_cache.as_str(), "" | "none" | "writethrough" | "writeback"),
        "disk_cache",
        "is not known",
    );
    if let Some(needs) = &message.requirements {
        all.require(needs.vcpus >= 0, "requirements.vcpus", "must not be negative");
        if !needs.memory.is_empty() {
            all.take("requirements.memory", needs.memory.parse::<Quantity>());
        }
    }
    for (index, feature) in message.cpu_features.iter().enumerate() {
        all.require(
            !feature.name.is_empty(),
            format!("cpu_features[{index}].name"),
            "must be set",
        );
    }
    all.finish()
}
