//! What the server itself puts into objects: names, identity, generation, defaults of built-in types.

use serde_json::{Value, json};

use super::{
    ApiServer, dig,
    resource::ResourceDef,
    status::{ApiError, Cause},
};

/// Sets what every new object gets: uid, creation time, generation; drops what only the server may say.
pub(crate) fn stamp_new(server: &ApiServer, def: &ResourceDef, object: &mut Value) {
    let metadata = dig::metadata(object);
    for key in [
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        metadata.remove(key);
    }
    metadata.insert("uid".to_owned(), json!(server.new_uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(server.timestamp()));
    if def.has_generation() {
        metadata.insert("generation".to_owned(), json!(1));
    }
    if !def.namespaced() {
        metadata.remove("namespace");
    }
}

/// Fills in what the types of Kubernetes default.
pub(crate) fn defaults(def: &ResourceDef, object: &mut Value) {
    match (def.group.as_str(), def.plural.as_str()) {
        ("", "namespaces") => namespace(object),
        ("", "pods") => pod(object),
        ("", "services") => service(object),
        ("", "persistentvolumeclaims") => {
            default(object, &["spec"], "volumeMode", json!("Filesystem"));
            default(object, &["status"], "phase", json!("Pending"));
        }
        ("", "persistentvolumes") => default(object, &["status"], "phase", json!("Pending")),
        ("", "secrets") => secret(object),
        ("", "resourcequotas") => default(object, &[], "status", json!({})),
        ("apps", "deployments" | "replicasets" | "statefulsets") => default(object, &["spec"], "replicas", json!(1)),
        ("storage.k8s.io", "storageclasses") => {
            default(object, &[], "reclaimPolicy", json!("Delete"));
            default(object, &[], "volumeBindingMode", json!("Immediate"));
        }
        _ => {}
    }
}

fn default(object: &mut Value, path: &[&str], key: &str, value: Value) {
    let map = dig::object_at(object, path);
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value);
    }
}

fn namespace(object: &mut Value) {
    let name = dig::meta(object, "name").to_owned();
    dig::object_at(object, &["metadata", "labels"]).insert("kubernetes.io/metadata.name".to_owned(), json!(name));
    if !dig::is_terminating(object) {
        default(object, &["spec"], "finalizers", json!(["kubernetes"]));
    }
    default(object, &["status"], "phase", json!("Active"));
}

fn pod(object: &mut Value) {
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
    ] {
        default(object, &["spec"], key, value);
    }
    default(object, &["status"], "phase", json!("Pending"));
    default(object, &["status"], "qosClass", json!("BestEffort"));
}

fn secret(object: &mut Value) {
    default(object, &[], "type", json!("Opaque"));
    let map = dig::object(object);
    if let Some(Value::Object(plain)) = map.remove("stringData") {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let data = dig::object_at(object, &["data"]);
        for (key, value) in plain {
            data.insert(key, json!(STANDARD.encode(value.as_str().unwrap_or_default())));
        }
    }
}

