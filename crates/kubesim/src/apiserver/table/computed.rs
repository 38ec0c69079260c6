//! Cells that are not a field: readiness, roles, ports.

use serde_json::Value;

use super::super::dig;

const NONE: &str = "<none>";

/// The cell of that name.
pub(crate) fn cell(name: &str, value: &Value) -> String {
    match name {
        "node-status" => node_status(value),
        "node-roles" => node_roles(value),
        "internal-ip" => address(value, "InternalIP"),
        "external-ip" => address(value, "ExternalIP"),
        "pod-ready" => pod_ready(value),
        "pod-status" => pod_status(value),
        "pod-restarts" => restarts(value).to_string(),
        "pod-ip" => or_none(dig::text(value, &["status", "podIP"])),
        "pod-node" => or_none(dig::text(value, &["spec", "nodeName"])),
        "pod-nominated" => or_none(dig::text(value, &["status", "nominatedNodeName"])),
        "service-external" => service_external(value),
        "service-ports" => service_ports(value),
        "service-selector" => selector(value),
        "data" => data(value).to_string(),
        "event-object" => format!(
            "{}/{}",
            dig::text(value, &["involvedObject", "kind"]).to_ascii_lowercase(),
            dig::text(value, &["involvedObject", "name"])
        ),
        "access-modes" => access_modes(value),
        "claim" => match dig::text(value, &["spec", "claimRef", "name"]) {
            "" => String::new(),
            name => format!("{}/{name}", dig::text(value, &["spec", "claimRef", "namespace"])),
        },
        "replicas-ready" => {
            let number = |path: &[&str]| dig::at(value, path).and_then(Value::as_i64).unwrap_or(0);
            format!(
                "{}/{}",
                number(&["status", "readyReplicas"]),
                number(&["spec", "replicas"])
            )
        }
        "owner" => dig::items(value, &["metadata", "ownerReferences"]).first().map_or_else(
            || NONE.to_owned(),
            |owner| {
                format!(
                    "{}/{}",
                    dig::text(owner, &["kind"]).to_ascii_lowercase(),
                    dig::text(owner, &["name"])
                )
            },
        ),
        _ => NONE.to_owned(),
    }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { NONE } else { text }.to_owned()
}

fn node_status(node: &Value) -> String {
    let ready = dig::items(node, &["status", "conditions"])
        .iter()
        .find(|condition| dig::text(condition, &["type"]) == "Ready");
    let status = match ready.map(|condition| dig::text(condition, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = dig::at(node, &["spec", "unschedulable"])
        .and_then(Value::as_bool)
        .unwrap_or(false);
    if cordoned {
        format!("{status},SchedulingDisabled")
    } else {
        status.to_owned()
    }
}

fn node_roles(node: &Value) -> String {
    let labels = dig::at(node, &["metadata", "labels"]).and_then(Value::as_object);
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    or_none(&roles.join(","))
}

fn address(node: &Value, kind: &str) -> String {
    let addresses = dig::items(node, &["status", "addresses"]);
    let found = addresses.iter().find(|address| dig::text(address, &["type"]) == kind);
    or_none(found.map_or("", |address| dig::text(address, &["address"])))
}

fn pod_ready(pod: &Value) -> String {
    let ready = dig::items(pod, &["status", "containerStatuses"])
        .iter()
        .filter(|status| status.get("ready") == Some(&Value::Bool(true)))
        .count();
    format!("{ready}/{}", dig::items(pod, &["spec", "containers"]).len())
}

fn pod_status(pod: &Value) -> String {
    if dig::is_terminating(pod) {
        return "Terminating".to_owned();
    }
    let waiting = dig::items(pod, &["status", "containerStatuses"])
        .iter()
        .find_map(|status| {
            let reason = dig::text(status, &["state", "waiting", "reason"]);
            (!reason.is_empty()).then_some(reason)
        });
    let phase = match (
        dig::text(pod, &["status", "reason"]),
        dig::text(pod, &["status", "phase"]),
    ) {
        ("", "Succeeded") => "Completed",
        ("", "Failed") => "Error",
        ("", phase) => waiting.unwrap_or(phase),
        (reason, _) => reason,
    };
    phase.to_owned()
}

fn restarts(pod: &Value) -> i64 {
    dig::items(pod, &["status", "containerStatuses"])
        .iter()
        .filter_map(|status| status.get("restartCount")?.as_i64())
        .sum()
}

fn service_external(service: &Value) -> String {
    let ingress = dig::items(service, &["status", "loadBalancer", "ingress"]);
    let mut addresses: Vec<&str> = ingress
        .iter()
        .map(|ingress| match dig::text(ingress, &["ip"]) {
            "" => dig::text(ingress, &["hostname"]),
            ip => ip,
        })
        .collect();
    addresses.extend(
        dig::items(service, &["spec", "externalIPs"])
            .iter()
            .filter_map(Value::as_str),
    );
    match (dig::text(service, &["spec", "type"]), addresses.is_empty()) {
        ("ExternalName", _) => dig::text(service, &["spec", "externalName"]).to_owned(),
        ("LoadBalancer", true) => "<pending>".to_owned(),
        (_, true) => NONE.to_owned(),
        _ => addresses.join(","),
    }
}

fn service_ports(service: &Value) -> String {
    let ports = dig::items(service, &["spec", "ports"]).iter().map(|port| {
        let number = |key: &str| port.get(key).and_then(Value::as_i64).unwrap_or(0);
        let protocol = dig::text(port, &["protocol"]);
        match number("nodePort") {
            0 => format!("{}/{protocol}", number("port")),
            node => format!("{}:{node}/{protocol}", number("port")),
        }
    });
    or_none(&ports.collect::<Vec<_>>().join(","))
}

fn selector(service: &Value) -> String {
    let labels = dig::at(service, &["spec", "selector"]).and_then(Value::as_object);
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

fn data(object: &Value) -> usize {
    ["data", "binaryData"]
        .iter()
        .filter_map(|key| object.get(*key)?.as_object())
        .map(serde_json::Map::len)
        .sum()
}

fn access_modes(object: &Value) -> String {
    let modes = match dig::items(object, &["status", "accessModes"]) {
        [] => dig::items(object, &["spec", "accessModes"]),
        modes => modes,
    };
    let short = modes.iter().filter_map(Value::as_str).map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    short.collect::<Vec<_>>().join(",")
}
