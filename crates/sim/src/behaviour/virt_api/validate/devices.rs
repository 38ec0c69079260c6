//! Disks, and what the guest boots from.

use serde_json::Value;

use super::names::label_errors;
use crate::behaviour::virt_api::fields::{Causes, earlier, has, list, named, number, text};

const BUSES: [&str; 4] = ["virtio", "scsi", "sata", "usb"];
const TARGETS: [&str; 3] = ["disk", "lun", "cdrom"];
const LONGEST_SERIAL: usize = 256;

/// Each disk has its volume, and no two devices have the same place in the boot order.
pub(super) fn boot_order(field: &str, spec: &Value, causes: &mut Causes) {
    let mut taken = Vec::new();
    for (index, disk) in list(spec, "/domain/devices/disks").iter().enumerate() {
        let field = format!("{field}.domain.devices.disks[{index}]");
        let name = text(disk, "/name");
        let volume = named(spec, "/volumes", name);
        match volume {
            None if !has(disk, "/cdrom") => {
                causes.invalid(format!("{field}.name"), format!("{field}.Name '{name}' not found."));
            }
            Some(volume) if has(disk, "/lun") && !claims(volume) => {
                let field = format!("{field}.lun");
                let message = format!("{field} can only be mapped to a DataVolume or PersistentVolumeClaim volume.");
                causes.invalid(field, message);
            }
            _ => {}
        }
        once(&format!("{field}.bootOrder"), disk, &mut taken, causes);
    }
    for (index, interface) in list(spec, "/domain/devices/interfaces").iter().enumerate() {
        let field = format!("{field}.domain.devices.interfaces[{index}].bootOrder");
        once(&field, interface, &mut taken, causes);
    }
}

fn claims(volume: &Value) -> bool {
    has(volume, "/dataVolume") || has(volume, "/persistentVolumeClaim")
}

fn once(field: &str, device: &Value, taken: &mut Vec<u64>, causes: &mut Causes) {
    if !has(device, "/bootOrder") {
        return;
    }
    let order = number(device, "/bootOrder");
    if taken.contains(&order) {
        causes.invalid(
            field,
            format!("Boot order for {field} already set for a different device."),
        );
    }
    taken.push(order);
}

/// Names, targets, buses, serials. `field` is that of the list.
pub(super) fn disks(field: &str, spec: &Value, causes: &mut Causes) {
    let all = list(spec, "/domain/devices/disks");
    for (index, disk) in all.iter().enumerate() {
        let here = format!("{field}[{index}]");
        if let Some(other) = earlier(all, index) {
            let message = format!("{here} and {field}[{other}] must not have the same Name.");
            causes.invalid(format!("{here}.name"), message);
        }
        target(&here, disk, causes);
        if has(disk, "/bootOrder") && number(disk, "/bootOrder") < 1 {
            let message = format!("{here} must have a boot order > 0, if supplied");
            causes.invalid(format!("{here}.bootOrder"), message);
        }
        bus(&here, disk, causes);
        serial(&here, disk, causes);
        let cache = text(disk, "/cache");
        if !matches!(cache, "" | "none" | "writethrough" | "writeback") {
            let field = format!("{here}.cache");
            causes.invalid(field.clone(), format!("{field} has invalid value {cache}"));
        }
        for error in label_errors(text(disk, "/name")) {
            // virt-api names the list twice.
            causes.invalid(format!("{field}.domain.devices.disks[{index}].name"), error);
        }
    }
}

fn target(field: &str, disk: &Value, causes: &mut Causes) {
    let targets = TARGETS.iter().filter(|target| has(disk, &format!("/{target}")));
    if targets.count() > 1 {
        causes.invalid(field, format!("{field} can only have a single target type defined"));
    }
}

fn bus(field: &str, disk: &Value, causes: &mut Causes) {
    let Some(target) = TARGETS.iter().find(|target| has(disk, &format!("/{target}"))) else {
        return;
    };
    let bus = text(disk, &format!("/{target}/bus"));
    let field_of_bus = format!("{field}.{target}.bus");
    match bus {
        "ide" => causes.invalid(field_of_bus, "IDE bus is not supported"),
        "virtio" if *target == "cdrom" => {
            causes.invalid(field_of_bus, "Bus type virtio is invalid for CD-ROM device");
        }
        "sata" if super::super::fields::is(disk, "/disk/readonly") => {
            causes.invalid(field_of_bus, "sata hard-disks do not support read-only.");
        }
        "" => {}
        bus if !BUSES.contains(&bus) => {
            let buses = BUSES.join(" ");
            let message = format!("{field} is set with an unrecognized bus {bus}, must be one of: [{buses}]");
            causes.invalid(field_of_bus, message);
        }
        _ => {}
    }
}

fn serial(field: &str, disk: &Value, causes: &mut Causes) {
    let serial = text(disk, "/serial");
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_.+-".contains(letter);
    if !serial.chars().all(allowed) {
        let message = format!("{field} must be made up of the following characters [A-Za-z0-9_.+-], if specified");
        causes.invalid(format!("{field}.serial"), message);
    }
    if serial.chars().count() > LONGEST_SERIAL {
        let message = format!("{field} must be less than or equal to {LONGEST_SERIAL} in length, if specified");
        causes.invalid(format!("{field}.serial"), message);
    }
}
