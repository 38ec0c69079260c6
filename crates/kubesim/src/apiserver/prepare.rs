//! What the server itself puts into objects: names, identity, generation, defaults of built-in types.

use serde_json::{Value, json};

use super::{ApiServer, dig, pods, resource::ResourceDef};

/// Sets what every new object gets: uid, creation time, generation; drops what only the server may say.
pub(crate) fn stamp_new(server: &ApiServer, def: &ResourceDef, object: &mut Value) {
    let metadata = dig::metadata(object);
    for key in [
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        metadata.remove(key);
    }
    for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
        if metadata.get(key).is_some_and(dig::is_void) {
            metadata.remove(key);
        }
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
        ("", "pods") => pods::pod(object),
        ("" | "events.k8s.io", "events") => event(object),
        ("", "services") => service(object),
        ("", "persistentvolumeclaims") => {
            default(object, &["spec"], "volumeMode", json!("Filesystem"));
            default(object, &["status"], "phase", json!("Pending"));
        }
        ("", "persistentvolumes") => default(object, &["status"], "phase", json!("Pending")),
        ("", "secrets") => secret(object),
        ("", "configmaps") => without_empty_data(object),
        ("", "resourcequotas") => default(object, &[], "status", json!({})),
        ("apps", "deployments") => deployment(object),
        ("apps", "replicasets" | "statefulsets") => {
            default(object, &["spec"], "replicas", json!(1));
            pods::template(dig::object_at(object, &["spec", "template", "spec"]));
        }
        ("apps", "daemonsets") => pods::template(dig::object_at(object, &["spec", "template", "spec"])),
        ("", "podtemplates") => pods::template(dig::object_at(object, &["template", "spec"])),
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

fn deployment(object: &mut Value) {
    for (key, value) in [
        ("replicas", json!(1)),
        ("revisionHistoryLimit", json!(10)),
        ("progressDeadlineSeconds", json!(600)),
    ] {
        default(object, &["spec"], key, value);
    }
    default(object, &["spec", "strategy"], "type", json!("RollingUpdate"));
    if dig::text(object, &["spec", "strategy", "type"]) == "RollingUpdate" {
        for key in ["maxSurge", "maxUnavailable"] {
            default(object, &["spec", "strategy", "rollingUpdate"], key, json!("25%"));
        }
    }
    pods::template(dig::object_at(object, &["spec", "template", "spec"]));
    default(object, &[], "status", json!({}));
}

/// Events say even what they do not know.
fn event(object: &mut Value) {
    for key in ["eventTime", "firstTimestamp", "lastTimestamp"] {
        default(object, &[], key, Value::Null);
    }
    default(object, &[], "source", json!({}));
    default(object, &[], "reportingComponent", json!(""));
    default(object, &[], "reportingInstance", json!(""));
}

fn without_empty_data(object: &mut Value) {
    for key in ["data", "binaryData"] {
        if object.get(key).is_some_and(dig::is_void) {
            dig::object(object).shift_remove(key);
        }
    }
}

fn secret(object: &mut Value) {
    without_empty_data(object);
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
    let ingress = dig::object_at(object, &["status", "loadBalancer"]).get_mut("ingress");
    for point in ingress.and_then(Value::as_array_mut).into_iter().flatten() {
        if !dig::text(point, &["ip"]).is_empty() {
            default(point, &[], "ipMode", json!("VIP"));
        }
    }
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
    if !(def.group.is_empty() && def.plural == "services") {
        return;
    }
    if let Some(old) = old {
        give_back(old, object);
    }
    if dig::text(object, &["spec", "type"]) == "ExternalName" {
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

/// A Service that changes its type gives back what the new type does not have.
fn give_back(old: &Value, object: &mut Value) {
    let kind = dig::text(object, &["spec", "type"]).to_owned();
    if dig::text(old, &["spec", "type"]) == kind {
        return;
    }
    let not_exposed = [
        "externalTrafficPolicy",
        "allocateLoadBalancerNodePorts",
        "healthCheckNodePort",
    ];
    let no_address = [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
    ];
    let (exposed, addressed) = match kind.as_str() {
        "ClusterIP" => (false, true),
        "ExternalName" => (false, false),
        _ => (true, true),
    };
    if !exposed {
        for port in ports_of(object) {
            dig::object(port).remove("nodePort");
        }
    }
    let spec = dig::object_at(object, &["spec"]);
    let gone = not_exposed
        .iter()
        .filter(|_| !exposed)
        .chain(no_address.iter().filter(|_| !addressed));
    for key in gone {
        spec.remove(*key);
    }
}

/// Whether `status` of a new object is kept: nodes are made with it by their kubelets; types without the subresource have it as any field.
pub(crate) fn keeps_new_status(def: &ResourceDef, status_subresource: bool) -> bool {
    !status_subresource || (def.group.is_empty() && def.plural == "nodes")
}
