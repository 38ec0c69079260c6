//! Which pods are scheduled at all, and what the scheduler writes into them.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::lot::{add, clear, mk_pod, node, outcome, place, placed};
use crate::conformance::{Area, Lab, PatchKind, Transcript, cases};

cases! { Area::Scheduler,
    "a-pod-of-another-scheduler-is-left-alone" => other_scheduler,
    "a-gated-pod-waits-for-its-gates" => gates,
    "a-scheduled-pod-says-so" => scheduled,
    "a-pod-that-fits-nowhere-says-so-once" => unschedulable,
    "a-pod-of-a-missing-claim-waits" => missing_claim,
    "a-binding-places-a-pod" => binding,
    "a-pod-that-is-deleted-while-it-waits-is-gone" => deleted,
}

/// Long enough for a scheduler to do what it must not.
const A_WHILE: Duration = Duration::from_millis(700);

async fn other_scheduler(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    add(lab, &mk_pod(lab, "other", json!({ "schedulerName": "another" }))).await?;
    place(lab, &mk_pod(lab, "own", json!({}))).await?;
    tokio::time::sleep(A_WHILE).await;
    let pod = lab.get(&lab.path("pods/other")).await?;
    t.note(
        "the other's",
        &pod.only(&["spec/nodeName", "status/phase", "status/conditions"]),
    );
    clear(lab).await
}

async fn gates(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    let gated = json!({ "schedulingGates": [{ "name": "conformance.example/first" }, { "name": "conformance.example/second" }] });
    add(lab, &mk_pod(lab, "gated", gated)).await?;
    t.note("gated", &outcome(lab, "gated").await?);
    let path = lab.path("pods/gated");
    let one = json!([{ "op": "remove", "path": "/spec/schedulingGates/0" }]);
    t.note("one gate less", &lab.patch(&path, PatchKind::Json, &one).await?.code);
    tokio::time::sleep(A_WHILE).await;
    t.note("still gated", &lab.get(&path).await?.at("spec/nodeName"));
    let more =
        json!([{ "op": "add", "path": "/spec/schedulingGates/-", "value": { "name": "conformance.example/third" } }]);
    let refused = lab.patch(&path, PatchKind::Json, &more).await?;
    t.note(
        "another gate",
        &json!({ "code": refused.code, "reason": refused.body["reason"] }),
    );
    lab.patch(&path, PatchKind::Json, &one).await?;
    t.note("no gate", &placed(lab, "gated").await?);
    clear(lab).await
}

fn scheduled_condition(pod: &Value) -> Value {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "PodScheduled")
        .cloned()
        .unwrap_or_default();
    json!({
        "status": found["status"], "reason": found["reason"], "message": found["message"],
        "time": found["lastTransitionTime"].is_string(),
    })
}

async fn scheduled(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    t.note("node", &place(lab, &mk_pod(lab, "one", json!({}))).await?);
    let pod = lab
        .until("it runs", &lab.path("pods/one"), |pod| {
            pod.text("status/phase") == "Running"
        })
        .await?;
    t.note("condition", &scheduled_condition(&pod.body));
    t.note("nominated", &pod.at("status/nominatedNodeName"));
    clear(lab).await
}

async fn unschedulable(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    t.note(
        "outcome",
        &place(lab, &mk_pod(lab, "one", json!({ "nodeSelector": { "no": "such" } }))).await?,
    );
    let pod = lab.get(&lab.path("pods/one")).await?;
    t.note("phase", &pod.at("status/phase"));
    let conditions = pod.at("status/conditions");
    t.note("conditions", &conditions.as_array().map(Vec::len));
    clear(lab).await
}

async fn missing_claim(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    let spec = json!({ "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }] });
    t.note(
        "a claim that is not there",
        &place(lab, &mk_pod(lab, "one", spec)).await?,
    );
    clear(lab).await
}

async fn binding(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = node(lab, "a", json!({})).await?;
    add(lab, &mk_pod(lab, "one", json!({ "schedulerName": "another" }))).await?;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "one" },
        "target": { "apiVersion": "v1", "kind": "Node", "name": name },
    });
    let path = lab.path("pods/one/binding");
    let answer = lab.post(&path, &binding).await?;
    t.note("bind", &json!({ "code": answer.code, "status": answer.body["status"] }));
    let pod = lab.get(&lab.path("pods/one")).await?;
    t.note("node", &pod.at("spec/nodeName"));
    t.note("condition", &scheduled_condition(&pod.body));
    t.note("bind again", &lab.post(&path, &binding).await?);
    clear(lab).await
}

async fn deleted(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    place(lab, &mk_pod(lab, "one", json!({ "nodeSelector": { "no": "such" } }))).await?;
    t.note("delete", &lab.delete(&lab.path("pods/one")).await?.code);
    lab.until_gone(&lab.path("pods/one")).await?;
    clear(lab).await
}
