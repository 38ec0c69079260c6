//! Subresources of what every cluster has: evictions, bindings, scales and status.

use anyhow::Result;
use serde_json::{Value, json};

use super::samples::{mk_deployment, mk_pod, mk_running_pod};
use crate::conformance::{Area, Lab, PatchKind, Transcript, cases};

cases! { Area::ApiMachinery,
    "an-eviction-deletes-a-pod" => evicts,
    "two-budgets-for-one-pod-refuse-its-eviction" => two_budgets,
    "an-eviction-asks-for-its-preconditions" => eviction_preconditions,
    "a-binding-puts-a-pod-on-a-node-once" => binds,
    "the-scale-of-a-deployment-is-read-and-written" => scales,
    "the-status-of-a-pod-is-written-apart" => pod_status,
    "the-status-of-a-service-is-written-apart" => service_status,
    "a-status-is-applied-under-a-manager-of-its-own" => applied_status,
    "a-subresource-that-is-not-there-is-not-found" => unknown,
}

fn mk_eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}})
}

async fn evicts(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("pods"), &mk_pod("a")).await?;
    let eviction = lab.path("pods/a/eviction");
    let mut dry = mk_eviction("a");
    dry["deleteOptions"] = json!({"dryRun": ["All"]});
    t.note("dry run", &lab.post(&eviction, &dry).await?);
    t.note(
        "still there",
        &lab.get(&lab.path("pods/a"))
            .await?
            .only(&["metadata/deletionTimestamp"]),
    );
    t.note("another name", &lab.post(&eviction, &mk_eviction("b")).await?);
    t.note("evict", &lab.post(&eviction, &mk_eviction("a")).await?);
    t.note("gone", &lab.until_gone(&lab.path("pods/a")).await?);
    t.note("again", &lab.post(&eviction, &mk_eviction("a")).await?);
    t.note("read", &lab.get(&eviction).await?.code);
    Ok(())
}

async fn two_budgets(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut pod = mk_running_pod("a");
    pod["metadata"]["labels"] = json!({"app": "web"});
    lab.make(&lab.path("pods"), &pod).await?;
    for name in ["one", "two"] {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        });
        lab.make(&lab.path("poddisruptionbudgets"), &budget).await?;
    }
    lab.until("running", &lab.path("pods/a"), |answer| {
        answer.text("status/phase") == "Running"
    })
    .await?;
    t.note(
        "evict",
        &lab.post(&lab.path("pods/a/eviction"), &mk_eviction("a")).await?,
    );
    Ok(())
}

async fn eviction_preconditions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("pods"), &mk_pod("a")).await?;
    let mut eviction = mk_eviction("a");
    eviction["deleteOptions"] = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    t.note("another uid", &lab.post(&lab.path("pods/a/eviction"), &eviction).await?);
    t.note(
        "still there",
        &lab.get(&lab.path("pods/a"))
            .await?
            .only(&["metadata/deletionTimestamp"]),
    );
    Ok(())
}

async fn binds(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("pods"), &mk_pod("a")).await?;
    let node = lab.get("/api/v1/nodes").await?.text("items/0/metadata/name");
    t.alias(node.clone(), "node");
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
    t.note("no target", &lab.post(&lab.path("pods/a/binding"), &binding("")).await?);
    t.note("bind", &lab.post(&lab.path("pods/a/binding"), &binding(&node)).await?);
    let pod = lab.get(&lab.path("pods/a")).await?;
    t.note("bound", &pod.only(&["spec/nodeName"]));
    let conditions = pod.at("status/conditions");
    let scheduled = conditions
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "PodScheduled");
    t.note("scheduled", &scheduled.map(|one| one["status"].clone()));
    t.note(
        "again",
        &lab.post(&lab.path("pods/a/binding"), &binding("other")).await?,
    );
    t.note("no pod", &lab.post(&lab.path("pods/b/binding"), &binding(&node)).await?);
    Ok(())
}

