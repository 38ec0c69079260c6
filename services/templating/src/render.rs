//! Rendering: a valid template and a machine become a VirtualMachine, `kubevirt.io/v1`. Nothing in here can fail.
//!
//! Every string that is made from the machine's name is found by [`name_paths`], which renders for two names and compares.
//! So whoever renders once for a pool can make the others by replacing the name in these places.

use serde_json::{Map, Value, json};
use steading_infra::{
    crd::machine_template::{EvictionStrategy, MachineTemplateSpec},
    labels,
};

use crate::domain::{Machine, Resolved};

mod disks;
mod guest;

pub use disks::{http_source, registry_source};
pub use disks::{local_storage, root_size};
pub(crate) use guest::numbered;
pub use guest::{size, user_data};

/// Seconds that a guest may take to shut down if the template does not say.
const GRACE_PERIOD: i64 = 30;

/// The VirtualMachine of a machine.
pub fn render(spec: &MachineTemplateSpec, resolved: &Resolved, machine: &Machine) -> Value {
    let mut all_labels = machine.labels.clone();
    all_labels.extend(spec.machine_labels.clone());
    all_labels.extend([
        (labels::MACHINE.to_owned(), machine.name.clone()),
        (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_STEADING.to_owned()),
    ]);
    let mut annotations = spec.machine_annotations.clone();
    annotations.extend(machine.annotations.clone());

    let mut vm = Map::new();
    // Always: the guest comes back after a crash, with its disks; it is gone only when the machine is deleted.
    vm.insert("runStrategy".into(), json!("Always"));
    if let Some(entry) = &resolved.instance_type {
        vm.insert(
            "instancetype".into(),
            json!({"kind": "VirtualMachineClusterInstancetype", "name": entry.pinned_object()}),
        );
    }
    if let Some(entry) = &resolved.preference {
        vm.insert(
            "preference".into(),
            json!({"kind": "VirtualMachineClusterPreference", "name": entry.pinned_object()}),
        );
    }
    vm.insert(
        "dataVolumeTemplates".into(),
        Value::Array(disks::data_volume_templates(spec, resolved, machine, &all_labels)),
    );
    vm.insert(
        "template".into(),
        json!({
            "metadata": {"labels": all_labels, "annotations": spec.machine_annotations},
            "spec": instance(spec, resolved, machine),
        }),
    );
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": machine.name, "namespace": machine.namespace, "labels": all_labels, "annotations": annotations},
        "spec": vm,
    })
}

/// The spec of the VirtualMachineInstance.
fn instance(spec: &MachineTemplateSpec, resolved: &Resolved, machine: &Machine) -> Value {
    let eviction = match spec.eviction_strategy {
        EvictionStrategy::External => "External",
        EvictionStrategy::LiveMigrate => "LiveMigrate",
        EvictionStrategy::LiveMigrateIfPossible => "LiveMigrateIfPossible",
        EvictionStrategy::None => "None",
    };
    let mut instance = machine.placement.clone();
    instance.extend([
        ("hostname".to_owned(), json!(machine.name)),
        ("evictionStrategy".to_owned(), json!(eviction)),
        (
            "terminationGracePeriodSeconds".to_owned(),
            json!(spec.termination_grace_period_seconds.unwrap_or(GRACE_PERIOD)),
        ),
        ("domain".to_owned(), guest::domain(spec, resolved)),
        ("networks".to_owned(), Value::Array(guest::networks(spec))),
        ("volumes".to_owned(), Value::Array(disks::volumes(spec, machine))),
    ]);
    let optional = [
        ("dnsPolicy", spec.dns_policy.as_ref().map(|v| json!(v))),
        ("dnsConfig", spec.dns_config.as_ref().map(|v| json!(v))),
        ("schedulerName", spec.scheduler_name.as_ref().map(|v| json!(v))),
        ("priorityClassName", spec.priority_class_name.as_ref().map(|v| json!(v))),
        ("architecture", spec.architecture.as_ref().map(|v| json!(v))),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            instance.insert(key.to_owned(), value);
        }
    }
    Value::Object(instance)
}

/// JSON pointers to the strings that are made from the machine's name, in order.
pub fn name_paths(spec: &MachineTemplateSpec, resolved: &Resolved, machine: &Machine) -> Vec<String> {
    // Two names that no template contains and that differ everywhere.
    let renamed = |name: &str| render(spec, resolved, &rename(machine, name));
    let mut paths = Vec::new();
    differences(
        "",
        &renamed("name-of-the-machine-a"),
        &renamed("name-of-the-machine-b"),
        &mut |path, _, _| {
            paths.push(path.to_owned());
        },
    );
    paths
}

/// The same machine under another name.
pub fn rename(machine: &Machine, name: &str) -> Machine {
    let replace = |text: &String| {
        if *text == machine.name {
            name.to_owned()
        } else {
            text.clone()
        }
    };
    let secret = match machine.user_data_secret.strip_prefix(&machine.name) {
        Some(suffix) if !machine.name.is_empty() => format!("{name}{suffix}"),
        _ => machine.user_data_secret.clone(),
    };
    Machine {
        name: name.to_owned(),
        labels: machine.labels.iter().map(|(k, v)| (k.clone(), replace(v))).collect(),
        annotations: machine
            .annotations
            .iter()
            .map(|(k, v)| (k.clone(), replace(v)))
            .collect(),
        user_data_secret: secret,
        ..machine.clone()
    }
}

/// Takes a JSON pointer and what either side has there.
pub type Report<'a> = dyn FnMut(&str, Option<&Value>, Option<&Value>) + 'a;

/// Walks two values and reports where they differ, with the JSON pointer and what either side has.
pub fn differences(path: &str, from: &Value, to: &Value, report: &mut Report<'_>) {
    match (from, to) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                step(&path, a.get(key), b.get(key), report);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                step(&format!("{path}/{index}"), a.get(index), b.get(index), report);
            }
        }
        (a, b) if a == b => {}
        (a, b) => report(path, Some(a), Some(b)),
    }
}

fn step(path: &str, from: Option<&Value>, to: Option<&Value>, report: &mut Report<'_>) {
    match (from, to) {
        (Some(a), Some(b)) => differences(path, a, b, report),
        (a, b) => report(path, a, b),
    }
}

#[cfg(test)]
mod tests;
