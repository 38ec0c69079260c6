//! Volumes and what fills them.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::behaviour::virt_api::fields::{Causes, earlier, has, list, named, text};

const SOURCES: [&str; 16] = [
    "persistentVolumeClaim",
    "sysprep",
    "cloudInitNoCloud",
    "cloudInitConfigDrive",
    "containerDisk",
    "ephemeral",
    "emptyDisk",
    "hostDisk",
    "dataVolume",
    "configMap",
    "secret",
    "downwardAPI",
    "serviceAccount",
    "downwardMetrics",
    "memoryDump",
    "containerPath",
];
/// The most bytes of user or network data in a VM itself.
const LONGEST_DATA: usize = 2048;

/// `field` is that of the list.
pub(super) fn check(field: &str, spec: &Value, causes: &mut Causes) {
    let all = list(spec, "/volumes");
    for (index, volume) in all.iter().enumerate() {
        let here = format!("{field}[{index}]");
        if let Some(other) = earlier(all, index) {
            let message = format!("{here} and {field}[{other}] must not have the same Name.");
            causes.invalid(format!("{here}.name"), message);
        }
        if has(volume, "/dataVolume") && text(volume, "/dataVolume/name").is_empty() {
            causes.required(format!("{here}.name"), "DataVolume 'name' must be set");
        }
        let sources = SOURCES.iter().filter(|source| has(volume, &format!("/{source}")));
        if sources.count() != 1 {
            causes.invalid(here.clone(), format!("{here} must have exactly one source type set"));
        }
        for kind in ["cloudInitNoCloud", "cloudInitConfigDrive"] {
            if let Some(source) = volume.get(kind).filter(|source| !source.is_null()) {
                cloud_init(&format!("{here}.{kind}"), kind, source, causes);
            }
        }
    }
}

fn cloud_init(field: &str, kind: &str, source: &Value, causes: &mut Causes) {
    let user = data(field, kind, source, ("userData", "secretRef"), causes);
    if user.sources > 1 {
        causes.invalid(field, format!("{field} must have only one userdatasource set."));
    }
    if user.length > LONGEST_DATA {
        let message = format!(
            "{field} userdata exceeds {LONGEST_DATA} byte limit. Should use UserDataSecretRef for larger data."
        );
        causes.invalid(field, message);
    }
    let network = data(field, kind, source, ("networkData", "networkDataSecretRef"), causes);
    if network.sources > 1 {
        causes.invalid(field, format!("{field} must have only one networkdata source set."));
    }
    if network.length > LONGEST_DATA {
        let message = format!(
            "{field} networkdata exceeds {LONGEST_DATA} byte limit. Should use NetworkDataSecretRef for larger data."
        );
        causes.invalid(field, message);
    }
    if user.sources == 0 && network.sources == 0 {
        let message = format!("{field} must have at least one userdatasource or one networkdatasource set.");
        causes.invalid(field, message);
    }
}

struct Data {
    sources: usize,
    length: usize,
}

/// Where the data comes from, and how long they are if they are here.
fn data(field: &str, kind: &str, source: &Value, keys: (&str, &str), causes: &mut Causes) -> Data {
    let (plain, secret) = keys;
    let mut found = Data { sources: 0, length: 0 };
    found.sources += usize::from(!text(source, &format!("/{secret}/name")).is_empty());
    let encoded = text(source, &format!("/{plain}Base64"));
    if !encoded.is_empty() {
        found.sources += 1;
        match STANDARD.decode(encoded) {
            Ok(decoded) => found.length = decoded.len(),
            Err(_) => {
                let field = format!("{field}.{plain}Base64");
                let message = format!("{field}.{kind}.{plain}Base64 is not a valid base64 value.");
                causes.invalid(field, message);
            }
        }
    }
    let written = text(source, &format!("/{plain}"));
    if !written.is_empty() {
        found.sources += 1;
        found.length = written.len();
    }
    found
}

/// Every volume of a VMI is a disk or a filesystem of it.
pub(super) fn have_disks(field: &str, spec: &Value, causes: &mut Causes) {
    for (index, volume) in list(spec, "/volumes").iter().enumerate() {
        let name = text(volume, "/name");
        let lists = ["/domain/devices/disks", "/domain/devices/filesystems"];
        let known = lists.iter().any(|pointer| named(spec, pointer, name).is_some());
        if !known && !has(volume, "/memoryDump") {
            let field = format!("{field}.domain.volumes[{index}].name");
            causes.invalid(field.clone(), format!("{field} '{name}' not found."));
        }
    }
}