async fn scales(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("deployments"), &mk_deployment("web", 0)).await?;
    let scale = lab.path("deployments/web/scale");
    let seen = lab.get(&scale).await?;
    t.note(
        "get",
        &seen.only(&["kind", "apiVersion", "metadata/name", "spec", "status"]),
    );
    let mut stale = seen.body.clone();
    stale["metadata"]["resourceVersion"] = json!("1");
    t.note("stale", &lab.put(&scale, &stale).await?);
    let unknown = json!({"spec": {"replicas": -1}});
    t.note("less than none", &lab.patch(&scale, PatchKind::Merge, &unknown).await?);
    let mut other = mk_deployment("web", 0);
    other["spec"]["paused"] = json!(true);
    lab.put(&lab.path("deployments/web"), &other)
        .await?
        .expect_ok("pause")?;
    let patched = lab
        .patch(&scale, PatchKind::Merge, &json!({"spec": {"replicas": 2}}))
        .await?;
    t.note("patch", &patched.only(&["kind", "spec", "status"]));
    t.note(
        "the deployment",
        &lab.get(&lab.path("deployments/web")).await?.only(&["spec/replicas"]),
    );
    t.note("of nothing", &lab.get(&lab.path("deployments/other/scale")).await?);
    t.note("of what has none", &lab.get(&lab.path("configmaps/a/scale")).await?);
    Ok(())
}

async fn pod_status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut pod = mk_pod("a");
    pod["status"] = json!({"phase": "Running", "podIP": "10.0.0.1"});
    t.note(
        "create with a status",
        &lab.post(&lab.path("pods"), &pod).await?.only(&["status"]),
    );
    let both = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"activeDeadlineSeconds": 9}, "status": {"phase": "Running"}});
    let seen = [
        "metadata/labels",
        "spec/activeDeadlineSeconds",
        "status/phase",
        "metadata/generation",
    ];
    t.note(
        "through the status",
        &lab.patch(&lab.path("pods/a/status"), PatchKind::Merge, &both)
            .await?
            .only(&seen),
    );
    let both = json!({"metadata": {"labels": {"c": "d"}}, "status": {"phase": "Failed"}});
    t.note(
        "through the pod",
        &lab.patch(&lab.path("pods/a"), PatchKind::Merge, &both)
            .await?
            .only(&seen),
    );
    let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    lab.patch(&lab.path("pods/a/status"), PatchKind::Strategic, &ready("False"))
        .await?
        .expect_ok("not ready")?;
    let other = json!({"status": {"conditions": [{"type": "Own", "status": "True"}]}});
    lab.patch(&lab.path("pods/a/status"), PatchKind::Strategic, &other)
        .await?
        .expect_ok("own")?;
    let merged = lab
        .patch(&lab.path("pods/a/status"), PatchKind::Strategic, &ready("True"))
        .await?;
    let conditions = merged.at("status/conditions");
    let mut brief: Vec<String> = conditions
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{}={}", one["type"], one["status"]))
        .collect();
    brief.sort();
    t.note("conditions are merged by their types", &brief);
    Ok(())
}

async fn service_status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {
        "type": "LoadBalancer", "loadBalancerClass": "example.com/none", "ports": [{"port": 80}]}});
    t.note(
        "create",
        &lab.post(&lab.path("services"), &service)
            .await?
            .only(&["status", "spec/loadBalancerClass"]),
    );
    let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    t.note(
        "through the service",
        &lab.patch(&lab.path("services/a"), PatchKind::Merge, &ingress)
            .await?
            .only(&["status"]),
    );
    t.note(
        "through the status",
        &lab.patch(&lab.path("services/a/status"), PatchKind::Merge, &ingress)
            .await?
            .only(&["status"]),
    );
    Ok(())
}

async fn applied_status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let apply = |replicas: u16| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"availableReplicas": replicas, "readyReplicas": replicas, "replicas": replicas}});
    let mut paused = mk_deployment("web", 0);
    paused["spec"]["paused"] = json!(true);
    t.note(
        "of nothing",
        &lab.apply(&lab.path("deployments/web/status"), "me", &apply(1)).await?,
    );
    lab.apply(&lab.path("deployments/web"), "me", &paused)
        .await?
        .expect_ok("apply")?;
    let applied = lab
        .apply(&lab.path("deployments/web/status?force=true"), "me", &apply(0))
        .await?;
    let managers = applied.at("metadata/managedFields");
    let mine = managers
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| one["manager"] == "me");
    t.note_whole(
        "managers",
        mine.map(|one| json!([one["operation"], one["subresource"], one["fieldsV1"]["f:status"]]))
            .collect(),
    );
    Ok(())
}

async fn unknown(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("pods"), &mk_pod("a")).await?;
    t.note("of a pod", &lab.get(&lab.path("pods/a/nothing")).await?);
    t.note("of a config map", &lab.get(&lab.path("configmaps/a/status")).await?);
    t.note(
        "of a secret",
        &lab.patch(&lab.path("secrets/a/status"), PatchKind::Merge, &json!({}))
            .await?,
    );
    Ok(())
}
