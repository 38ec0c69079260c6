//! What a tenant Node should say about its machine, and the patches that make it so.
//!
//! Labels, annotations and taints of pool and cluster are noted on the Node, so that one that leaves the pool leaves the Node, and
//! nothing that others wrote is touched.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, NodeAddress, Taint};
use serde_json::{Map, Value, json};
use steading_infra::labels;

/// Annotation of a tenant Node: labels, annotations and taints that Steading keeps there.
pub const KEPT: &str = "steading.dev/kept";

/// What a Node should say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DesiredNode {
    /// Name of the machine.
    pub machine: String,
    /// Addresses, the primary one first; empty while unknown, and then none are changed.
    pub addresses: Vec<String>,
    /// Labels, without topology.
    pub labels: BTreeMap<String, String>,
    /// Zone and region; `None` while the infra node is unknown, and then the Node keeps what it says.
    pub topology: Option<Topology>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
}

/// Where an infra node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Its zone, if it has one.
    pub zone: Option<String>,
    /// Its region, if it has one.
    pub region: Option<String>,
}

/// Merge patches for the Node and its status; `None` where nothing differs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodePatch {
    /// For the Node.
    pub node: Option<Value>,
    /// For its status.
    pub status: Option<Value>,
}

/// Decides what to write to a Node.
pub fn plan_node(node: &Node, wish: &DesiredNode) -> NodePatch {
    let kept = Kept::of(node);
    let wish = &with_topology(wish, node, &kept);
    let (mut metadata, mut spec) = (Map::new(), Map::new());
    let labels = differences(node.metadata.labels.as_ref(), &kept.labels, &wish.labels);
    let mut annotations = differences(node.metadata.annotations.as_ref(), &kept.annotations, &wish.annotations);
    let now = Kept {
        labels: wish.labels.keys().cloned().collect(),
        annotations: wish.annotations.keys().cloned().collect(),
        taints: wish.taints.iter().map(|t| (t.key.clone(), t.effect.clone())).collect(),
    };
    if now != kept {
        annotations.insert(KEPT.into(), Value::String(now.text()));
    }
    let seen = node.spec.clone().unwrap_or_default();
    if !labels.is_empty() {
        metadata.insert("labels".into(), Value::Object(labels));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), Value::Object(annotations));
    }
    if seen.provider_id.as_deref().unwrap_or_default().is_empty() {
        spec.insert("providerID".into(), json!(provider_id(&wish.machine)));
    }
    let before = seen.taints.unwrap_or_default();
    let after = taints(&before, &kept, wish);
    if after != before {
        spec.insert("taints".into(), json!(after));
    }
    if !spec.is_empty() {
        // Taints are a list that others write too: only onto what was read.
        metadata.insert("resourceVersion".into(), json!(node.metadata.resource_version));
    }
    let mut patch = Map::new();
    if !metadata.is_empty() {
        patch.insert("metadata".into(), Value::Object(metadata));
    }
    if !spec.is_empty() {
        patch.insert("spec".into(), Value::Object(spec));
    }
    NodePatch {
        node: (!patch.is_empty()).then_some(Value::Object(patch)),
        status: addresses(node, wish),
    }
}

/// Adds the labels of the place; while it is unknown, those that we keep on the Node already.
fn with_topology(wish: &DesiredNode, node: &Node, kept: &Kept) -> DesiredNode {
    let mut wish = wish.clone();
    let seen = |key: &str| node.metadata.labels.as_ref()?.get(key).cloned();
    for key in [labels::ZONE, labels::REGION] {
        let value = match &wish.topology {
            Some(topology) if key == labels::ZONE => topology.zone.clone(),
            Some(topology) => topology.region.clone(),
            None => seen(key).filter(|_| kept.labels.contains(key)),
        };
        wish.labels.extend(value.map(|value| (key.to_owned(), value)));
    }
    wish
}

/// Provider id of a machine.
pub fn provider_id(machine: &str) -> String {
    format!("kubevirt://{machine}")
}

fn addresses(node: &Node, wish: &DesiredNode) -> Option<Value> {
    if wish.addresses.is_empty() {
        return None;
    }
    let seen: Vec<&NodeAddress> = node.status.iter().flat_map(|s| s.addresses.iter().flatten()).collect();
    let of = |kind: &str| {
        seen.iter()
            .filter(|a| a.type_ == kind)
            .map(|a| a.address.as_str())
            .collect::<Vec<_>>()
    };
    if of("InternalIP") == wish.addresses && of("Hostname") == [wish.machine.as_str()] {
        return None;
    }
    let mut all: Vec<Value> = wish
        .addresses
        .iter()
        .map(|a| json!({"type": "InternalIP", "address": a}))
        .collect();
    all.push(json!({"type": "Hostname", "address": wish.machine}));
    let others = seen
        .iter()
        .filter(|a| !["InternalIP", "Hostname"].contains(&a.type_.as_str()));
    all.extend(others.map(|a| json!({"type": a.type_, "address": a.address})));
    Some(json!({"status": {"addresses": all}}))
}

fn taints(before: &[Taint], kept: &Kept, wish: &DesiredNode) -> Vec<Taint> {
    let wanted = |t: &Taint| wish.taints.iter().any(|w| w.key == t.key && w.effect == t.effect);
    // The node can be used once it has its addresses; before that it stays closed.
    let initialized = !wish.addresses.is_empty();
    let mut after: Vec<Taint> = before
        .iter()
        .filter(|t| !(initialized && t.key == labels::UNINITIALIZED_TAINT))
        .filter(|t| wanted(t) || !kept.taints.contains(&(t.key.clone(), t.effect.clone())))
        .cloned()
        .collect();
    for taint in &wish.taints {
        match after
            .iter_mut()
            .find(|t| t.key == taint.key && t.effect == taint.effect)
        {
            Some(found) => found.value.clone_from(&taint.value),
            None => after.push(taint.clone()),
        }
    }
    after
}

