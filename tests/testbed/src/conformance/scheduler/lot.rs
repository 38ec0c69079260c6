//! The nodes and pods of a scheduler case. Nodes carry the case's label, and its pods select them by it: other cases' nodes do not count.

use std::collections::BTreeMap;

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use crate::conformance::{Answer, Lab, PatchKind};

/// Label of the case's nodes.
const LOT: &str = "conformance.example/lot";
/// Zone label of the case's nodes.
pub(super) const ZONE: &str = "topology.kubernetes.io/zone";
/// Host label of the case's nodes.
pub(super) const HOST: &str = "kubernetes.io/hostname";
/// Taints that come and go with a node's state.
const STATE_TAINTS: &str = "node.kubernetes.io/not-ready";

/// Makes a node of four CPUs, with a merge patch applied, and waits until it takes pods. Its name ends with `name`.
pub(super) async fn node(lab: &Lab, name: &str, patch: Value) -> Result<String> {
    let name = host(lab, name);
    let room = json!({ "cpu": "4", "memory": "8Gi", "pods": "20", "ephemeral-storage": "100Gi", "devices.kubevirt.io/kvm": "100" });
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { HOST: name, LOT: lab.id } },
        "spec": {},
        "status": { "capacity": room, "allocatable": room, "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "up",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    });
    json_patch::merge(&mut node, &patch);
    if let Some(room) = node.pointer("/status/allocatable").cloned() {
        node["status"]["capacity"] = room;
    }
    lab.make("/api/v1/nodes", &node).await?;
    let path = format!("/api/v1/nodes/{name}");
    lab.clean_up(path.clone()).await;
    let status = json!({ "status": node["status"] });
    lab.patch(&format!("{path}/status"), PatchKind::Strategic, &status)
        .await?
        .expect_ok("status of a node")?;
    lab.until("the node takes pods", &path, |node| {
        let taints = node.body["spec"]["taints"].as_array();
        taints.is_none_or(|taints| taints.iter().all(|taint| taint["key"] != STATE_TAINTS))
    })
    .await?;
    Ok(name)
}

/// Makes several nodes, each in the zone that is said, or in none.
pub(super) async fn nodes(lab: &Lab, all: &[(&str, &str)]) -> Result<()> {
    for (name, zone) in all {
        let labels = if zone.is_empty() {
            json!({})
        } else {
            json!({ ZONE: zone })
        };
        node(lab, name, json!({ "metadata": { "labels": labels } })).await?;
    }
    Ok(())
}

/// The full name of one of the case's nodes.
pub(super) fn host(lab: &Lab, name: &str) -> String {
    format!("{}-{name}", lab.id)
}

/// A pod of half a CPU for the case's nodes, with a merge patch applied to its spec.
pub(super) fn mk_pod(lab: &Lab, name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "a" } },
        "spec": {
            "nodeSelector": { LOT: lab.id },
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "registry.example/pause:1", "resources": { "requests": { "cpu": "500m", "memory": "64Mi" } } }],
        },
    });
    json_patch::merge(&mut pod, &json!({ "spec": spec }));
    pod
}

/// A container that asks for something.
pub(super) fn asking(requests: Value) -> Value {
    json!([{ "name": "c", "image": "registry.example/pause:1", "resources": { "requests": requests, "limits": limits(&requests) } }])
}

/// Devices cannot be asked for without a limit.
fn limits(requests: &Value) -> Value {
    let devices = requests.as_object().into_iter().flatten();
    Value::Object(
        devices
            .filter(|(name, _)| name.contains('/'))
            .map(|(name, amount)| (name.clone(), amount.clone()))
            .collect(),
    )
}

/// A pod with labels of its own.
pub(super) fn labelled(mut pod: Value, labels: Value) -> Value {
    json_patch::merge(&mut pod, &json!({ "metadata": { "labels": labels } }));
    pod
}

/// Creates a pod.
pub(super) async fn add(lab: &Lab, pod: &Value) -> Result<()> {
    lab.make(&lab.path("pods"), pod).await.map(|_| ())
}

/// Creates a pod and waits for its node, or for what the scheduler says instead.
pub(super) async fn place(lab: &Lab, pod: &Value) -> Result<Value> {
    add(lab, pod).await?;
    outcome(lab, name(pod)).await
}

