//! Which nodes a pod may go to by what they are: labels, taints, cordons.

use anyhow::Result;
use serde_json::{Value, json};

use super::lot::{CORDONED, TAINTED, add, change, clear, host, mk_pod, node, nodes, outcome, place, placed, refused};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::Scheduler,
    "a-node-selector-takes-nodes-by-their-labels" => selectors,
    "each-operator-of-node-affinity-takes-what-it-says" => operators,
    "terms-of-node-affinity-are-alternatives" => terms,
    "node-affinity-can-name-a-node" => fields,
    "preferred-nodes-are-preferred" => preferred,
    "a-taint-keeps-out-who-does-not-tolerate-it" => taints,
    "a-soft-taint-is-avoided" => soft_taints,
    "a-cordoned-node-takes-nobody" => cordons,
    "a-pod-with-a-node-is-not-scheduled" => named,
    "a-pod-that-waits-goes-when-a-node-changes" => wakes,
}

async fn selectors(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({ "metadata": { "labels": { "disk": "ssd" } } })).await?;
    node(lab, "b", json!({ "metadata": { "labels": { "disk": "hdd" } } })).await?;
    for (pod, disk) in [("ssd", "ssd"), ("hdd", "hdd"), ("tape", "tape")] {
        let spec = json!({ "nodeSelector": { "disk": disk } });
        t.note(disk, &place(lab, &mk_pod(lab, pod, spec)).await?);
    }
    clear(lab).await
}

fn required(terms: Value) -> Value {
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } })
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> Value {
    if values.is_empty() {
        json!({ "key": key, "operator": operator })
    } else {
        json!({ "key": key, "operator": operator, "values": values })
    }
}

async fn operators(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(
        lab,
        "a",
        json!({ "metadata": { "labels": { "disk": "ssd", "generation": "7" } } }),
    )
    .await?;
    node(
        lab,
        "b",
        json!({ "metadata": { "labels": { "disk": "hdd", "generation": "9" } } }),
    )
    .await?;
    node(lab, "c", json!({})).await?;
    for (name, key, operator, values) in [
        ("in", "disk", "In", &["ssd", "tape"][..]),
        ("not-in", "generation", "NotIn", &["7", "9"]),
        ("does-not-exist", "disk", "DoesNotExist", &[]),
        ("gt", "generation", "Gt", &["8"]),
        ("lt", "generation", "Lt", &["8"]),
        ("gt-nothing", "generation", "Gt", &["9"]),
    ] {
        let terms = json!([{ "matchExpressions": [requirement(key, operator, values)] }]);
        t.note(name, &place(lab, &mk_pod(lab, name, required(terms))).await?);
    }
    let terms = json!([{ "matchExpressions": [requirement("generation", "Exists", &[]), requirement("disk", "NotIn", &["hdd"])] }]);
    t.note("both", &place(lab, &mk_pod(lab, "both", required(terms))).await?);
    clear(lab).await
}

async fn terms(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({ "metadata": { "labels": { "disk": "ssd" } } })).await?;
    node(lab, "b", json!({ "metadata": { "labels": { "disk": "hdd" } } })).await?;
    let one_of = json!([
        { "matchExpressions": [requirement("disk", "In", &["tape"])] },
        { "matchExpressions": [requirement("disk", "In", &["hdd"])] },
    ]);
    t.note("one of two", &place(lab, &mk_pod(lab, "one", required(one_of))).await?);
    let neither = json!([
        { "matchExpressions": [requirement("disk", "In", &["tape"])] },
        { "matchExpressions": [requirement("disk", "In", &["hdd"]), requirement("fast", "Exists", &[])] },
    ]);
    t.note(
        "neither",
        &place(lab, &mk_pod(lab, "neither", required(neither))).await?,
    );
    let empty = json!([{}]);
    t.note(
        "an empty term",
        &place(lab, &mk_pod(lab, "empty", required(empty))).await?,
    );
    clear(lab).await
}

async fn fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let by_name =
        |name: &str| json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [name] }] }]);
    let there = required(by_name(&host(lab, "b")));
    t.note("b", &place(lab, &mk_pod(lab, "there", there)).await?);
    clear(lab).await
}