fn differences(
    seen: Option<&BTreeMap<String, String>>,
    kept: &BTreeSet<String>,
    wanted: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let seen = |key: &str| seen.and_then(|map| map.get(key));
    let mut patch = Map::new();
    for (key, value) in wanted {
        if seen(key) != Some(value) {
            patch.insert(key.clone(), json!(value));
        }
    }
    for key in kept {
        if !wanted.contains_key(key) && seen(key).is_some() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
    taints: BTreeSet<(String, String)>,
}

impl Kept {
    fn of(node: &Node) -> Self {
        let text = node
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(KEPT))
            .map_or("", String::as_str);
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let list = |key: &str| -> BTreeSet<String> {
            let items = value.get(key).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let taints = list("taints")
            .iter()
            .filter_map(|t| t.rsplit_once(':'))
            .map(|(k, e)| (k.to_owned(), e.to_owned()))
            .collect();
        Self {
            labels: list("labels"),
            annotations: list("annotations"),
            taints,
        }
    }

    fn text(&self) -> String {
        let taints: Vec<String> = self
            .taints
            .iter()
            .map(|(key, effect)| format!("{key}:{effect}"))
            .collect();
        json!({"labels": self.labels, "annotations": self.annotations, "taints": taints}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_fresh() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "w-1", "resourceVersion": "7", "labels": {"kubernetes.io/hostname": "w-1"}},
            "spec": {"taints": [{"key": labels::UNINITIALIZED_TAINT, "value": "true", "effect": "NoSchedule"}]}
        }))
        .expect("a node")
    }

    fn mk_topology(zone: &str) -> Topology {
        let zone = Some(zone.to_owned());
        Topology { zone, region: None }
    }

    fn mk_wish() -> DesiredNode {
        DesiredNode {
            machine: "w-1".into(),
            addresses: vec!["10.0.0.5".into()],
            labels: BTreeMap::from([("team".to_owned(), "x".to_owned())]),
            topology: Some(mk_topology("a")),
            taints: vec![Taint {
                key: "gpu".into(),
                effect: "NoSchedule".into(),
                ..Taint::default()
            }],
            ..DesiredNode::default()
        }
    }

    fn merged(node: &Node, patch: &NodePatch) -> Node {
        let mut value = serde_json::to_value(node).expect("json");
        for part in [&patch.node, &patch.status].into_iter().flatten() {
            json_patch::merge(&mut value, part);
        }
        serde_json::from_value(value).expect("a node")
    }

    #[test]
    fn a_fresh_node_is_filled_in_and_then_left_alone() {
        let patch = plan_node(&mk_fresh(), &mk_wish());
        let node = merged(&mk_fresh(), &patch);
        let spec = node.spec.clone().expect("spec");
        assert_eq!(spec.provider_id.as_deref(), Some("kubevirt://w-1"));
        assert_eq!(
            spec.taints
                .expect("taints")
                .iter()
                .map(|t| t.key.as_str())
                .collect::<Vec<_>>(),
            ["gpu"]
        );
        assert_eq!(plan_node(&node, &mk_wish()), NodePatch::default(), "a fixed point");
    }

    #[test]
    fn without_an_address_the_node_stays_closed() {
        let wish = DesiredNode {
            addresses: Vec::new(),
            ..mk_wish()
        };
        let node = merged(&mk_fresh(), &plan_node(&mk_fresh(), &wish));
        assert!(
            node.spec
                .expect("spec")
                .taints
                .expect("taints")
                .iter()
                .any(|t| t.key == labels::UNINITIALIZED_TAINT)
        );
    }

    #[test]
    fn what_leaves_the_pool_leaves_the_node_and_nothing_else_does() {
        let mut node = merged(&mk_fresh(), &plan_node(&mk_fresh(), &mk_wish()));
        node.metadata
            .labels
            .get_or_insert_default()
            .insert("theirs".into(), "1".into());
        let wish = DesiredNode {
            labels: BTreeMap::new(),
            topology: Some(mk_topology("b")),
            taints: Vec::new(),
            ..mk_wish()
        };
        let node = merged(&node, &plan_node(&node, &wish));
        let labels_now = node.metadata.labels.expect("labels");
        assert_eq!(labels_now.get(labels::ZONE).map(String::as_str), Some("b"));
        assert!(!labels_now.contains_key("team") && labels_now.contains_key("theirs"));
        assert!(node.spec.and_then(|s| s.taints).unwrap_or_default().is_empty());
    }

    #[test]
    fn zone_labels_survive_a_restart_of_the_machine() {
        let node = merged(&mk_fresh(), &plan_node(&mk_fresh(), &mk_wish()));
        let between = DesiredNode {
            topology: None,
            ..mk_wish()
        };
        assert_eq!(plan_node(&node, &between), NodePatch::default(), "the place is unknown");
        let moved = DesiredNode {
            topology: Some(Topology::default()),
            ..mk_wish()
        };
        let node = merged(&node, &plan_node(&node, &moved));
        assert!(
            !node.metadata.labels.expect("labels").contains_key(labels::ZONE),
            "known to have none"
        );
    }
}
