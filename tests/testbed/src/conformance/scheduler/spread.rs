//! Topology spread constraints.

use anyhow::Result;
use serde_json::{Value, json};

use super::lot::{
    CORDONED, HOST, ZONE, add, change, clear, counts, host, labelled, mk_pod, node, nodes, place, placed, refused,
    spread,
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::Scheduler,
    "pods-are-spread-evenly-over-nodes" => over_nodes,
    "pods-are-spread-evenly-over-zones" => over_zones,
    "pods-are-spread-over-zones-and-nodes" => over_both,
    "a-wider-skew-allows-more" => wider,
    "a-cordoned-node-counts-as-a-domain" => cordoned,
    "tainted-nodes-count-unless-told-otherwise" => tainted,
    "nodes-that-the-pod-does-not-want-do-not-count" => unwanted,
    "too-few-domains-count-as-empty-ones" => min_domains,
    "a-node-without-the-label-is-no-domain" => no_label,
    "pods-of-other-generations-do-not-count" => match_label_keys,
    "a-pod-that-its-own-selector-does-not-take-does-not-count" => not_itself,
    "a-soft-spread-is-a-preference" => soft,
    "a-spread-counts-its-own-namespace-only" => own_namespace,
}

fn constraint(key: &str, when: &str) -> Value {
    json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": { "matchLabels": { "app": "a" } } })
}

fn hard(key: &str) -> Value {
    constraint(key, "DoNotSchedule")
}

fn with(constraints: &[Value]) -> Value {
    json!({ "topologySpreadConstraints": constraints })
}

/// A constraint with something changed.
fn but(mut constraint: Value, patch: &Value) -> Value {
    json_patch::merge(&mut constraint, patch);
    constraint
}

async fn over_nodes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", ""), ("c", "")]).await?;
    t.note("seven on three", &spread(lab, "p", 7, &with(&[hard(HOST)])).await?);
    clear(lab).await
}

async fn over_zones(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", "west"), ("b", "west"), ("c", "west"), ("d", "east")]).await?;
    let mut zones = Vec::new();
    for index in 0..6 {
        let node = place(lab, &mk_pod(lab, &format!("p{index}"), with(&[hard(ZONE)]))).await?;
        let east = node.as_str().is_some_and(|node| node.ends_with("-d"));
        zones.push(if east { "east" } else { "west" }.to_owned());
    }
    t.note("six in two", &counts(zones));
    clear(lab).await
}

async fn over_both(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", "west"), ("b", "west"), ("c", "east"), ("d", "east")]).await?;
    t.note(
        "six on four",
        &spread(lab, "p", 6, &with(&[hard(ZONE), hard(HOST)])).await?,
    );
    clear(lab).await
}

async fn wider(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    change(lab, "b", &json!({ "spec": { "unschedulable": true } })).await?;
    let wide = but(hard(HOST), &json!({ "maxSkew": 3 }));
    t.note("on the open node", &spread(lab, "p", 4, &with(&[wide])).await?);
    clear(lab).await
}

async fn cordoned(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", ""), ("c", "")]).await?;
    t.note("three on three", &spread(lab, "p", 3, &with(&[hard(HOST)])).await?);
    change(lab, "a", &json!({ "spec": { "unschedulable": true } })).await?;
    t.note("two more", &spread(lab, "q", 2, &with(&[hard(HOST)])).await?);
    add(lab, &mk_pod(lab, "r", with(&[hard(HOST)]))).await?;
    t.note("a third", &refused(lab, "r", CORDONED).await?);
    change(lab, "a", &json!({ "spec": { "unschedulable": false } })).await?;
    t.note("uncordoned", &placed(lab, "r").await?);
    clear(lab).await
}

async fn tainted(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let taint = json!({ "spec": { "taints": [{ "key": "conformance.example/for", "effect": "NoSchedule" }] } });
    node(lab, "a", taint).await?;
    node(lab, "b", json!({})).await?;
    t.note("one", &place(lab, &mk_pod(lab, "one", with(&[hard(HOST)]))).await?);
    t.note("two", &place(lab, &mk_pod(lab, "two", with(&[hard(HOST)]))).await?);
    let honest = but(hard(HOST), &json!({ "nodeTaintsPolicy": "Honor" }));
    t.note(
        "one that honours taints",
        &place(lab, &mk_pod(lab, "three", with(&[honest]))).await?,
    );
    clear(lab).await
}

async fn unwanted(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let on_b = |constraint: Value| {
        let mut spec = with(&[constraint]);
        spec["nodeSelector"] = json!({ HOST: host(lab, "b") });
        spec
    };
    t.note("one", &place(lab, &mk_pod(lab, "one", on_b(hard(HOST)))).await?);
    t.note("two", &place(lab, &mk_pod(lab, "two", on_b(hard(HOST)))).await?);
    let all = but(hard(HOST), &json!({ "nodeAffinityPolicy": "Ignore" }));
    t.note(
        "one that counts all nodes",
        &place(lab, &mk_pod(lab, "three", on_b(all))).await?,
    );
    clear(lab).await
}

