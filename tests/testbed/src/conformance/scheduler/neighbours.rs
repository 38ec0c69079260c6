//! Pods that want to be together or apart.

use anyhow::Result;
use serde_json::{Value, json};

use super::lot::{HOST, ZONE, clear, labelled, mk_pod, node, nodes, place, placed, remove};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::Scheduler,
    "pods-that-avoid-each-other-fill-each-node-once" => apart_by_node,
    "pods-that-avoid-each-other-fill-each-zone-once" => apart_by_zone,
    "a-pod-that-wants-to-be-alone-keeps-others-away" => keeps_away,
    "pods-that-seek-each-other-share-a-zone" => together,
    "a-pod-that-seeks-nobody-waits" => lonely,
    "affinity-looks-into-its-own-namespace-only" => namespaces,
    "preferred-neighbours-are-preferred" => preferred,
    "nodes-without-the-topology-are-no-place-for-affinity" => no_topology,
}

fn term(key: &str, app: &str) -> Value {
    json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "app": app } } })
}

fn required(kind: &str, term: Value) -> Value {
    json!({ "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } })
}

async fn apart_by_node(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let apart = required("podAntiAffinity", term(HOST, "a"));
    let mut taken = Vec::new();
    for pod in ["one", "two"] {
        taken.push(place(lab, &mk_pod(lab, pod, apart.clone())).await?.to_string());
    }
    taken.sort();
    t.note("two", &taken);
    t.note("three", &place(lab, &mk_pod(lab, "three", apart.clone())).await?);
    remove(lab, "one").await?;
    let placed = placed(lab, "three").await?;
    t.note("three afterwards", &taken.iter().any(|node| node.contains(&placed)));
    clear(lab).await
}

async fn apart_by_zone(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", "west"), ("b", "west"), ("c", "east")]).await?;
    let apart = required("podAntiAffinity", term(ZONE, "a"));
    let mut taken = Vec::new();
    for pod in ["one", "two"] {
        let node = place(lab, &mk_pod(lab, pod, apart.clone())).await?;
        taken.push(if node.as_str().is_some_and(|node| node.ends_with("-c")) {
            "east"
        } else {
            "west"
        });
    }
    taken.sort_unstable();
    t.note("two", &json!(taken));
    t.note("three", &place(lab, &mk_pod(lab, "three", apart)).await?);
    clear(lab).await
}

async fn keeps_away(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    let alone = required("podAntiAffinity", term(HOST, "b"));
    t.note("one", &place(lab, &mk_pod(lab, "one", alone)).await?);
    let other = labelled(mk_pod(lab, "two", json!({})), json!({ "app": "b" }));
    t.note("whom it avoids", &place(lab, &other).await?);
    let third = labelled(mk_pod(lab, "three", json!({})), json!({ "app": "c" }));
    t.note("another", &place(lab, &third).await?);
    clear(lab).await
}

async fn together(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", "west"), ("b", "east"), ("c", "east")]).await?;
    let west = json!({ "nodeSelector": { ZONE: "east" } });
    let first = labelled(mk_pod(lab, "first", west), json!({ "app": "b" }));
    place(lab, &first).await?;
    let near = required("podAffinity", term(ZONE, "b"));
    for pod in ["one", "two", "three"] {
        let node = place(lab, &mk_pod(lab, pod, near.clone())).await?;
        t.note(pod, &node.as_str().is_some_and(|node| !node.ends_with("-a")));
    }
    let own = required("podAffinity", term(HOST, "a-group"));
    let mut group = Vec::new();
    for pod in ["four", "five", "six"] {
        let pod = labelled(mk_pod(lab, pod, own.clone()), json!({ "app": "a-group" }));
        group.push(place(lab, &pod).await?.to_string());
    }
    group.dedup();
    t.note("nodes of a group that seeks itself", &group.len());
    clear(lab).await
}

async fn lonely(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    let near = required("podAffinity", term(HOST, "nobody"));
    t.note("nobody there", &place(lab, &mk_pod(lab, "one", near)).await?);
    let found = labelled(mk_pod(lab, "two", json!({})), json!({ "app": "nobody" }));
    place(lab, &found).await?;
    t.note("somebody there", &placed(lab, "one").await?);
    clear(lab).await
}

async fn namespaces(lab: &Lab, t: &mut Transcript) -> Result<()> {
    node(lab, "a", json!({})).await?;
    let other = format!("{}-other", lab.namespace);
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": other, "labels": { "lot": lab.id } } });
    lab.make("/api/v1/namespaces", &namespace).await?;
    lab.clean_up(format!("/api/v1/namespaces/{other}")).await;
    let accounts = format!("/api/v1/namespaces/{other}/serviceaccounts/default");
    lab.until("its service account", &accounts, |account| account.code == 200)
        .await?;
    let pods = format!("/api/v1/namespaces/{other}/pods");
    lab.make(&pods, &mk_pod(lab, "there", json!({}))).await?;
    lab.until("it has a node", &format!("{pods}/there"), |pod| {
        !pod.text("spec/nodeName").is_empty()
    })
    .await?;
    let mut apart = term(HOST, "a");
    let own = labelled(
        mk_pod(lab, "own", required("podAntiAffinity", apart.clone())),
        json!({ "app": "x" }),
    );
    t.note("its own namespace", &place(lab, &own).await?);
    apart["namespaces"] = json!([other]);
    let named = labelled(
        mk_pod(lab, "named", required("podAntiAffinity", apart.clone())),
        json!({ "app": "x" }),
    );
    t.note("a named one", &place(lab, &named).await?);
    apart["namespaces"] = json!([]);
    apart["namespaceSelector"] = json!({ "matchLabels": { "lot": lab.id } });
    let selected = labelled(
        mk_pod(lab, "selected", required("podAntiAffinity", apart.clone())),
        json!({ "app": "x" }),
    );
    t.note("a selected one", &place(lab, &selected).await?);
    apart["namespaceSelector"] = json!({ "matchLabels": { "lot": "another" } });
    let unselected = labelled(
        mk_pod(lab, "unselected", required("podAntiAffinity", apart)),
        json!({ "app": "x" }),
    );
    t.note("one that is not selected", &place(lab, &unselected).await?);
    lab.delete(&format!("{pods}/there?gracePeriodSeconds=0")).await?;
    clear(lab).await
}

async fn preferred(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let on_a = json!({ "nodeSelector": { HOST: super::lot::host(lab, "a") } });
    let first = labelled(mk_pod(lab, "first", on_a), json!({ "app": "b" }));
    place(lab, &first).await?;
    let prefer = |kind: &str| {
        json!({ "affinity": { kind: { "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 100, "podAffinityTerm": term(HOST, "b") },
        ]}}})
    };
    t.note("near", &place(lab, &mk_pod(lab, "near", prefer("podAffinity"))).await?);
    t.note(
        "far",
        &place(lab, &mk_pod(lab, "far", prefer("podAntiAffinity"))).await?,
    );
    clear(lab).await
}

async fn no_topology(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", "")]).await?;
    let near = required("podAffinity", term(ZONE, "a"));
    t.note("near", &place(lab, &mk_pod(lab, "near", near)).await?);
    let far = required("podAntiAffinity", term(ZONE, "a"));
    t.note("far", &place(lab, &mk_pod(lab, "far", far)).await?);
    clear(lab).await
}
