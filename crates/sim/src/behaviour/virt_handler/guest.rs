//! What the node agent reports of a guest: that it runs, its interfaces, and whether it can be moved.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    draft::{Draft, list, text},
    steps::NOT_MIGRATABLE,
    volumes::{attach_boot, is_hotpluggable},
};
use crate::behaviour::virt::digest;

/// The label of the launcher's processes, as told where there is no SELinux. Target pods and attachment pods are made only when it is known.
pub(super) const SELINUX: &str = "none";

/// The guest runs.
pub(super) fn run(draft: &mut Draft<'_>, home: &Pod) {
    draft.enter("Running");
    draft.set_condition("AgentConnected", "True", "", "");
    draft.status["guestOSInfo"] = json!({
        "id": "debian", "name": "Debian GNU/Linux", "version": "13 (trixie)", "versionId": "13",
        "prettyName": "Debian GNU/Linux 13 (trixie)", "kernelRelease": "6.12.0", "machine": "x86_64",
    });
    draft.status["machine"] = json!({ "type": "q35" });
    draft.status["selinuxContext"] = json!(SELINUX);
    if let Some(memory) = draft
        .status
        .get_mut("memory")
        .filter(|memory| memory["guestAtBoot"].is_string())
    {
        memory["guestCurrent"] = memory["guestAtBoot"].clone();
    }
    attach_boot(draft);
    report_interfaces(draft, home);
    report_migratable(draft);
}

