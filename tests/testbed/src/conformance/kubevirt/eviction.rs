//! What an eviction of a launcher pod does, by the machine's strategy.

use anyhow::Result;
use serde_json::{Value, json};
use steading_sim::behaviour::virt_handler::NOT_MIGRATABLE;

use super::{
    samples::{changed, mk_vm, with_template},
    steps::{condition, launcher, made, only, read, running, subresource, text, until, verdict},
};
use crate::conformance::{Answer, Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "an-eviction-without-a-strategy-ends-the-vmi" => none,
    "an-external-eviction-marks-the-vmi" => external,
    "a-second-eviction-is-told-that-it-is-under-way" => second,
    "a-dry-run-of-an-eviction-marks-nothing" => dry_run,
    "an-evacuation-can-be-cancelled" => cancel,
    "an-eviction-migrates-a-machine-that-is-to-be-migrated" => live_migrate,
    "an-eviction-of-what-cannot-be-migrated-is-refused" => not_migratable,
    "a-machine-is-migrated-only-if-possible" => if_possible,
    "what-cannot-be-migrated-and-need-not-goes" => if_not_possible,
    "the-clusters-strategy-counts-where-the-vm-says-none" => unset,
}

/// Evicts a pod, as `kubectl drain` does.
pub(super) async fn evict(lab: &Lab, pod: &str) -> Result<Answer> {
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod, "namespace": lab.namespace } });
    lab.post(&format!("{}/eviction", lab.path(&format!("pods/{pod}"))), &eviction)
        .await
}

fn mk_evictable(strategy: &str) -> Value {
    with_template(mk_vm("m"), json!({ "evictionStrategy": strategy }))
}

fn pinned(vm: Value) -> Value {
    changed(
        vm,
        json!({ "spec": { "template": { "metadata": { "annotations": { NOT_MIGRATABLE: "true" } } } } }),
    )
}

/// Starts a machine and returns its VMI and the name of its pod.
async fn start(lab: &Lab, t: &mut Transcript, vm: &Value) -> Result<(Value, String)> {
    made(lab, "virtualmachines", vm).await?;
    let vmi = running(lab, "m").await?;
    let pod = launcher(lab, "m").await?;
    t.alias(text(&vmi, "/status/nodeName"), "node");
    t.alias(text(&pod, "/metadata/name"), "pod");
    Ok((vmi, text(&pod, "/metadata/name").to_owned()))
}

async fn another(lab: &Lab, before: &Value) -> Result<Value> {
    let uid = before["metadata"]["uid"].clone();
    until(lab, "virtualmachineinstances", "m", "another VMI runs", move |vmi| {
        vmi["metadata"]["uid"] != uid && text(vmi, "/status/phase") == "Running"
    })
    .await
}

async fn none(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (vmi, pod) = start(lab, t, &mk_evictable("None")).await?;
    let answer = evict(lab, &pod).await?;
    t.note("evict", &answer.only(&["kind", "status"]));
    another(lab, &vmi).await?;
    running(lab, "m").await?;
    Ok(())
}

async fn external(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (_, pod) = start(lab, t, &mk_evictable("External")).await?;
    t.note("evict", &verdict(&evict(lab, &pod).await?));
    let vmi = until(lab, "virtualmachineinstances", "m", "the VMI is marked", |vmi| {
        !condition(vmi, "EvictionRequested").is_null()
    })
    .await?;
    t.note(
        "VMI",
        &json!({
            "marked by its node": vmi["status"]["evacuationNodeName"] == vmi["status"]["nodeName"],
            "condition": only(&condition(&vmi, "EvictionRequested"), &["status", "reason", "message"]),
            "phase": vmi["status"]["phase"],
        }),
    );
    let vm = until(lab, "virtualmachines", "m", "the VM is marked", |vm| {
        !condition(vm, "EvictionRequested").is_null()
    })
    .await?;
    t.note(
        "VM",
        &only(&condition(&vm, "EvictionRequested"), &["status", "reason", "message"]),
    );
    t.note("migrations", &migrations(lab).await?.len());
    let pod = launcher(lab, "m").await?;
    t.note("the pod stays", &pod["metadata"].get("deletionTimestamp").is_none());
    Ok(())
}

async fn migrations(lab: &Lab) -> Result<Vec<Value>> {
    let answer = lab.get(&lab.path("virtualmachineinstancemigrations")).await?;
    Ok(answer.body["items"].as_array().cloned().unwrap_or_default())
}

async fn second(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (_, pod) = start(lab, t, &mk_evictable("External")).await?;
    t.note("first", &verdict(&evict(lab, &pod).await?));
    t.note("second", &verdict(&evict(lab, &pod).await?));
    let answer = evict(lab, &pod).await?;
    t.note("whole answer", &answer);
    t.note("retry after", &answer.headers.get("retry-after").cloned());
    Ok(())
}

