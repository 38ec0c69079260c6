//! What instance types and preferences make of a VMI's spec.

use serde_json::{Map, Value, json};

use super::{
    super::fields::{has, list_mut, number, object, quantity, text},
    kinds::Found,
};

/// Applies what was found to a VMI's spec and annotations; the fields in the spec at `field` that conflict, if any do.
pub(in crate::behaviour) fn apply(field: &str, vmi: &mut Value, found: &Found) -> Vec<String> {
    let preference = found.preference.as_ref().map(|preference| &preference["spec"]);
    if let Some(of) = found.instancetype.as_ref().map(|instancetype| &instancetype["spec"]) {
        let conflicts = conflicts(of, &vmi["spec"]);
        if !conflicts.is_empty() {
            return conflicts.into_iter().map(|path| format!("{field}.{path}")).collect();
        }
        apply_instancetype(of, preference, &mut vmi["spec"]);
        merge_annotations(vmi, &of["annotations"]);
    }
    if let Some(preference) = preference {
        apply_preference(preference, &mut vmi["spec"]);
        merge_annotations(vmi, &preference["annotations"]);
    }
    Vec::new()
}

fn merge_annotations(vmi: &mut Value, annotations: &Value) {
    let Some(annotations) = annotations.as_object() else {
        return;
    };
    let own = object(vmi, &["metadata", "annotations"]);
    for (key, value) in annotations {
        own.entry(key).or_insert_with(|| value.clone());
    }
}

/// Fields of a VMI's spec that the instance type has to say.
fn conflicts(of: &Value, spec: &Value) -> Vec<&'static str> {
    let mut conflicts = Vec::new();
    if has(of, "/nodeSelector") && has(spec, "/nodeSelector") {
        conflicts.push("nodeSelector");
    }
    if has(of, "/schedulerName") && has(spec, "/schedulerName") {
        conflicts.push("schedulerName");
    }
    let own = |path: &str| spec.pointer(path).is_some_and(|value| !value.is_null() && *value != 0);
    let cpu = [
        ("/domain/resources/requests/cpu", "domain.resources.requests.cpu"),
        ("/domain/resources/limits/cpu", "domain.resources.limits.cpu"),
        ("/domain/cpu/sockets", "domain.cpu.sockets"),
        ("/domain/cpu/cores", "domain.cpu.cores"),
        ("/domain/cpu/threads", "domain.cpu.threads"),
    ];
    conflicts.extend(cpu.iter().filter(|(path, _)| own(path)).map(|(_, name)| *name));
    // Of memory only the first is told.
    let memory = [
        ("/domain/memory/guest", "domain.memory.guest"),
        ("/domain/resources/requests/memory", "domain.resources.requests.memory"),
        ("/domain/resources/limits/memory", "domain.resources.limits.memory"),
    ];
    conflicts.extend(memory.iter().find(|(path, _)| own(path)).map(|(_, name)| *name));
    if has(of, "/ioThreadsPolicy") && has(spec, "/domain/ioThreadsPolicy") {
        conflicts.push("domain.ioThreadsPolicy");
    }
    conflicts
}

fn apply_instancetype(of: &Value, preference: Option<&Value>, spec: &mut Value) {
    for key in ["nodeSelector", "schedulerName"] {
        if has(of, &format!("/{key}")) {
            object(spec, &[]).insert(key.to_owned(), of[key].clone());
        }
    }
    let cpu = object(spec, &["domain", "cpu"]);
    for key in ["model", "maxSockets", "isolateEmulatorThread", "numa", "realtime"] {
        if has(of, &format!("/cpu/{key}")) {
            cpu.insert(key.to_owned(), of["cpu"][key].clone());
        }
    }
    if has(of, "/cpu/dedicatedCPUPlacement") {
        cpu.insert(
            "dedicatedCpuPlacement".to_owned(),
            of["cpu"]["dedicatedCPUPlacement"].clone(),
        );
    }
    for (key, count) in topology(number(of, "/cpu/guest"), preference) {
        cpu.insert(key.to_owned(), json!(count));
    }
    let memory = object(spec, &["domain", "memory"]);
    for key in ["guest", "hugepages", "maxGuest"] {
        if has(of, &format!("/memory/{key}")) {
            memory.insert(key.to_owned(), of["memory"][key].clone());
        }
    }
    let overcommit = number(of, "/memory/overcommitPercent");
    if let Some(guest) = quantity(of, "/memory/guest").filter(|_| overcommit > 0) {
        let asked = guest.bytes() / 100 * 100_u64.saturating_sub(overcommit);
        object(spec, &["domain", "resources", "requests"]).insert("memory".to_owned(), json!(asked.to_string()));
    }
    for key in ["ioThreadsPolicy", "ioThreads", "launchSecurity"] {
        if has(of, &format!("/{key}")) {
            object(spec, &["domain"]).insert(key.to_owned(), of[key].clone());
        }
    }
    for key in ["gpus", "hostDevices"] {
        if has(of, &format!("/{key}")) {
            object(spec, &["domain", "devices"]).insert(key.to_owned(), of[key].clone());
        }
    }
}

