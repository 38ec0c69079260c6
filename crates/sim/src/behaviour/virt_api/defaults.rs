//! What virt-api fills in: into a VM when it is written, into a VMI when it is made.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use steading_model::quantity::Quantity;

use super::fields::{has, is, list, list_mut, named, number, object, quantity, shown, text};

const ARCHITECTURE: &str = "amd64";
const MACHINE: &str = "q35";
/// How many times the sockets and the memory of its start a guest may grow to.
const GROWTH: u64 = 4;
/// The most virtual CPUs that a guest may grow to.
const MOST_CPUS: u64 = 512;
/// From here on memory can be plugged, in steps of [`MEMORY_STEP`].
const LEAST_FOR_PLUGGING: u64 = 1 << 30;
const MEMORY_STEP: u64 = 128 << 20;
/// The user that launchers run guests as.
const GUEST_USER: u64 = 107;
/// Annotation: how devices are laid out on the guest's PCI bus.
const PCI_TOPOLOGY: &str = "kubevirt.io/pci-topology-version";

/// Completes a VM.
pub(super) fn machine(vm: &mut Value) {
    let spec = object(vm, &["spec", "template", "spec"]);
    spec.entry("architecture").or_insert_with(|| json!(ARCHITECTURE));
    let domain = object(vm, &["spec", "template", "spec", "domain"]);
    domain.entry("resources").or_insert_with(|| json!({}));
    let machine = object(vm, &["spec", "template", "spec", "domain", "machine"]);
    machine.entry("type").or_insert_with(|| json!(MACHINE));
}

/// What a VM gets once, when it is made: who its firmware is and how its devices are laid out. `origin` makes it its own.
pub(super) fn new_machine(vm: &mut Value, origin: &str) {
    let firmware = object(vm, &["spec", "template", "spec", "domain", "firmware"]);
    for key in ["uuid", "serial"] {
        firmware
            .entry(key)
            .or_insert_with(|| json!(unique(&format!("{origin} {key}"))));
    }
    let annotations = object(vm, &["spec", "template", "metadata", "annotations"]);
    annotations.entry(PCI_TOPOLOGY).or_insert_with(|| json!("v3"));
}