async fn dry_run(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (_, pod) = start(lab, t, &mk_evictable("External")).await?;
    let path = format!("{}/eviction", lab.path(&format!("pods/{pod}")));
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod } });
    let answer = lab.post(&format!("{path}?dryRun=All"), &eviction).await?;
    t.note("by the query", &verdict(&answer));
    let inside = changed(eviction, json!({ "deleteOptions": { "dryRun": ["All"] } }));
    t.note("by the options", &verdict(&lab.post(&path, &inside).await?));
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note("mark", &vmi["status"].get("evacuationNodeName").cloned());
    Ok(())
}

async fn cancel(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (vmi, pod) = start(lab, t, &mk_evictable("External")).await?;
    let node = json!({ "evacuationNodeName": vmi["status"]["nodeName"] });
    let cancel =
        async |plural: &str, body: Option<&Value>| subresource(lab, plural, "m", "evacuate/cancel", body).await;
    t.note(
        "of what is not marked",
        &verdict(&cancel("virtualmachineinstances", Some(&node)).await?),
    );
    evict(lab, &pod).await?;
    until(lab, "virtualmachineinstances", "m", "the VMI is marked", |vmi| {
        !condition(vmi, "EvictionRequested").is_null()
    })
    .await?;
    let wrong = json!({ "evacuationNodeName": "nowhere" });
    let answer = cancel("virtualmachineinstances", Some(&wrong)).await?;
    t.note(
        "of another node",
        &json!({ "code": answer.code, "reason": answer.body["reason"] }),
    );
    let answer = cancel("virtualmachineinstances", Some(&json!({}))).await?;
    t.note(
        "of no node",
        &json!({ "code": answer.code, "reason": answer.body["reason"] }),
    );
    t.note("of the VM", &verdict(&cancel("virtualmachines", Some(&node)).await?));
    let vmi = until(lab, "virtualmachineinstances", "m", "the mark is gone", |vmi| {
        condition(vmi, "EvictionRequested").is_null()
    })
    .await?;
    t.note("mark", &vmi["status"].get("evacuationNodeName").cloned());
    until(lab, "virtualmachines", "m", "the mark of the VM is gone", |vm| {
        condition(vm, "EvictionRequested").is_null()
    })
    .await?;
    t.note("again", &verdict(&cancel("virtualmachines", Some(&node)).await?));
    t.note("evict again", &verdict(&evict(lab, &pod).await?));
    Ok(())
}

async fn live_migrate(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (before, pod) = start(lab, t, &mk_evictable("LiveMigrate")).await?;
    t.note("evict", &verdict(&evict(lab, &pod).await?));
    let node = before["status"]["nodeName"].clone();
    let vmi = until(lab, "virtualmachineinstances", "m", "it is elsewhere", move |vmi| {
        vmi["status"]["nodeName"] != node && vmi["status"]["migrationState"]["completed"] == true
    })
    .await?;
    t.note("same VMI", &(vmi["metadata"]["uid"] == before["metadata"]["uid"]));
    let all = migrations(lab).await?;
    let migration = all.first().cloned().unwrap_or_default();
    t.note(
        "migration",
        &json!({
            "count": all.len(),
            "name": text(&migration, "/metadata/name").starts_with("kubevirt-evacuation-"),
            "annotation": only(&migration["metadata"]["annotations"], &["kubevirt.io/evacuationMigration"]),
            "vmi": migration["spec"]["vmiName"],
            "labels": migration["metadata"]["labels"],
        }),
    );
    let vmi = until(lab, "virtualmachineinstances", "m", "the mark is gone", |vmi| {
        condition(vmi, "EvictionRequested").is_null()
    })
    .await?;
    t.note("mark", &vmi["status"].get("evacuationNodeName").cloned());
    Ok(())
}

async fn not_migratable(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (_, pod) = start(lab, t, &pinned(mk_evictable("LiveMigrate"))).await?;
    t.note("evict", &verdict(&evict(lab, &pod).await?));
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note("mark", &vmi["status"].get("evacuationNodeName").cloned());
    Ok(())
}

async fn if_possible(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (before, pod) = start(lab, t, &mk_evictable("LiveMigrateIfPossible")).await?;
    t.note("evict", &verdict(&evict(lab, &pod).await?));
    let node = before["status"]["nodeName"].clone();
    until(lab, "virtualmachineinstances", "m", "it is elsewhere", move |vmi| {
        vmi["status"]["nodeName"] != node && vmi["status"]["migrationState"]["completed"] == true
    })
    .await?;
    Ok(())
}

async fn if_not_possible(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (vmi, pod) = start(lab, t, &pinned(mk_evictable("LiveMigrateIfPossible"))).await?;
    t.note("evict", &verdict(&evict(lab, &pod).await?));
    another(lab, &vmi).await?;
    Ok(())
}

async fn unset(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (vmi, pod) = start(lab, t, &mk_vm("m")).await?;
    t.note("strategy of the VMI", &vmi["spec"].get("evictionStrategy").cloned());
    t.note("evict", &verdict(&evict(lab, &pod).await?));
    another(lab, &vmi).await?;
    Ok(())
}