/// Sockets, cores and threads of so many CPUs, as the preference would have them.
fn topology(cpus: u64, preference: Option<&Value>) -> [(&'static str, u64); 3] {
    let (mut sockets, mut cores, mut threads) = (1, 1, 1);
    let preferred = preference.map_or("", |preference| text(preference, "/cpu/preferredCPUTopology"));
    match preferred {
        "cores" | "preferCores" => cores = cpus,
        "threads" | "preferThreads" => threads = cpus,
        "spread" | "preferSpread" if cpus > 1 => {
            let (ratio, across) = spread_options(preference);
            match across {
                "CoresThreads" => (cores, threads) = (cpus / ratio, ratio),
                "SocketsCoresThreads" => (sockets, cores, threads) = (cpus / 2 / ratio, ratio, 2),
                _ => (sockets, cores) = (cpus / ratio, ratio),
            }
        }
        _ => sockets = cpus,
    }
    [("sockets", sockets), ("cores", cores), ("threads", threads)]
}

fn spread_options(preference: Option<&Value>) -> (u64, &str) {
    let Some(preference) = preference else { return (2, "") };
    let ratios = ["/cpu/spreadOptions/ratio", "/preferSpreadSocketToCoreRatio"];
    let ratio = ratios
        .iter()
        .map(|pointer| number(preference, pointer))
        .find(|ratio| *ratio > 0);
    (ratio.unwrap_or(2), text(preference, "/cpu/spreadOptions/across"))
}

/// Devices of their own that a preference may attach.
const TRUTHS: [(&str, &str); 6] = [
    ("autoattachMemBalloon", "preferredAutoattachMemBalloon"),
    ("autoattachGraphicsDevice", "preferredAutoattachGraphicsDevice"),
    ("autoattachSerialConsole", "preferredAutoattachSerialConsole"),
    ("autoattachPodInterface", "preferredAutoattachPodInterface"),
    ("blockMultiQueue", "preferredBlockMultiQueue"),
    ("networkInterfaceMultiqueue", "preferredNetworkInterfaceMultiQueue"),
];

fn apply_preference(preference: &Value, spec: &mut Value) {
    let devices = &preference["devices"];
    for disk in list_mut(spec, "/domain/devices/disks") {
        let target = ["disk", "cdrom", "lun"]
            .into_iter()
            .find(|kind| has(disk, &format!("/{kind}")));
        let target = target.unwrap_or("disk");
        let preferred = match target {
            "cdrom" => "preferredCdromBus",
            "lun" => "preferredLunBus",
            _ => "preferredDiskBus",
        };
        fill(object(disk, &[target]), "bus", &devices[preferred]);
        if target == "disk" {
            fill(object(disk, &[]), "cache", &devices["preferredDiskCache"]);
            fill(object(disk, &[]), "io", &devices["preferredDiskIO"]);
        }
    }
    for interface in list_mut(spec, "/domain/devices/interfaces") {
        fill(object(interface, &[]), "model", &devices["preferredInterfaceModel"]);
    }
    for (key, preferred) in TRUTHS {
        fill(object(spec, &["domain", "devices"]), key, &devices[preferred]);
    }
    fill(
        object(spec, &[]),
        "terminationGracePeriodSeconds",
        &preference["preferredTerminationGracePeriodSeconds"],
    );
    fill(object(spec, &[]), "subdomain", &preference["preferredSubdomain"]);
}

/// Sets a field that is open to what is preferred, if anything is.
fn fill(map: &mut Map<String, Value>, key: &str, preferred: &Value) {
    let open = map.get(key).is_none_or(|value| value.is_null() || *value == "");
    if open && !preferred.is_null() && *preferred != "" {
        map.insert(key.to_owned(), preferred.clone());
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn mk_found(cpus: u64, preference: Value) -> Found {
        Found {
            instancetype: Some(json!({ "spec": { "cpu": { "guest": cpus }, "memory": { "guest": "1Gi" } } })),
            preference: Some(json!({ "spec": preference })),
        }
    }

    #[rstest]
    #[case::sockets(json!({}), [4, 1, 1])]
    #[case::cores(json!({ "cpu": { "preferredCPUTopology": "cores" } }), [1, 4, 1])]
    #[case::threads(json!({ "cpu": { "preferredCPUTopology": "preferThreads" } }), [1, 1, 4])]
    #[case::spread(json!({ "cpu": { "preferredCPUTopology": "spread" } }), [2, 2, 1])]
    fn the_preference_lays_out_the_cpus(#[case] preference: Value, #[case] wanted: [u64; 3]) {
        let mut vmi = json!({ "spec": { "domain": {} } });
        assert!(apply("spec", &mut vmi, &mk_found(4, preference)).is_empty());
        let count = |key: &str| number(&vmi, &format!("/spec/domain/cpu/{key}"));
        assert_eq!([count("sockets"), count("cores"), count("threads")], wanted);
        assert_eq!(text(&vmi, "/spec/domain/memory/guest"), "1Gi");
    }

    #[test]
    fn a_size_of_its_own_conflicts() {
        let mut vmi = json!({ "spec": { "domain": { "cpu": { "cores": 2 }, "memory": { "guest": "1Gi" } } } });
        let conflicts = apply("spec.template.spec", &mut vmi, &mk_found(4, json!({})));
        assert_eq!(
            conflicts,
            [
                "spec.template.spec.domain.cpu.cores",
                "spec.template.spec.domain.memory.guest"
            ]
        );
    }

    #[test]
    fn what_is_preferred_fills_what_is_open() {
        let preference = json!({ "devices": { "preferredDiskBus": "scsi", "preferredInterfaceModel": "e1000" } });
        let mut vmi = json!({ "spec": { "domain": { "devices": {
            "disks": [{ "name": "a" }, { "name": "b", "disk": { "bus": "virtio" } }], "interfaces": [{ "name": "default" }],
        }}}});
        apply("spec", &mut vmi, &mk_found(1, preference));
        let devices = &vmi["spec"]["domain"]["devices"];
        assert_eq!(
            devices["disks"],
            json!([{ "name": "a", "disk": { "bus": "scsi" } }, { "name": "b", "disk": { "bus": "virtio" } }])
        );
        assert_eq!(devices["interfaces"][0]["model"], "e1000");
    }
}