fn service(object: &mut Value) {
    default(object, &["spec"], "type", json!("ClusterIP"));
    default(object, &["spec"], "sessionAffinity", json!("None"));
    default(object, &["status"], "loadBalancer", json!({}));
    let kind = dig::text(object, &["spec", "type"]).to_owned();
    if kind != "ExternalName" {
        default(object, &["spec"], "internalTrafficPolicy", json!("Cluster"));
    }
    if matches!(kind.as_str(), "LoadBalancer" | "NodePort") {
        default(object, &["spec"], "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        default(object, &["spec"], "allocateLoadBalancerNodePorts", json!(true));
    }
    for port in ports_of(object) {
        default(port, &[], "protocol", json!("TCP"));
        let number = port.get("port").cloned().unwrap_or_default();
        default(port, &[], "targetPort", number);
    }
}

fn ports_of(service: &mut Value) -> &mut [Value] {
    dig::object_at(service, &["spec"])
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default()
}

/// Gives a Service what only the server hands out, or keeps what it had: addresses and node ports. Nobody's field, so it comes after the record.
pub(crate) fn allocate(server: &ApiServer, def: &ResourceDef, old: Option<&Value>, object: &mut Value) {
    if !(def.group.is_empty() && def.plural == "services") || dig::text(object, &["spec", "type"]) == "ExternalName" {
        return;
    }
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(value) = old.and_then(|old| dig::at(old, &["spec", key])) {
            default(object, &["spec"], key, value.clone());
        }
    }
    if dig::text(object, &["spec", "clusterIP"]).is_empty() {
        let address = server.next_cluster_ip();
        dig::object_at(object, &["spec"]).insert("clusterIP".to_owned(), json!(address));
    }
    let address = dig::text(object, &["spec", "clusterIP"]).to_owned();
    default(object, &["spec"], "clusterIPs", json!([address]));
    default(
        object,
        &["spec"],
        "ipFamilies",
        json!([if address.contains(':') { "IPv6" } else { "IPv4" }]),
    );
    default(object, &["spec"], "ipFamilyPolicy", json!("SingleStack"));
    let exposed = matches!(dig::text(object, &["spec", "type"]), "LoadBalancer" | "NodePort")
        && dig::at(object, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    if !exposed {
        return;
    }
    let had = old.map(|old| dig::items(old, &["spec", "ports"])).unwrap_or_default();
    let number = |port: &Value, key: &str| port.get(key).and_then(Value::as_i64).unwrap_or_default();
    for port in ports_of(object) {
        if number(port, "nodePort") != 0 {
            continue;
        }
        let same = had
            .iter()
            .find(|old| number(old, "port") == number(port, "port") && old.get("protocol") == port.get("protocol"));
        let kept = same.map(|old| number(old, "nodePort")).filter(|kept| *kept != 0);
        let node_port = kept.unwrap_or_else(|| i64::from(server.next_node_port()));
        dig::object(port).insert("nodePort".to_owned(), json!(node_port));
    }
}

/// Whether `status` of a new object is kept: nodes are made with it by their kubelets; types without the subresource have it as any field.
pub(crate) fn keeps_new_status(def: &ResourceDef, status_subresource: bool) -> bool {
    !status_subresource || (def.group.is_empty() && def.plural == "nodes")
}

/// The checks that hold for the metadata of every object.
pub(crate) fn check_metadata(def: &ResourceDef, object: &Value) -> Result<(), ApiError> {
    let name = dig::meta(object, "name");
    let mut causes = Vec::new();
    if !valid_name(def, name) {
        causes.push(Cause::new("FieldValueInvalid", "metadata.name", format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        )));
    }
    if let Some(labels) = dig::at(object, &["metadata", "labels"]).and_then(Value::as_object) {
        for (key, value) in labels {
            let text = value.as_str();
            if text.is_none_or(|text| !valid_label(text)) {
                causes.push(Cause::new(
                    "FieldValueInvalid",
                    "metadata.labels",
                    format!("Invalid value: {value}: not a valid label value for {key}"),
                ));
            }
        }
    }
    for finalizer in dig::finalizers(object) {
        if finalizer.is_empty()
            || (def.origin != super::Origin::BuiltIn
                && !finalizer.contains('/')
                && !matches!(finalizer, "foregroundDeletion" | "orphan"))
        {
            let message = format!(
                "Invalid value: \"{finalizer}\": name is neither a standard finalizer name nor is it fully qualified"
            );
            causes.push(Cause::new("FieldValueInvalid", "metadata.finalizers", message));
        }
    }
    for owner in dig::items(object, &["metadata", "ownerReferences"]) {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if dig::text(owner, &[key]).is_empty() {
                causes.push(Cause::new(
                    "FieldValueInvalid",
                    format!("metadata.ownerReferences.{key}"),
                    "Invalid value: \"\": must not be empty",
                ));
            }
        }
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(def, name, causes))
    }
}

fn valid_name(def: &ResourceDef, name: &str) -> bool {
    if name.is_empty() || name.len() > 253 {
        return false;
    }
    if def.group == "rbac.authorization.k8s.io" {
        return !name.contains(['/', '%']) && name != "." && name != "..";
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split('.').all(|part| {
        let bytes = part.as_bytes();
        bytes.first().copied().is_some_and(inner)
            && bytes.last().copied().is_some_and(inner)
            && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
    })
}

fn valid_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= 63
            && text.starts_with(inner)
            && text.ends_with(inner)
            && text.chars().all(|c| inner(c) || "-_.".contains(c)))
}
