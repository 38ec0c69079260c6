//! Volumes of a guest: devices of what it boots from, and what is plugged in and out while it runs.
//!
//! ```text
//! (virt-controller) Pending ─► Bound ─► AttachedToNode ─► MountedToPod ─► Ready
//!                                       removed from the spec ─► UnMountedFromPod ─► (virt-controller) Detaching ─► gone
//! ```

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    draft::{Draft, list, text},
    steps::Steps,
};

/// How far the plugged volumes of a guest are that is to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugged {
    /// The guest can start with them.
    All,
    /// Some are not mounted yet.
    NotAll,
}

/// Gives every volume that the guest boots with its device.
pub(super) fn attach_boot(draft: &mut Draft<'_>) {
    let spec = &draft.seen.spec;
    let mut statuses = draft.status["volumeStatus"].as_array().cloned().unwrap_or_default();
    for volume in list(spec, "/volumes") {
        let name = text(volume, "/name");
        if !statuses.iter().any(|found| found["name"] == name) {
            statuses.push(json!({ "name": name, "target": "" }));
        }
    }
    let mut taken = targets(&statuses);
    // Devices are counted in the order of the disks.
    for disk in list(spec, "/domain/devices/disks") {
        let boots = |found: &&mut Value| found["name"] == disk["name"] && !is_plugged(found);
        if let Some(status) = statuses.iter_mut().find(boots) {
            attach(spec, status, &mut taken);
        }
    }
    statuses.sort_by(|a, b| text(a, "/name").cmp(text(b, "/name")));
    draft.status["volumeStatus"] = Value::Array(statuses);
}

/// Mounts what has reached the node, for a guest that does not run yet.
pub(super) fn mount(draft: &mut Draft<'_>, takes: Duration, steps: Steps<'_>) -> Plugged {
    let wanted = names(&draft.seen.spec);
    for status in draft.list_mut("volumeStatus").into_iter().flatten() {
        if is_plugged(status) && wanted.contains(text(status, "/name")) {
            to_mounted(status, takes, steps);
        }
    }
    let ready = |name: &str| {
        let found = list(&draft.status, "/volumeStatus").find(|found| found["name"] == name);
        found.is_some_and(|found| matches!(text(found, "/phase"), "MountedToPod" | "Ready"))
    };
    let hotpluggable = list(&draft.seen.spec, "/volumes").filter(|volume| is_hotpluggable(volume));
    if hotpluggable.map(|volume| text(volume, "/name")).all(ready) {
        Plugged::All
    } else {
        Plugged::NotAll
    }
}

/// Brings the plugged volumes of a guest that runs one step on. Volumes of one attachment pod go together.
pub(super) fn plug(draft: &mut Draft<'_>, takes: Duration, steps: Steps<'_>) {
    let spec = &draft.seen.spec;
    let wanted = names(spec);
    let Some(statuses) = draft.status.get_mut("volumeStatus").and_then(Value::as_array_mut) else {
        return;
    };
    let mut taken = targets(statuses);
    for status in statuses.iter_mut().filter(|found| is_plugged(found)) {
        if !wanted.contains(text(status, "/name")) {
            to_unmounted(status, takes, steps);
            continue;
        }
        to_mounted(status, takes, steps);
        let step = format!("plug {}", holder(status));
        if text(status, "/phase") == "MountedToPod" && steps(&step, takes) {
            attach(spec, status, &mut taken);
            let name = text(status, "/name");
            let message = format!("Successfully attach hotplugged volume {name} to VM");
            tell(status, "Ready", "VolumeReady", &message);
        }
    }
}

fn to_mounted(status: &mut Value, takes: Duration, steps: Steps<'_>) {
    let holder = holder(status);
    // The attachment pod runs once its uid is known.
    let can = matches!(text(status, "/phase"), "Bound" | "Pending" | "AttachedToNode") && !holder.is_empty();
    if can && steps(&format!("mount {holder}"), takes) {
        let message = format!("Volume {} has been mounted in virt-launcher pod", text(status, "/name"));
        tell(status, "MountedToPod", "VolumeMountedToPod", &message);
    }
}

fn to_unmounted(status: &mut Value, takes: Duration, steps: Steps<'_>) {
    let can = matches!(text(status, "/phase"), "Ready" | "MountedToPod" | "AttachedToNode");
    if can && steps(&format!("unplug {}", holder(status)), takes) {
        let message = format!(
            "Volume {} has been unmounted from virt-launcher pod",
            text(status, "/name")
        );
        status["target"] = json!("");
        tell(status, "UnMountedFromPod", "VolumeUnMountedFromPod", &message);
    }
}

fn tell(status: &mut Value, phase: &str, reason: &str, message: &str) {
    for (field, value) in [("phase", phase), ("reason", reason), ("message", message)] {
        status[field] = json!(value);
    }
}

/// Gives a volume the next free device of its disk's bus; a volume without a disk has none.
fn attach(spec: &Value, status: &mut Value, taken: &mut BTreeSet<String>) {
    if !text(status, "/target").is_empty() {
        return;
    }
    let name = text(status, "/name").to_owned();
    let Some(disk) = list(spec, "/domain/devices/disks").find(|disk| disk["name"] == name.as_str()) else {
        return;
    };
    let kinds = ["/disk/bus", "/lun/bus", "/cdrom/bus"];
    let bus = kinds.iter().map(|kind| text(disk, kind)).find(|bus| !bus.is_empty());
    let prefix = if bus.unwrap_or("virtio") == "virtio" {
        "vd"
    } else {
        "sd"
    };
    let free = (0..=taken.len())
        .map(|index| device(prefix, index))
        .find(|name| !taken.contains(name));
    let free = free.unwrap_or_default();
    status["target"] = json!(free);
    taken.insert(free);
}

