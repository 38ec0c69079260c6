//! Networks, and the interfaces on them.

use serde_json::Value;

use crate::behaviour::virt_api::fields::{Causes, earlier, has, list, named, text};

const MODELS: [&str; 7] = ["e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139", "virtio"];

pub(super) fn check(field: &str, spec: &Value, causes: &mut Causes) {
    let networks = list(spec, "/networks");
    sources(field, networks, causes);
    let interfaces = list(spec, "/domain/devices/interfaces");
    let of = |index: usize| format!("{field}.domain.devices.interfaces[{index}]");
    for (index, interface) in interfaces.iter().enumerate() {
        let network = named(spec, "/networks", text(interface, "/name"));
        if has(interface, "/masquerade") && !network.is_some_and(|network| has(network, "/pod")) {
            let message = "Masquerade interface only implemented with pod network";
            causes.invalid(format!("{}.name", of(index)), message);
        }
    }
    for (index, network) in networks.iter().enumerate() {
        let name = text(network, "/name");
        if earlier(networks, index).is_some() {
            let message = format!("Network with name \"{name}\" already exists, every network must have a unique name");
            causes.add(
                "FieldValueDuplicate",
                format!("{field}.networks[{index}].name"),
                message,
            );
        }
    }
    for (index, network) in networks.iter().enumerate() {
        let name = text(network, "/name");
        if named(spec, "/domain/devices/interfaces", name).is_none() {
            let field = format!("{field}.networks[{index}].name");
            causes.required(field.clone(), format!("{field} '{name}' not found."));
        }
    }
    for index in 0..interfaces.len() {
        if earlier(interfaces, index).is_some() {
            let message = "Only one interface can be connected to one specific network";
            causes.add("FieldValueDuplicate", format!("{}.name", of(index)), message);
        }
    }
    for (index, interface) in interfaces.iter().enumerate() {
        let name = text(interface, "/name");
        if named(spec, "/networks", name).is_none() {
            let field = format!("{}.name", of(index));
            causes.invalid(field.clone(), format!("{field} '{name}' not found."));
        }
    }
    for (index, interface) in interfaces.iter().enumerate() {
        fields(&of(index), interface, causes);
    }
}

fn sources(field: &str, networks: &[Value], causes: &mut Causes) {
    if networks.iter().filter(|network| has(network, "/pod")).count() > 1 {
        let field = format!("{field}.interfaces");
        let message = format!("more than one interface is connected to a pod network in {field}");
        causes.add("FieldValueDuplicate", field, message);
    }
    for (index, network) in networks.iter().enumerate() {
        let message = match (has(network, "/pod"), has(network, "/multus")) {
            (false, false) => "should have a network type",
            (true, true) => "should have only one network type",
            _ => continue,
        };
        causes.required(format!("{field}.networks[{index}]"), message);
    }
}

fn fields(field: &str, interface: &Value, causes: &mut Causes) {
    let name = text(interface, "/name");
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if name.is_empty() || !name.chars().all(allowed) {
        let message =
            "Network interface name can only contain alphabetical characters, numbers, dashes (-) or underscores (_)";
        causes.invalid(format!("{field}.name"), message);
    }
    let model = text(interface, "/model");
    if !model.is_empty() && !MODELS.contains(&model) {
        let message = format!("interface {field}.name uses model {model} that is not supported.");
        causes.unsupported(format!("{field}.model"), message);
    }
    let address = text(interface, "/macAddress");
    if !address.is_empty() && !is_hardware_address(address) {
        let message = format!("interface {field}.name has malformed MAC address ({address}).");
        causes.invalid(format!("{field}.macAddress"), message);
    }
}

fn is_hardware_address(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