/// An id that is as unique as `origin`.
fn unique(origin: &str) -> String {
    let hash = Sha256::digest(origin.as_bytes());
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = from;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Completes the spec of a VMI, or a copy of a VM's template before it is checked.
pub(super) fn spec(spec: &mut Value) {
    object(spec, &[])
        .entry("architecture")
        .or_insert_with(|| json!(ARCHITECTURE));
    let domain = object(spec, &["domain"]);
    domain.entry("resources").or_insert_with(|| json!({}));
    object(spec, &["domain", "machine"])
        .entry("type")
        .or_insert_with(|| json!(MACHINE));
    let limit = spec.pointer("/domain/resources/limits/cpu").cloned();
    if let Some(limit) = limit.filter(|_| !has(spec, "/domain/resources/requests/cpu")) {
        object(spec, &["domain", "resources", "requests"]).insert("cpu".to_owned(), limit);
    }
    memory(spec);
    topology(spec);
    for volume in list_mut(spec, "/volumes") {
        pull_policy(volume);
    }
    let strategy = object(spec, &[]).entry("evictionStrategy").or_insert(Value::Null);
    if strategy.is_null() {
        *strategy = json!("None");
    }
    network(spec);
    disks(spec);
}

/// A guest without memory of its own has what its pod asks for.
fn memory(spec: &mut Value) {
    let asked = ["requests", "limits"]
        .iter()
        .find_map(|kind| spec.pointer(&format!("/domain/resources/{kind}/memory")).cloned());
    let memory = object(spec, &["domain", "memory"]);
    if let Some(asked) = asked.filter(|_| memory.get("guest").is_none_or(Value::is_null)) {
        memory.insert("guest".to_owned(), asked);
    }
}

fn topology(spec: &mut Value) {
    let counts = ["cores", "sockets", "threads"];
    if counts
        .iter()
        .any(|count| number(spec, &format!("/domain/cpu/{count}")) > 0)
    {
        return;
    }
    let asked = ["limits", "requests"]
        .iter()
        .find_map(|kind| quantity(spec, &format!("/domain/resources/{kind}/cpu")));
    let sockets = asked.map_or(1, Quantity::units);
    let cpu = object(spec, &["domain", "cpu"]);
    for (key, count) in [("cores", 1), ("sockets", sockets), ("threads", 1)] {
        cpu.insert(key.to_owned(), json!(count));
    }
}

/// An image without a tag, or with the tag `latest`, is pulled every time.
fn pull_policy(volume: &mut Value) {
    let image = text(volume, "/containerDisk/image").to_owned();
    if image.is_empty() || has(volume, "/containerDisk/imagePullPolicy") {
        return;
    }
    let always = image.ends_with(":latest") || !image.contains([':', '@']);
    let policy = if always { "Always" } else { "IfNotPresent" };
    object(volume, &["containerDisk"]).insert("imagePullPolicy".to_owned(), json!(policy));
}

/// A guest without networks and interfaces is on its pod's.
pub(super) fn network(spec: &mut Value) {
    let none = spec.pointer("/domain/devices/autoattachPodInterface") == Some(&Value::Bool(false));
    let some = !list(spec, "/domain/devices/interfaces").is_empty() || !list(spec, "/networks").is_empty();
    if none || some {
        return;
    }
    object(spec, &[]).insert("networks".to_owned(), json!([{ "name": "default", "pod": {} }]));
    let interfaces = json!([{ "name": "default", "bridge": {} }]);
    object(spec, &["domain", "devices"]).insert("interfaces".to_owned(), interfaces);
}

/// A volume without a disk gets one.
pub(super) fn disks(spec: &mut Value) {
    let known = |name: &str| {
        ["/domain/devices/disks", "/domain/devices/filesystems"]
            .iter()
            .any(|pointer| named(spec, pointer, name).is_some())
    };
    let missing: Vec<Value> = list(spec, "/volumes")
        .iter()
        .filter(|volume| !known(text(volume, "/name")) && !has(volume, "/memoryDump"))
        .map(|volume| json!({ "name": volume["name"] }))
        .collect();
    if missing.is_empty() {
        return;
    }
    let disks = object(spec, &["domain", "devices"])
        .entry("disks")
        .or_insert_with(|| json!([]));
    if disks.is_null() {
        *disks = json!([]);
    }
    disks
        .as_array_mut()
        .into_iter()
        .for_each(|disks| disks.extend(missing.iter().cloned()));
}

/// What a VMI gets besides, when it is made: buses, how far it can grow, and its first status. `moment` is now.
pub(super) fn new_instance(vmi: &mut Value, moment: &str) {
    let mut spec = vmi["spec"].take();
    for disk in list_mut(&mut spec, "/domain/devices/disks") {
        let target = ["disk", "cdrom", "lun"]
            .into_iter()
            .find(|kind| has(disk, &format!("/{kind}")));
        let target = object(disk, &[target.unwrap_or("disk")]);
        target.entry("bus").or_insert_with(|| json!("sata"));
    }
    let cpu = object(&mut spec, &["domain", "cpu"]);
    cpu.entry("model").or_insert_with(|| json!("host-model"));
    growth(&mut spec);
    let mut status = json!({
        "phase": "Pending", "runtimeUser": GUEST_USER,
        "phaseTransitionTimestamps": [{ "phase": "Pending", "phaseTransitionTimestamp": moment }],
    });
    let counts = ["sockets", "cores", "threads"];
    for (key, value) in counts.map(|key| (key, number(&spec, &format!("/domain/cpu/{key}")))) {
        if value > 0 {
            status["currentCPUTopology"][key] = json!(value);
        }
    }
    if let Some(guest) = shown(&spec, "/domain/memory/guest") {
        status["memory"] = json!({ "guestAtBoot": guest, "guestCurrent": guest, "guestRequested": guest });
    }
    for (key, value) in object(vmi, &["status"]).clone() {
        status[key] = value;
    }
    vmi["spec"] = spec;
    vmi["status"] = status;
    let annotations = object(vmi, &["metadata", "annotations"]);
    annotations.entry(PCI_TOPOLOGY).or_insert_with(|| json!("v3"));
}

fn growth(spec: &mut Value) {
    let count = |key: &str| number(spec, &format!("/domain/cpu/{key}"));
    let (sockets, others) = (count("sockets"), count("cores").max(1) * count("threads").max(1));
    if sockets > 0 && count("maxSockets") == 0 {
        let most = (sockets * GROWTH).min((MOST_CPUS / others).max(sockets));
        object(spec, &["domain", "cpu"]).insert("maxSockets".to_owned(), json!(most));
    }
    let guest = quantity(spec, "/domain/memory/guest").map_or(0, Quantity::bytes);
    let pluggable = guest >= LEAST_FOR_PLUGGING && guest.is_multiple_of(MEMORY_STEP);
    let fixed = has(spec, "/domain/memory/hugepages")
        || is(spec, "/domain/cpu/dedicatedCpuPlacement")
        || has(spec, "/domain/resources/limits/memory");
    if pluggable && !fixed && !has(spec, "/domain/memory/maxGuest") {
        let most = Quantity::from_bytes(guest.saturating_mul(GROWTH)).to_string();
        object(spec, &["domain", "memory"]).insert("maxGuest".to_owned(), json!(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_guest_is_completed() {
        let mut bare = json!({
            "domain": { "devices": {}, "memory": { "guest": "1Gi" } },
            "volumes": [{ "name": "boot", "containerDisk": { "image": "linux" } }],
        });
        spec(&mut bare);
        let mut vmi = json!({ "metadata": {}, "spec": bare });
        new_instance(&mut vmi, "2026-01-01T00:00:00Z");
        let spec = &vmi["spec"];
        assert_eq!(
            spec["domain"]["devices"]["disks"],
            json!([{ "name": "boot", "disk": { "bus": "sata" } }])
        );
        assert_eq!(
            spec["domain"]["cpu"],
            json!({ "cores": 1, "sockets": 1, "threads": 1, "model": "host-model", "maxSockets": 4 })
        );
        assert_eq!(spec["domain"]["memory"], json!({ "guest": "1Gi", "maxGuest": "4Gi" }));
        assert_eq!(spec["volumes"][0]["containerDisk"]["imagePullPolicy"], "Always");
        assert_eq!(spec["networks"], json!([{ "name": "default", "pod": {} }]));
        assert_eq!(vmi["status"]["phase"], "Pending");
    }

    #[test]
    fn firmware_is_given_once() {
        let mut vm = json!({ "spec": { "template": { "spec": {} } } });
        new_machine(&mut vm, "ns/m");
        let given = vm.clone();
        new_machine(&mut vm, "ns/other");
        assert_eq!(vm, given);
    }
}
