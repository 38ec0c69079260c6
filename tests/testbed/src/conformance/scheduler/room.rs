//! Which nodes have room for a pod.

use anyhow::Result;
use serde_json::{Value, json};

use super::lot::{add, asking, clear, mk_pod, node, nodes, outcome, place, placed, remove};
use crate::conformance::{Area, Lab, PatchKind, Transcript, cases};

cases! { Area::Scheduler,
    "cpus-are-given-once" => cpus,
    "memory-is-given-once" => memory,
    "devices-are-given-once" => devices,
    "a-node-takes-only-so-many-pods" => pod_count,
    "several-things-can-be-too-little" => several,
    "room-that-is-given-back-is-given-again" => given_back,
    "a-pod-that-has-ended-holds-nothing" => ended,
    "init-containers-need-room-before-the-others" => init_containers,
    "the-emptier-node-is-chosen" => emptier,
    "limits-stand-in-for-requests" => limits,
}

fn asks(requests: Value) -> Value {
    json!({ "containers": asking(requests) })
}

/// A node with just this room.
async fn small(lab: &Lab, name: &str, room: Value) -> Result<String> {
    node(lab, name, json!({ "status": { "allocatable": room } })).await
}

async fn cpus(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "cpu": "2" })).await?;
    for (pod, cpu) in [
        ("one", "1"),
        ("half", "500m"),
        ("too-much", "501m"),
        ("rest", "500m"),
        ("no-more", "1m"),
    ] {
        t.note(pod, &place(lab, &mk_pod(lab, pod, asks(json!({ "cpu": cpu })))).await?);
    }
    t.note("nothing", &place(lab, &mk_pod(lab, "nothing", asks(json!({})))).await?);
    clear(lab).await
}

async fn memory(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "memory": "1Gi" })).await?;
    for (pod, memory) in [("most", "900Mi"), ("too-much", "125Mi"), ("rest", "124Mi")] {
        t.note(
            pod,
            &place(lab, &mk_pod(lab, pod, asks(json!({ "memory": memory })))).await?,
        );
    }
    clear(lab).await
}

async fn devices(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "devices.kubevirt.io/kvm": "1" })).await?;
    for pod in ["one", "two"] {
        t.note(
            pod,
            &place(lab, &mk_pod(lab, pod, asks(json!({ "devices.kubevirt.io/kvm": "1" })))).await?,
        );
    }
    t.note(
        "a device that no node has",
        &place(lab, &mk_pod(lab, "other", asks(json!({ "example.com/gpu": "1" })))).await?,
    );
    clear(lab).await
}

async fn pod_count(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "pods": "2" })).await?;
    for pod in ["one", "two", "three"] {
        t.note(pod, &place(lab, &mk_pod(lab, pod, json!({}))).await?);
    }
    clear(lab).await
}

async fn several(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "cpu": "1", "memory": "1Gi" })).await?;
    small(lab, "b", json!({ "cpu": "1", "memory": "64Gi" })).await?;
    small(lab, "c", json!({ "cpu": "64", "memory": "1Gi" })).await?;
    t.note(
        "too large for all",
        &place(
            lab,
            &mk_pod(lab, "large", asks(json!({ "cpu": "8", "memory": "16Gi" }))),
        )
        .await?,
    );
    clear(lab).await
}

async fn given_back(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "cpu": "1" })).await?;
    t.note(
        "one",
        &place(lab, &mk_pod(lab, "one", asks(json!({ "cpu": "1" })))).await?,
    );
    t.note(
        "two",
        &place(lab, &mk_pod(lab, "two", asks(json!({ "cpu": "1" })))).await?,
    );
    remove(lab, "one").await?;
    t.note("two afterwards", &placed(lab, "two").await?);
    clear(lab).await
}

async fn ended(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "cpu": "1" })).await?;
    let once = json!({ "containers": asking(json!({ "cpu": "1" })), "restartPolicy": "Never" });
    t.note("one", &place(lab, &mk_pod(lab, "one", once)).await?);
    add(lab, &mk_pod(lab, "two", asks(json!({ "cpu": "1" })))).await?;
    t.note("two", &outcome(lab, "two").await?["reason"]);
    lab.until("it runs", &lab.path("pods/one"), |pod| {
        pod.text("status/phase") == "Running"
    })
    .await?;
    let over = json!({ "status": { "phase": "Succeeded" } });
    lab.patch(&lab.path("pods/one/status"), PatchKind::Merge, &over)
        .await?
        .expect_ok("end a pod")?;
    t.note("two afterwards", &placed(lab, "two").await?);
    clear(lab).await
}

async fn init_containers(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "cpu": "2" })).await?;
    let with = |init: &str, restart: Option<&str>| {
        let mut container =
            json!({ "name": "i", "image": "registry.example/pause:1", "resources": { "requests": { "cpu": init } } });
        if let Some(restart) = restart {
            container["restartPolicy"] = json!(restart);
        }
        json!({ "initContainers": [container], "containers": asking(json!({ "cpu": "1" })) })
    };
    t.note(
        "too large a one",
        &place(lab, &mk_pod(lab, "large", with("3", None))).await?,
    );
    t.note(
        "a sidecar that adds up",
        &place(lab, &mk_pod(lab, "sidecar", with("1500m", Some("Always")))).await?,
    );
    t.note(
        "one beside it",
        &place(lab, &mk_pod(lab, "beside", with("2", None))).await?,
    );
    clear(lab).await
}

async fn emptier(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let first = place(lab, &mk_pod(lab, "one", asks(json!({ "cpu": "2", "memory": "4Gi" })))).await?;
    let second = place(
        lab,
        &mk_pod(lab, "two", asks(json!({ "cpu": "500m", "memory": "1Gi" }))),
    )
    .await?;
    let third = place(
        lab,
        &mk_pod(lab, "three", asks(json!({ "cpu": "500m", "memory": "1Gi" }))),
    )
    .await?;
    t.note("the others keep away", &json!([first != second, second == third]));
    clear(lab).await
}

async fn limits(lab: &Lab, t: &mut Transcript) -> Result<()> {
    small(lab, "a", json!({ "cpu": "2" })).await?;
    let limited = json!({ "containers": [{ "name": "c", "image": "registry.example/pause:1", "resources": { "limits": { "cpu": "1500m" } } }] });
    let unset = json!({ "containers": null });
    let pod = mk_pod(lab, "one", unset);
    let mut pod = pod;
    pod["spec"]["containers"] = limited["containers"].clone();
    t.note("one", &place(lab, &pod).await?);
    t.note(
        "two",
        &place(lab, &mk_pod(lab, "two", asks(json!({ "cpu": "1" })))).await?,
    );
    clear(lab).await
}
