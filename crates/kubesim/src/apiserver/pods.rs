//! Defaults of pod specs, wherever they stand, and the class of service that a pod has by its resources.

use serde_json::{Map, Value, json};

use super::dig;

/// Seconds that a pod stays on a node that is not well, where it says nothing else.
const STAY: i64 = 300;

fn default(map: &mut Map<String, Value>, key: &str, value: Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value);
    }
}

fn each<'v>(map: &'v mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// What a pod gets.
pub(crate) fn pod(object: &mut Value) {
    let spec = dig::object_at(object, &["spec"]);
    for kind in ["initContainers", "containers"] {
        each(spec, kind).for_each(request_limits);
    }
    template(spec);
    default(spec, "enableServiceLinks", json!(true));
    if spec.get("priorityClassName").is_none() {
        default(spec, "priority", json!(0));
        default(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    }
    default(spec, "serviceAccountName", json!("default"));
    let account = spec.get("serviceAccountName").cloned().unwrap_or_default();
    default(spec, "serviceAccount", account);
    tolerate(spec);
    let class = class(spec);
    let status = dig::object_at(object, &["status"]);
    default(status, "phase", json!("Pending"));
    default(status, "qosClass", json!(class));
}

/// What the spec of a pod or of a pod's template gets.
pub(crate) fn template(spec: &mut Map<String, Value>) {
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
    ] {
        default(spec, key, value);
    }
    for kind in ["initContainers", "containers"] {
        each(spec, kind).for_each(container);
    }
    each(spec, "volumes").for_each(volume);
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
    let pull = if latest { "Always" } else { "IfNotPresent" };
    for (key, value) in [
        ("imagePullPolicy", json!(pull)),
        ("resources", json!({})),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
    ] {
        default(container, key, value);
    }
    each(container, "ports").for_each(|port| default(port, "protocol", json!("TCP")));
    for variable in each(container, "env") {
        let field = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef"));
        if let Some(field) = field.and_then(Value::as_object_mut) {
            default(field, "apiVersion", json!("v1"));
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(found)) = container.get_mut(kind) {
            probe(found);
        }
    }
}

fn probe(probe: &mut Map<String, Value>) {
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        default(probe, key, json!(value));
    }
    if let Some(Value::Object(get)) = probe.get_mut("httpGet") {
        default(get, "path", json!("/"));
        default(get, "scheme", json!("HTTP"));
    }
    if let Some(Value::Object(call)) = probe.get_mut("grpc") {
        default(call, "service", json!(""));
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.len() == 1 && volume.contains_key("name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for kind in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(Value::Object(source)) = volume.get_mut(kind) {
            default(source, "defaultMode", json!(0o644));
        }
    }
    if let Some(Value::Object(path)) = volume.get_mut("hostPath") {
        default(path, "type", json!(""));
    }
}

/// What is limited is also requested.
fn request_limits(container: &mut Map<String, Value>) {
    let Some(Value::Object(resources)) = container.get_mut("resources") else {
        return;
    };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
        return;
    };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    for (name, amount) in limits {
        default(dig::object(requests), &name, amount);
    }
}

fn tolerate(spec: &mut Map<String, Value>) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = tolerations.as_array_mut() else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let known = list.iter().any(|one| {
            let (about, effect) = (dig::text(one, &["key"]), dig::text(one, &["effect"]));
            (about == key || about.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !known {
            list.push(json!({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": STAY}));
        }
    }
}

/// Guaranteed if every container's requests are its limits, best effort if there are none at all.
fn class(spec: &Map<String, Value>) -> &'static str {
    let containers: Vec<&Value> = ["initContainers", "containers"]
        .iter()
        .filter_map(|kind| spec.get(*kind)?.as_array())
        .flatten()
        .collect();
    let of = |container: &Value, kind: &str, name: &str| dig::at(container, &["resources", kind, name]).cloned();
    let counted = ["cpu", "memory"];
    let any = containers.iter().any(|container| {
        counted
            .iter()
            .any(|name| of(container, "requests", name).is_some() || of(container, "limits", name).is_some())
    });
    let all = containers.iter().all(|container| {
        counted.iter().all(|name| {
            let limit = of(container, "limits", name);
            limit.is_some() && limit == of(container, "requests", name)
        })
    });
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