/// The interfaces as they are in this pod: behind masquerade, the guest is reached at its pod's addresses.
pub(super) fn report_interfaces(draft: &mut Draft<'_>, pod: &Pod) {
    let spec = &draft.seen.spec;
    let mut names: Vec<&str> = list(spec, "/domain/devices/interfaces")
        .map(|found| text(found, "/name"))
        .collect();
    if names.is_empty() {
        names.push("default");
    }
    let networks = || list(spec, "/networks");
    let on_pod = |name: &str| {
        let found = networks().find(|found| found["name"] == name);
        found.map_or_else(|| networks().next().is_none(), |found| found.get("pod").is_some())
    };
    // The one on the pod's network comes first, as KubeVirt's printed column wants it.
    names.sort_by_key(|name| !on_pod(name));
    let known = |name: &str| {
        list(&draft.status, "/interfaces")
            .find(|found| found["name"] == name)
            .cloned()
    };
    let report = |(index, name): (usize, &&str)| {
        let mut found = known(name).unwrap_or_else(|| json!({ "name": name }));
        let own = list(spec, "/domain/devices/interfaces").find(|found| found["name"] == **name);
        let given = own
            .map(|found| text(found, "/macAddress"))
            .filter(|given| !given.is_empty());
        let mac = given.map_or_else(
            || mac(draft.seen.metadata.uid.as_deref().unwrap_or_default(), name),
            str::to_owned,
        );
        let more = json!({
            "mac": mac, "interfaceName": format!("eth{index}"), "infoSource": "domain, guest-agent", "queueCount": 1, "linkState": "up",
        });
        merge(&mut found, more);
        if on_pod(name) {
            merge(&mut found, addresses(pod));
        }
        found
    };
    let interfaces: Vec<Value> = names.iter().enumerate().map(report).collect();
    draft.status["interfaces"] = Value::Array(interfaces);
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

fn addresses(pod: &Pod) -> Value {
    let status = pod.status.as_ref();
    let first = status.and_then(|status| status.pod_ip.clone());
    let all = status.and_then(|status| status.pod_ips.clone()).unwrap_or_default();
    let mut all: Vec<String> = all.into_iter().map(|found| found.ip).collect();
    if all.is_empty() {
        all.extend(first.clone());
    }
    match first {
        Some(first) => json!({ "ipAddress": first, "ipAddresses": all }),
        None => json!({}),
    }
}

fn mac(uid: &str, name: &str) -> String {
    let digest = digest(&format!("{uid} {name}"));
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or("0").to_owned();
    format!("02:00:00:{}:{}:0{}", part(0, 2), part(2, 4), part(4, 5))
}

/// Says whether the guest can be moved, and how.
pub(super) fn report_migratable(draft: &mut Draft<'_>) {
    let verdict = if is_marked(draft) {
        Verdict::No("HostDeviceNotLiveMigratable", "VMI uses a PCI host devices".to_owned())
    } else {
        disks(draft)
    };
    match verdict {
        Verdict::Yes => draft.set_condition("LiveMigratable", "True", "", ""),
        Verdict::No(reason, message) => draft.set_condition("LiveMigratable", "False", reason, &message),
        // virt-controller has not told about a claim yet; it will in a moment.
        Verdict::Unknown(_) if draft.has_condition("LiveMigratable") => {}
        Verdict::Unknown(claim) => {
            let message = format!("cannot migrate VMI: Unable to determine if PVC {claim} is shared, {SHARED}");
            draft.set_condition("LiveMigratable", "False", DISKS, &message);
        }
    }
    if is_marked(draft) {
        let message = "HostDeviceNotLiveMigratable: VMI uses a PCI host devices";
        draft.set_condition("StorageLiveMigratable", "False", "NotMigratable", message);
    } else {
        draft.set_condition("StorageLiveMigratable", "True", "", "");
    }
    draft.status["migrationMethod"] = json!(if has_own_disk(&draft.seen.spec) {
        "BlockMigration"
    } else {
        "LiveMigration"
    });
}

const DISKS: &str = "DisksNotLiveMigratable";
const SHARED: &str = "live migration requires that all PVCs must be shared (using ReadWriteMany access mode)";

enum Verdict {
    Yes,
    No(&'static str, String),
    Unknown(String),
}

fn is_marked(draft: &Draft<'_>) -> bool {
    draft
        .meta
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(NOT_MIGRATABLE))
}

fn disks(draft: &Draft<'_>) -> Verdict {
    let mut unknown = None;
    for volume in list(&draft.seen.spec, "/volumes") {
        let claim = match text(volume, "/dataVolume/name") {
            "" => text(volume, "/persistentVolumeClaim/claimName"),
            name => name,
        };
        if claim.is_empty() {
            continue;
        }
        let status = list(&draft.status, "/volumeStatus").find(|found| found["name"] == volume["name"]);
        let Some(info) = status.and_then(|found| found.get("persistentVolumeClaimInfo")) else {
            unknown.get_or_insert_with(|| claim.to_owned());
            continue;
        };
        if !list(info, "/accessModes").any(|mode| mode == "ReadWriteMany") {
            return Verdict::No(
                DISKS,
                format!("cannot migrate VMI: PVC {claim} is not shared, {SHARED}"),
            );
        }
    }
    unknown.map_or(Verdict::Yes, Verdict::Unknown)
}

/// Whether the guest has a disk that is neither a claim's nor read-only: its blocks go along.
fn has_own_disk(spec: &Value) -> bool {
    let read_only = |name: &Value| {
        let disks = list(spec, "/domain/devices/disks");
        disks
            .filter(|disk| disk["name"] == *name)
            .any(|disk| disk["cdrom"].is_object() && disk["cdrom"]["readonly"] != false)
    };
    let claims = |volume: &Value| {
        volume.get("dataVolume").is_some() || volume.get("persistentVolumeClaim").is_some() || is_hotpluggable(volume)
    };
    list(spec, "/volumes").any(|volume| !claims(volume) && !read_only(&volume["name"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviour::virt_handler::draft::Instance;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn mk_instance(modes: &[&str]) -> Instance {
        let object = json!({
            "metadata": { "name": "m", "uid": "u" },
            "spec": {
                "domain": { "devices": { "interfaces": [{ "name": "second", "bridge": {} }, { "name": "first", "masquerade": {} }] } },
                "networks": [{ "name": "second", "multus": { "networkName": "n" } }, { "name": "first", "pod": {} }],
                "volumes": [{ "name": "boot", "dataVolume": { "name": "claim" } }],
            },
            "status": {
                "interfaces": [{ "name": "first", "podInterfaceName": "eth0" }],
                "volumeStatus": [{ "name": "boot", "target": "", "persistentVolumeClaimInfo": { "accessModes": modes } }],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    fn mk_pod() -> Pod {
        serde_json::from_value(
            json!({ "status": { "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] } }),
        )
        .unwrap()
    }

    fn condition(draft: &Draft<'_>, type_: &str) -> Value {
        list(&draft.status, "/conditions")
            .find(|found| found["type"] == type_)
            .cloned()
            .unwrap_or_default()
    }

    #[test]
    fn the_interface_on_the_pods_network_comes_first_with_the_pods_addresses() {
        let seen = mk_instance(&["ReadWriteMany"]);
        let mut draft = Draft::new(&seen, NOW);
        run(&mut draft, &mk_pod());
        let first = &draft.status["interfaces"][0];
        assert_eq!(
            (&first["name"], &first["podInterfaceName"], &first["ipAddresses"]),
            (&json!("first"), &json!("eth0"), &json!(["10.0.0.1", "fd00::1"]))
        );
        assert!(draft.status["interfaces"][1].get("ipAddress").is_none());
    }

    #[test]
    fn a_claim_for_one_node_pins_the_guest() {
        let seen = mk_instance(&["ReadWriteMany", "ReadWriteOnce"]);
        let mut draft = Draft::new(&seen, NOW);
        report_migratable(&mut draft);
        assert_eq!(condition(&draft, "LiveMigratable")["status"], "True");
        assert_eq!(draft.status["migrationMethod"], "LiveMigration");
        let seen = mk_instance(&["ReadWriteOnce"]);
        let mut draft = Draft::new(&seen, NOW);
        report_migratable(&mut draft);
        let found = condition(&draft, "LiveMigratable");
        assert_eq!((&found["status"], &found["reason"]), (&json!("False"), &json!(DISKS)));
        assert!(text(&found, "/message").contains("PVC claim is not shared"));
        assert_eq!(
            condition(&draft, "StorageLiveMigratable")["status"],
            "True",
            "its storage could move along"
        );
    }

    #[test]
    fn what_is_not_known_yet_leaves_the_last_verdict() {
        let mut seen = mk_instance(&["ReadWriteMany"]);
        seen.spec["volumes"] = json!([{ "name": "new", "dataVolume": { "name": "new", "hotpluggable": true } }]);
        let mut draft = Draft::new(&seen, NOW);
        draft.set_condition("LiveMigratable", "True", "", "");
        report_migratable(&mut draft);
        assert_eq!(condition(&draft, "LiveMigratable")["status"], "True");
    }
}