fn name(pod: &Value) -> &str {
    pod.pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Waits for a pod's node, or for what the scheduler says instead.
pub(super) async fn outcome(lab: &Lab, pod: &str) -> Result<Value> {
    let answer = lab
        .until("the pod is decided on", &lab.path(&format!("pods/{pod}")), |pod| {
            !pod.text("spec/nodeName").is_empty() || refusal(pod).is_some()
        })
        .await?;
    Ok(match answer.text("spec/nodeName") {
        node if node.is_empty() => refusal(&answer).unwrap_or_default(),
        node => json!(node),
    })
}

/// Waits until a pod that waited has a node.
pub(super) async fn placed(lab: &Lab, pod: &str) -> Result<String> {
    let answer = lab
        .until("the pod has a node", &lab.path(&format!("pods/{pod}")), |pod| {
            !pod.text("spec/nodeName").is_empty()
        })
        .await?;
    Ok(answer.text("spec/nodeName"))
}

/// What the scheduler says of a pod that fits nowhere: the case's reasons with their counts; what concerns nodes of others in few words.
fn refusal(pod: &Answer) -> Option<Value> {
    let conditions = pod.at("status/conditions");
    let condition = conditions
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")?;
    let message = condition["message"].as_str()?;
    Some(json!({ "reason": condition["reason"], "message": told(message) }))
}

/// What nodes of other cases say of every pod: how many there are is chance.
const ELSEWHERE: &str = "node(s) didn't match Pod's node affinity/selector";
/// What nodes of other cases say at times.
const AT_TIMES: [&str; 2] = [CORDONED, TAINTED];
/// What a cordoned node says.
pub(super) const CORDONED: &str = "node(s) were unschedulable";
/// What a tainted node says.
pub(super) const TAINTED: &str = "node(s) had untolerated taint";

/// What the scheduler says of a pod that waits for a cordoned or tainted node, and whether it names that as a reason.
pub(super) async fn refused(lab: &Lab, pod: &str, reason: &str) -> Result<Value> {
    let path = lab.path(&format!("pods/{pod}"));
    let answer = lab
        .until("the pod is refused", &path, |pod| refusal(pod).is_some())
        .await?;
    let message = answer.body["status"]["conditions"].to_string();
    Ok(json!({ "refusal": refusal(&answer), "named": message.contains(reason) }))
}

fn told(message: &str) -> Value {
    let Some((head, tail)) = message.split_once(" nodes are available: ") else {
        return json!(message);
    };
    let (reasons, preemption) = tail.split_once(". ").unwrap_or((tail, ""));
    let without_count = |text: &str| text.split_once(' ').map_or(text, |(_, rest)| rest).to_owned();
    let mut reasons: Vec<String> = reasons
        .trim_end_matches('.')
        .split(", ")
        .filter(|reason| !AT_TIMES.iter().any(|text| reason.contains(text)))
        .map(|reason| match without_count(reason) {
            plain if plain == ELSEWHERE => plain,
            _ => reason.to_owned(),
        })
        .collect();
    reasons.sort();
    let mut kinds: Vec<String> = preemption
        .split_once(" nodes are available: ")
        .map(|(_, kinds)| kinds.trim_end_matches('.').split(", ").map(without_count).collect())
        .unwrap_or_default();
    kinds.sort();
    json!({ "none of all": head.starts_with("0/"), "reasons": reasons, "preemption": kinds })
}

/// Places pods one after the other and counts them by node, or by another label of their nodes; the counts without the names, largest first.
pub(super) async fn spread(lab: &Lab, prefix: &str, count: usize, spec: &Value) -> Result<Vec<usize>> {
    let mut nodes = Vec::new();
    for index in 0..count {
        let decided = place(lab, &mk_pod(lab, &format!("{prefix}{index}"), spec.clone())).await?;
        nodes.extend(decided.as_str().map(str::to_owned));
    }
    Ok(counts(nodes))
}

/// How often each value comes, largest first.
pub(super) fn counts(values: impl IntoIterator<Item = String>) -> Vec<usize> {
    let mut by_value: BTreeMap<String, usize> = BTreeMap::new();
    for value in values {
        *by_value.entry(value).or_default() += 1;
    }
    let mut counts: Vec<usize> = by_value.into_values().collect();
    counts.sort_unstable_by(|left, right| right.cmp(left));
    counts
}

/// Changes a node.
pub(super) async fn change(lab: &Lab, name: &str, patch: &Value) -> Result<()> {
    let path = format!("/api/v1/nodes/{}", host(lab, name));
    lab.patch(&path, PatchKind::Merge, patch)
        .await?
        .expect_ok("change a node")?;
    Ok(())
}

/// Deletes a pod at once.
pub(super) async fn remove(lab: &Lab, pod: &str) -> Result<()> {
    let path = format!("{}?gracePeriodSeconds=0", lab.path(&format!("pods/{pod}")));
    lab.delete(&path).await?;
    lab.until_gone(&lab.path(&format!("pods/{pod}"))).await.map(|_| ())
}

/// Deletes all pods at once, before their nodes go: nobody would end them then.
pub(super) async fn clear(lab: &Lab) -> Result<()> {
    let path = format!("{}?gracePeriodSeconds=0", lab.path("pods"));
    lab.call(Method::DELETE, &path, None)
        .await?
        .expect_ok("delete all pods")?;
    lab.until("no pods", &lab.path("pods"), |pods| pods.names().is_empty())
        .await
        .map(|_| ())
}