fn targets(statuses: &[Value]) -> BTreeSet<String> {
    let all = statuses.iter().map(|found| text(found, "/target").to_owned());
    all.filter(|target| !target.is_empty()).collect()
}

fn names(spec: &Value) -> BTreeSet<String> {
    list(spec, "/volumes")
        .map(|volume| text(volume, "/name").to_owned())
        .collect()
}

fn is_plugged(status: &Value) -> bool {
    status.get("hotplugVolume").is_some()
}

/// Uid of the attachment pod.
fn holder(status: &Value) -> String {
    text(status, "/hotplugVolume/attachPodUID").to_owned()
}

/// Whether a volume of the spec may come and go while the guest runs.
pub(super) fn is_hotpluggable(volume: &Value) -> bool {
    let sources = ["/dataVolume/hotpluggable", "/persistentVolumeClaim/hotpluggable"];
    sources
        .iter()
        .any(|source| volume.pointer(source).and_then(Value::as_bool) == Some(true))
}

/// Name of the `index`th device: `sda`, …, `sdz`, `sdaa`.
fn device(prefix: &str, index: usize) -> String {
    let letter = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap_or_default());
    match index / 26 {
        0 => format!("{prefix}{}", letter(index)),
        more => format!("{prefix}{}{}", letter(more - 1), letter(index)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviour::virt_handler::draft::Instance;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn mk_instance(volumes: &[&str], statuses: Value) -> Instance {
        let disk = |name: &&str| json!({ "name": name, "disk": { "bus": "virtio" } });
        let volume =
            |name: &&str| json!({ "name": name, "dataVolume": { "name": name, "hotpluggable": *name != "boot" } });
        let spec = json!({
            "domain": { "devices": { "disks": volumes.iter().map(disk).collect::<Vec<_>>() } },
            "volumes": volumes.iter().map(volume).collect::<Vec<_>>(),
        });
        let object = json!({ "metadata": { "name": "m" }, "spec": spec, "status": { "phase": "Running", "volumeStatus": statuses } });
        serde_json::from_value(object).unwrap()
    }

    fn mk_status(name: &str, phase: &str, target: &str) -> Value {
        json!({ "name": name, "target": target, "phase": phase, "hotplugVolume": { "attachPodName": "hp", "attachPodUID": "u" }, "size": 7 })
    }

    fn phases(draft: &Draft<'_>) -> Vec<(String, String)> {
        let all = list(&draft.status, "/volumeStatus");
        all.map(|found| (text(found, "/phase").to_owned(), text(found, "/target").to_owned()))
            .collect()
    }

    #[test]
    fn volumes_that_boot_get_devices_of_their_bus() {
        let seen = mk_instance(&["root", "data"], json!([{ "name": "root", "target": "", "size": 3 }]));
        let mut draft = Draft::new(&seen, NOW);
        attach_boot(&mut draft);
        assert_eq!(
            draft.status["volumeStatus"],
            json!([{ "name": "data", "target": "vdb" }, { "name": "root", "target": "vda", "size": 3 }])
        );
    }

    #[test]
    fn a_volume_is_mounted_then_ready_then_unmounted() {
        let statuses = json!([{ "name": "boot", "target": "vda" }, mk_status("data", "AttachedToNode", "")]);
        let seen = mk_instance(&["boot", "data"], statuses);
        let mut draft = Draft::new(&seen, NOW);
        plug(&mut draft, Duration::ZERO, &mut |step, _| step.starts_with("mount"));
        assert_eq!(phases(&draft)[1], ("MountedToPod".to_owned(), String::new()));
        plug(&mut draft, Duration::ZERO, &mut |_, _| true);
        assert_eq!(phases(&draft)[1], ("Ready".to_owned(), "vdb".to_owned()));
        assert_eq!(draft.status["volumeStatus"][1]["size"], 7, "what is not ours stays");

        let seen = mk_instance(
            &["boot"],
            json!([{ "name": "boot", "target": "vda" }, mk_status("data", "Ready", "vdb")]),
        );
        let mut draft = Draft::new(&seen, NOW);
        plug(&mut draft, Duration::ZERO, &mut |_, _| false);
        assert!(draft.changed().is_none(), "it takes its time");
        let mut draft = Draft::new(&seen, NOW);
        plug(&mut draft, Duration::ZERO, &mut |_, _| true);
        assert_eq!(phases(&draft)[1], ("UnMountedFromPod".to_owned(), String::new()));
    }

    #[test]
    fn a_guest_starts_when_all_its_plugged_volumes_are_mounted() {
        let waits = mk_instance(&["boot", "data"], json!([mk_status("data", "Bound", "")]));
        let mut draft = Draft::new(&waits, NOW);
        assert_eq!(mount(&mut draft, Duration::ZERO, &mut |_, _| false), Plugged::NotAll);
        assert_eq!(mount(&mut draft, Duration::ZERO, &mut |_, _| true), Plugged::All);
        let unknown = mk_instance(&["boot", "data"], json!([]));
        assert_eq!(
            mount(&mut Draft::new(&unknown, NOW), Duration::ZERO, &mut |_, _| true),
            Plugged::NotAll
        );
    }

    #[test]
    fn devices_go_on_after_the_alphabet() {
        assert_eq!(
            [device("vd", 0), device("sd", 25), device("sd", 26), device("sd", 53)],
            ["vda", "sdz", "sdaa", "sdbb"]
        );
    }
}
