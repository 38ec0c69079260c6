//! What the API server itself does about where pods go: selectors completed by the pod's labels, gates, and the
//! labels that tell in which zone a pod's node is.

use serde_json::{Map, Value, json};

use super::{ApiServer, dig, resource::ResourceDef, status::Cause, store::Key};

/// Labels that a pod takes over from its node.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Completes a new object, if it is a pod.
pub(crate) fn complete(server: &ApiServer, def: &ResourceDef, object: &mut Value) {
    if !is_pod(def) {
        return;
    }
    merge_label_keys(object);
    if is_gated(object) {
        let conditions = dig::object_at(object, &["status"])
            .entry("conditions")
            .or_insert_with(|| json!([]));
        if let Some(list) = conditions.as_array_mut().filter(|list| list.is_empty()) {
            list.push(json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": null,
            }));
        }
    }
    let node = dig::text(object, &["spec", "nodeName"]).to_owned();
    take_over_topology(server, object, &node);
}

/// Copies from the node to the pod in which zone and region it is.
pub(crate) fn take_over_topology(server: &ApiServer, pod: &mut Value, node: &str) {
    let nodes = server.store().collection("", "nodes");
    let Some(node) = nodes.and_then(|nodes| nodes.get(&Key::new("", node))) else {
        return;
    };
    for key in TOPOLOGY {
        if let Some(value) = dig::at(&node.value, &["metadata", "labels", key]) {
            dig::object_at(pod, &["metadata", "labels"]).insert(key.to_owned(), value.clone());
        }
    }
}

/// Why a pod cannot be bound to a node, if that is so.
pub(crate) fn unbindable(pod: &Value, name: &str) -> Option<String> {
    let bound = dig::text(pod, &["spec", "nodeName"]);
    if dig::is_terminating(pod) {
        Some(format!("pod {name} is being deleted, cannot be assigned to a host"))
    } else if !bound.is_empty() {
        Some(format!("pod {name} is already assigned to node {bound:?}"))
    } else if is_gated(pod) {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    }
}

/// Gates can only be taken away.
pub(crate) fn check_gates(old: Option<&Value>, pod: &Value, causes: &mut Vec<Cause>) {
    let Some(old) = old else {
        return;
    };
    let known: Vec<&str> = gates(old).collect();
    for (index, gate) in gates(pod).enumerate().filter(|(_, gate)| !known.contains(gate)) {
        causes.push(Cause::new(
            "FieldValueForbidden",
            format!("spec.schedulingGates[{index}].name"),
            format!("Forbidden: only deletion is allowed, but found new scheduling gate '{gate}'"),
        ));
    }
}

fn is_pod(def: &ResourceDef) -> bool {
    def.group.is_empty() && def.plural == "pods"
}

fn gates(pod: &Value) -> impl Iterator<Item = &str> {
    let gates = dig::at(pod, &["spec", "schedulingGates"]).and_then(Value::as_array);
    gates.into_iter().flatten().map(|gate| dig::text(gate, &["name"]))
}

fn is_gated(pod: &Value) -> bool {
    gates(pod).next().is_some()
}

/// Keys of labels by which a pod counts others become requirements with the pod's own values.
fn merge_label_keys(pod: &mut Value) {
    let labels = dig::at(pod, &["metadata", "labels"])
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    each(spec.get_mut("topologySpreadConstraints"), |constraint| {
        require(constraint, "matchLabelKeys", "In", &labels);
    });
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(rules) = spec.get_mut("affinity").and_then(|affinity| affinity.get_mut(kind)) else {
            continue;
        };
        let both = |term: &mut Value| {
            require(term, "matchLabelKeys", "In", &labels);
            require(term, "mismatchLabelKeys", "NotIn", &labels);
        };
        each(rules.get_mut("requiredDuringSchedulingIgnoredDuringExecution"), both);
        each(
            rules.get_mut("preferredDuringSchedulingIgnoredDuringExecution"),
            |preferred| {
                if let Some(term) = preferred.get_mut("podAffinityTerm") {
                    both(term);
                }
            },
        );
    }
}

fn each(list: Option<&mut Value>, mut of: impl FnMut(&mut Value)) {
    let list = list.and_then(Value::as_array_mut);
    list.into_iter().flatten().for_each(&mut of);
}

fn require(term: &mut Value, keys: &str, operator: &str, labels: &Map<String, Value>) {
    let keys: Vec<Value> = term.get(keys).and_then(Value::as_array).cloned().unwrap_or_default();
    let found = keys.iter().filter_map(Value::as_str).filter_map(|key| {
        let value = labels.get(key)?;
        Some(json!({ "key": key, "operator": operator, "values": [value] }))
    });
    let found: Vec<Value> = found.collect();
    let Some(Value::Object(selector)) = term.get_mut("labelSelector") else {
        return;
    };
    if found.is_empty() {
        return;
    }
    let expressions = selector.entry("matchExpressions").or_insert_with(|| json!([]));
    if let Some(list) = expressions.as_array_mut() {
        list.extend(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_labels_become_requirements() {
        let mut pod = json!({
            "metadata": { "labels": { "hash": "2" } },
            "spec": {
                "topologySpreadConstraints": [
                    { "matchLabelKeys": ["hash", "other"], "labelSelector": {} },
                    { "matchLabelKeys": ["hash"] },
                ],
                "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                    { "mismatchLabelKeys": ["hash"], "labelSelector": {} },
                ]}},
            },
        });
        merge_label_keys(&mut pod);
        let spec = &pod["spec"];
        assert_eq!(
            spec["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
            json!([{ "key": "hash", "operator": "In", "values": ["2"] }])
        );
        assert!(spec["topologySpreadConstraints"][1].get("labelSelector").is_none());
        let term = &spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(term["labelSelector"]["matchExpressions"][0]["operator"], "NotIn");
    }

    #[test]
    fn gates_can_be_taken_away_but_not_added() {
        let gated = |names: &[&str]| {
            let gates: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            json!({ "spec": { "schedulingGates": gates } })
        };
        let mut causes = Vec::new();
        check_gates(Some(&gated(&["a", "b"])), &gated(&["b"]), &mut causes);
        assert!(causes.is_empty());
        check_gates(Some(&gated(&["a"])), &gated(&["a", "b"]), &mut causes);
        assert_eq!(causes[0].field, "spec.schedulingGates[1].name");
    }
}