async fn min_domains(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", "west"), ("b", "east")]).await?;
    let three = but(hard(ZONE), &json!({ "minDomains": 3 }));
    t.note(
        "two in two of three",
        &spread(lab, "p", 2, &with(std::slice::from_ref(&three))).await?,
    );
    t.note("a third", &place(lab, &mk_pod(lab, "q", with(&[three]))).await?);
    node(lab, "c", json!({ "metadata": { "labels": { ZONE: "north" } } })).await?;
    t.note("a third zone", &placed(lab, "q").await?);
    clear(lab).await
}

async fn no_label(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", "")]).await?;
    t.note("hard", &place(lab, &mk_pod(lab, "one", with(&[hard(ZONE)]))).await?);
    let easy = constraint(ZONE, "ScheduleAnyway");
    t.note("soft", &place(lab, &mk_pod(lab, "two", with(&[easy]))).await?);
    clear(lab).await
}

async fn match_label_keys(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let by_hash = but(hard(HOST), &json!({ "matchLabelKeys": ["hash"] }));
    let mut old = Vec::new();
    for index in 0..2 {
        let pod = mk_pod(lab, &format!("old{index}"), with(std::slice::from_ref(&by_hash)));
        old.push(place(lab, &labelled(pod, json!({ "hash": "1" }))).await?.to_string());
    }
    t.note("old ones", &counts(old));
    let new = labelled(
        mk_pod(lab, "new0", with(std::slice::from_ref(&by_hash))),
        json!({ "hash": "2" }),
    );
    let first = place(lab, &new).await?;
    let new = labelled(mk_pod(lab, "new1", with(&[by_hash])), json!({ "hash": "2" }));
    let second = place(lab, &new).await?;
    t.note("new ones", &(first != second));
    let pod = lab.get(&lab.path("pods/new0")).await?;
    t.note("constraint of the pod", &pod.at("spec/topologySpreadConstraints/0"));
    clear(lab).await
}

async fn not_itself(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let others = but(
        hard(HOST),
        &json!({ "labelSelector": { "matchLabels": { "app": "others" } } }),
    );
    let on_a = json!({ "nodeSelector": { HOST: host(lab, "a") } });
    let other = labelled(mk_pod(lab, "other", on_a), json!({ "app": "others" }));
    place(lab, &other).await?;
    let mut found = Vec::new();
    for index in 0..3 {
        let mut spec = with(std::slice::from_ref(&others));
        spec["nodeSelector"] = json!({ HOST: host(lab, "a") });
        found.push(place(lab, &mk_pod(lab, &format!("p{index}"), spec)).await?.to_string());
    }
    t.note("on the node with the other", &counts(found));
    clear(lab).await
}

async fn soft(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", ""), ("c", "")]).await?;
    let easy = with(&[constraint(HOST, "ScheduleAnyway")]);
    t.note("six on three", &spread(lab, "p", 6, &easy).await?);
    for name in ["a", "b"] {
        change(lab, name, &json!({ "spec": { "unschedulable": true } })).await?;
    }
    t.note("two on the last", &spread(lab, "q", 2, &easy).await?);
    clear(lab).await
}

async fn own_namespace(lab: &Lab, t: &mut Transcript) -> Result<()> {
    nodes(lab, &[("a", ""), ("b", "")]).await?;
    let other = format!("{}-other", lab.namespace);
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": other } });
    lab.make("/api/v1/namespaces", &namespace).await?;
    lab.clean_up(format!("/api/v1/namespaces/{other}")).await;
    let accounts = format!("/api/v1/namespaces/{other}/serviceaccounts/default");
    lab.until("its service account", &accounts, |account| account.code == 200)
        .await?;
    let pods = format!("/api/v1/namespaces/{other}/pods");
    for name in ["x", "y"] {
        let on_a = json!({ "nodeSelector": { HOST: host(lab, "a") } });
        lab.make(&pods, &mk_pod(lab, name, on_a)).await?;
        lab.until("it has a node", &format!("{pods}/{name}"), |pod| {
            !pod.text("spec/nodeName").is_empty()
        })
        .await?;
    }
    let mut on_a = with(&[hard(HOST)]);
    on_a["nodeSelector"] = json!({ HOST: host(lab, "a") });
    t.note("one", &place(lab, &mk_pod(lab, "one", on_a)).await?);
    for name in ["x", "y"] {
        lab.delete(&format!("{pods}/{name}?gracePeriodSeconds=0")).await?;
    }
    clear(lab).await
}