async fn preferred(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({ "metadata": { "labels": { "disk": "ssd" } } })).await?;
    node(lab, "b", json!({ "metadata": { "labels": { "disk": "hdd" } } })).await?;
    node(lab, "c", json!({ "metadata": { "labels": { "disk": "tape" } } })).await?;
    let prefer = |weights: &[(&str, i32)]| {
        let terms: Vec<Value> = weights
            .iter()
            .map(|(disk, weight)| json!({ "weight": weight, "preference": { "matchExpressions": [requirement("disk", "In", &[disk])] } }))
            .collect();
        json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": terms } } })
    };
    t.note("one", &place(lab, &mk_pod(lab, "one", prefer(&[("hdd", 50)]))).await?);
    t.note(
        "the heavier of two",
        &place(lab, &mk_pod(lab, "two", prefer(&[("ssd", 20), ("tape", 80)]))).await?,
    );
    let nowhere = place(lab, &mk_pod(lab, "none", prefer(&[("paper", 100)]))).await?;
    t.note("one that is nowhere", &nowhere.is_string());
    clear(lab).await
}

async fn taints(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let taint =
        json!({ "spec": { "taints": [{ "key": "conformance.example/for", "value": "gpu", "effect": "NoSchedule" }] } });
    node(lab, "a", taint).await?;
    let tolerate = |toleration: Value| json!({ "tolerations": [toleration] });
    add(lab, &mk_pod(lab, "none", json!({}))).await?;
    t.note("none", &refused(lab, "none", TAINTED).await?);
    for (name, toleration) in [
        (
            "equal",
            json!({ "key": "conformance.example/for", "operator": "Equal", "value": "gpu", "effect": "NoSchedule" }),
        ),
        (
            "another-value",
            json!({ "key": "conformance.example/for", "operator": "Equal", "value": "cpu", "effect": "NoSchedule" }),
        ),
        (
            "exists",
            json!({ "key": "conformance.example/for", "operator": "Exists" }),
        ),
        (
            "another-effect",
            json!({ "key": "conformance.example/for", "operator": "Exists", "effect": "NoExecute" }),
        ),
        ("everything", json!({ "operator": "Exists" })),
    ] {
        t.note(name, &place(lab, &mk_pod(lab, name, tolerate(toleration))).await?);
    }
    clear(lab).await
}

async fn soft_taints(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let taint = json!({ "spec": { "taints": [{ "key": "conformance.example/old", "effect": "PreferNoSchedule" }] } });
    node(lab, "a", taint).await?;
    node(lab, "b", json!({})).await?;
    t.note("two nodes", &place(lab, &mk_pod(lab, "one", json!({}))).await?);
    change(lab, "b", &json!({ "spec": { "unschedulable": true } })).await?;
    t.note("one node", &place(lab, &mk_pod(lab, "two", json!({}))).await?);
    clear(lab).await
}

async fn cordons(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({ "spec": { "unschedulable": true } })).await?;
    node(lab, "b", json!({})).await?;
    t.note("the other", &place(lab, &mk_pod(lab, "one", json!({}))).await?);
    change(lab, "b", &json!({ "spec": { "unschedulable": true } })).await?;
    add(lab, &mk_pod(lab, "two", json!({}))).await?;
    t.note("none", &refused(lab, "two", CORDONED).await?);
    let bold = json!({
        "nodeSelector": { super::lot::HOST: host(lab, "a") },
        "tolerations": [{ "key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule" }],
    });
    t.note("one that tolerates it", &place(lab, &mk_pod(lab, "bold", bold)).await?);
    change(lab, "b", &json!({ "spec": { "unschedulable": false } })).await?;
    t.note("uncordoned", &placed(lab, "two").await?);
    clear(lab).await
}

async fn named(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({ "spec": { "unschedulable": true } })).await?;
    let spec = json!({ "nodeName": host(lab, "a") });
    t.note("a cordoned node", &place(lab, &mk_pod(lab, "one", spec)).await?);
    clear(lab).await
}

async fn wakes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let taint = json!({ "spec": { "taints": [{ "key": "conformance.example/for", "effect": "NoSchedule" }] } });
    node(lab, "a", taint).await?;
    for (pod, spec) in [
        (
            "label",
            json!({ "nodeSelector": { "disk": "ssd" }, "tolerations": [{ "operator": "Exists" }] }),
        ),
        ("taint", json!({})),
        ("node", json!({ "nodeSelector": { "disk": "tape" } })),
    ] {
        add(lab, &mk_pod(lab, pod, spec)).await?;
        let seen = outcome(lab, pod).await?;
        t.note(&format!("{pod} before"), &seen["reason"]);
    }
    change(lab, "a", &json!({ "metadata": { "labels": { "disk": "ssd" } } })).await?;
    t.note("label after", &placed(lab, "label").await?);
    change(lab, "a", &json!({ "spec": { "taints": null } })).await?;
    t.note("taint after", &placed(lab, "taint").await?);
    node(lab, "b", json!({ "metadata": { "labels": { "disk": "tape" } } })).await?;
    t.note("node after", &placed(lab, "node").await?);
    clear(lab).await
}
