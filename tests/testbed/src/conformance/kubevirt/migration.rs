//! Live migrations: phases, what they write into the VMI, and how they end.

use anyhow::Result;
use serde_json::{Value, json};
use steading_sim::behaviour::virt_handler::{FAIL_MIGRATION, NOT_MIGRATABLE};

use super::{
    samples::{changed, mk_migration, mk_vm, with_template},
    steps::{
        condition, course, create, delete, gone, launcher, made, merge, only, path, pods, read, running, subresource,
        text, until, verdict,
    },
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "a-migration-goes-through-its-phases-in-order" => phases,
    "a-migrated-vmi-is-the-same-elsewhere" => elsewhere,
    "the-pods-of-a-migration-tell-what-they-are" => pods_of_a_migration,
    "a-migration-is-labelled-by-the-webhook" => labelled,
    "migrate-makes-a-migration" => by_subresource,
    "a-migration-of-nothing-is-refused" => of_nothing,
    "a-migration-of-what-cannot-be-migrated-is-refused" => not_migratable,
    "a-second-migration-at-once-is-refused" => second,
    "the-spec-of-a-migration-does-not-change" => spec,
    "a-migration-goes-where-its-selector-says" => selector,
    "a-migration-that-finds-no-node-waits" => no_node,
    "a-migration-that-is-deleted-early-leaves-the-machine-alone" => deleted,
    "a-migration-that-fails-leaves-the-machine-where-it-is" => fails,
    "a-migration-takes-hot-plugged-volumes-along" => with_volumes,
}

const MIGRATIONS: &str = "virtualmachineinstancemigrations";

async fn machine(lab: &Lab, vm: &Value) -> Result<Value> {
    made(lab, "virtualmachines", vm).await?;
    running(lab, "m").await
}

async fn ended(lab: &Lab, name: &str) -> Result<Value> {
    until(lab, MIGRATIONS, name, "the migration ends", |migration| {
        matches!(text(migration, "/status/phase"), "Succeeded" | "Failed")
    })
    .await
}

/// Waits until a VMI has come to rest on another node.
async fn moved(lab: &Lab, before: &Value) -> Result<Value> {
    let node = before["status"]["nodeName"].clone();
    until(lab, "virtualmachineinstances", "m", "it is elsewhere", move |vmi| {
        vmi["status"]["nodeName"] != node && vmi["status"]["migrationState"]["completed"] == true
    })
    .await
}

async fn phases(lab: &Lab, t: &mut Transcript) -> Result<()> {
    machine(lab, &mk_vm("m")).await?;
    let mut watch = lab.watch(&path(lab, MIGRATIONS, "")).await?;
    made(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    t.note(
        "phases",
        &json!(course(&mut watch, "go", "/status/phase", "Succeeded").await?),
    );
    let migration = ended(lab, "go").await?;
    let stamps = migration["status"]["phaseTransitionTimestamps"].as_array();
    let stamped: Vec<Value> = stamps
        .into_iter()
        .flatten()
        .map(|stamp| stamp["phase"].clone())
        .collect();
    t.note("phases with a time", &stamped);
    Ok(())
}

async fn elsewhere(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let before = machine(lab, &mk_vm("m")).await?;
    let source = launcher(lab, "m").await?;
    made(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    ended(lab, "go").await?;
    moved(lab, &before).await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "its label says where", |vmi| {
        vmi["metadata"]["labels"]["kubevirt.io/nodeName"] == vmi["status"]["nodeName"]
    })
    .await?;
    let migration = until(lab, MIGRATIONS, "go", "the migration tells how it went", |migration| {
        migration["status"]["migrationState"]["completed"] == true
    })
    .await?;
    let target = launcher(lab, "m").await?;
    let state = &vmi["status"]["migrationState"];
    t.note(
        "state",
        &json!({
            "source node": state["sourceNode"] == before["status"]["nodeName"],
            "target node": state["targetNode"] == vmi["status"]["nodeName"],
            "source pod": state["sourcePod"] == source["metadata"]["name"],
            "target pod": state["targetPod"] == target["metadata"]["name"],
            "migration": state["migrationUid"] == migration["metadata"]["uid"],
            "times": [state["startTimestamp"].is_string(), state["endTimestamp"].is_string()],
            "completed": state["completed"], "failed": state.get("failed"), "mode": state["mode"],
        }),
    );
    t.note(
        "VMI",
        &json!({
            "same": vmi["metadata"]["uid"] == before["metadata"]["uid"],
            "phase": vmi["status"]["phase"],
            "ready": only(&condition(&vmi, "Ready"), &["status"]),
            "pods": vmi["status"]["activePods"].as_object().map(serde_json::Map::len),
            "another address": vmi["status"]["interfaces"][0]["ipAddress"] == target["status"]["podIP"],
        }),
    );
    let ended_with = &migration["status"]["migrationState"];
    t.note(
        "state of the migration",
        &json!({
            "completed": ended_with["completed"],
            "same target": ended_with["targetNode"] == state["targetNode"],
            "same migration": ended_with["migrationUid"] == state["migrationUid"],
        }),
    );
    Ok(())
}

async fn pods_of_a_migration(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let before = machine(lab, &mk_vm("m")).await?;
    let source = launcher(lab, "m").await?;
    let migration = made(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    ended(lab, "go").await?;
    moved(lab, &before).await?;
    let name = text(&source, "/metadata/name").to_owned();
    let source = until(lab, "pods", &name, "the source has ended", |pod| {
        text(pod, "/status/phase") == "Succeeded"
    })
    .await?;
    let all = pods(lab, "kubevirt.io=virt-launcher").await?;
    let target = all
        .iter()
        .find(|pod| pod["metadata"]["name"] != source["metadata"]["name"])
        .cloned()
        .unwrap_or_default();
    t.note(
        "pods",
        &json!({
            "count": all.len(),
            "source": source["status"]["phase"],
            "target": target["status"]["phase"],
            "job": target["metadata"]["labels"]["kubevirt.io/migrationJobUID"] == migration["metadata"]["uid"],
            "job name": target["metadata"]["annotations"]["kubevirt.io/migrationJobName"],
            "created by": target["metadata"]["labels"]["kubevirt.io/created-by"] == before["metadata"]["uid"],
            "apart": target["spec"]["nodeName"] != source["spec"]["nodeName"],
        }),
    );
    t.note(
        "why the target keeps away",
        &target["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
    );
    Ok(())
}

async fn labelled(lab: &Lab, t: &mut Transcript) -> Result<()> {
    machine(lab, &mk_vm("m")).await?;
    let migration = made(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    t.note("metadata", &only(&migration["metadata"], &["labels", "finalizers"]));
    ended(lab, "go").await?;
    t.note("delete", &json!({ "code": delete(lab, MIGRATIONS, "go").await?.code }));
    gone(lab, MIGRATIONS, "go").await?;
    Ok(())
}

async fn by_subresource(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let before = machine(lab, &mk_vm("m")).await?;
    let answer = subresource(lab, "virtualmachines", "m", "migrate", None).await?;
    t.note("migrate", &verdict(&answer));
    moved(lab, &before).await?;
    let all = lab.get(&path(lab, MIGRATIONS, "")).await?;
    let migration = ended(lab, text(&all.body, "/items/0/metadata/name")).await?;
    t.note(
        "migration",
        &json!({
            "count": all.names().len(),
            "prefix": migration["metadata"]["generateName"],
            "vmi": migration["spec"]["vmiName"],
        }),
    );
    let dry = json!({ "dryRun": ["All"] });
    let answer = subresource(lab, "virtualmachines", "m", "migrate", Some(&dry)).await?;
    t.note("dry run", &verdict(&answer));
    let all = lab.get(&path(lab, MIGRATIONS, "")).await?;
    t.note("migrations", &all.names().len());
    Ok(())
}

async fn of_nothing(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let answer = create(lab, MIGRATIONS, &mk_migration("go", "nobody")).await?;
    t.note("of no VMI", &verdict(&answer));
    let mut migration = mk_migration("go", "m");
    migration["spec"] = json!({});
    let answer = create(lab, MIGRATIONS, &migration).await?;
    t.note("without a name", &verdict(&answer));
    let vm = changed(mk_vm("m"), json!({ "spec": { "runStrategy": "Halted" } }));
    made(lab, "virtualmachines", &vm).await?;
    let answer = create(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    t.note("of a halted VM", &verdict(&answer));
    Ok(())
}

async fn not_migratable(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(
        mk_vm("m"),
        json!({ "spec": { "template": { "metadata": { "annotations": { NOT_MIGRATABLE: "true" } } } } }),
    );
    let vmi = machine(lab, &vm).await?;
    t.note("the VMI says so", &condition(&vmi, "LiveMigratable")["status"]);
    let answer = create(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    t.note("migrate", &verdict(&answer));
    let answer = subresource(lab, "virtualmachines", "m", "migrate", None).await?;
    t.note("by the subresource", &verdict(&answer));
    Ok(())
}

/// A machine whose migrations find no node, as their selector takes none.
fn mk_stuck(name: &str) -> Value {
    changed(
        mk_migration(name, "m"),
        json!({ "spec": { "addedNodeSelector": { "no-such": "node" } } }),
    )
}

async fn second(lab: &Lab, t: &mut Transcript) -> Result<()> {
    machine(lab, &mk_vm("m")).await?;
    made(lab, MIGRATIONS, &mk_stuck("first")).await?;
    let answer = create(lab, MIGRATIONS, &mk_migration("second", "m")).await?;
    t.note("second", &verdict(&answer));
    delete(lab, MIGRATIONS, "first").await?;
    gone(lab, MIGRATIONS, "first").await?;
    let answer = create(lab, MIGRATIONS, &mk_migration("third", "m")).await?;
    t.note("once the first is gone", &verdict(&answer));
    // KubeVirt takes its time with the next one.
    delete(lab, MIGRATIONS, "third").await?;
    gone(lab, MIGRATIONS, "third").await?;
    Ok(())
}

async fn spec(lab: &Lab, t: &mut Transcript) -> Result<()> {
    machine(lab, &mk_vm("m")).await?;
    made(lab, MIGRATIONS, &mk_stuck("go")).await?;
    let patch = json!({ "spec": { "vmiName": "other" } });
    t.note(
        "another machine",
        &verdict(&merge(lab, MIGRATIONS, "go", &patch).await?),
    );
    let patch = json!({ "metadata": { "labels": { "kubevirt.io/vmi-name": "other" } } });
    t.note("another label", &verdict(&merge(lab, MIGRATIONS, "go", &patch).await?));
    let patch = json!({ "metadata": { "labels": { "colour": "red" } } });
    t.note(
        "a label of one's own",
        &verdict(&merge(lab, MIGRATIONS, "go", &patch).await?),
    );
    delete(lab, MIGRATIONS, "go").await?;
    gone(lab, MIGRATIONS, "go").await?;
    Ok(())
}

async fn selector(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let before = machine(lab, &mk_vm("m")).await?;
    let nodes = lab
        .get("/api/v1/nodes?labelSelector=kubevirt.io/schedulable=true")
        .await?;
    let here = text(&before, "/status/nodeName").to_owned();
    let there = nodes
        .names()
        .into_iter()
        .rfind(|name| *name != here)
        .unwrap_or_default();
    let migration = changed(
        mk_migration("go", "m"),
        json!({ "spec": { "addedNodeSelector": { "kubernetes.io/hostname": there } } }),
    );
    made(lab, MIGRATIONS, &migration).await?;
    t.note("its end", &ended(lab, "go").await?["status"]["phase"]);
    let vmi = moved(lab, &before).await?;
    t.note("is there", &(text(&vmi, "/status/nodeName") == there));
    t.note("selector of the VMI", &vmi["spec"].get("nodeSelector").cloned());
    Ok(())
}

async fn no_node(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let before = machine(lab, &mk_vm("m")).await?;
    made(lab, MIGRATIONS, &mk_stuck("go")).await?;
    let migration = until(lab, MIGRATIONS, "go", "the migration waits for a node", |migration| {
        text(migration, "/status/phase") == "Scheduling"
    })
    .await?;
    t.note("phase", &migration["status"]["phase"]);
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note(
        "VMI",
        &json!({ "phase": vmi["status"]["phase"], "stays": vmi["status"]["nodeName"] == before["status"]["nodeName"] }),
    );
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note("word of the VM", &vm["status"]["printableStatus"]);
    delete(lab, MIGRATIONS, "go").await?;
    gone(lab, MIGRATIONS, "go").await?;
    Ok(())
}

async fn deleted(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let before = machine(lab, &mk_vm("m")).await?;
    made(lab, MIGRATIONS, &mk_stuck("go")).await?;
    lab.until(
        "the target pod waits",
        &format!("{}?labelSelector=kubevirt.io/migrationJobUID", lab.path("pods")),
        |pods| pods.names().len() == 1,
    )
    .await?;
    t.note("delete", &json!({ "code": delete(lab, MIGRATIONS, "go").await?.code }));
    gone(lab, MIGRATIONS, "go").await?;
    lab.until(
        "the target pod is gone or over",
        &format!("{}?labelSelector=kubevirt.io/migrationJobUID", lab.path("pods")),
        |pods| {
            pods.body["items"].as_array().is_some_and(|items| {
                items
                    .iter()
                    .all(|pod| matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"))
            })
        },
    )
    .await?;
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note(
        "VMI",
        &json!({
            "phase": vmi["status"]["phase"],
            "same": vmi["metadata"]["uid"] == before["metadata"]["uid"],
            "stays": vmi["status"]["nodeName"] == before["status"]["nodeName"],
        }),
    );
    Ok(())
}

async fn fails(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(
        mk_vm("m"),
        json!({ "spec": { "template": { "metadata": { "annotations": { FAIL_MIGRATION: "true" } } } } }),
    );
    let before = machine(lab, &vm).await?;
    made(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    t.note("its end", &ended(lab, "go").await?["status"]["phase"]);
    let vmi = until(lab, "virtualmachineinstances", "m", "the VMI knows", |vmi| {
        vmi["status"]["migrationState"]["failed"] == true
    })
    .await?;
    t.note(
        "VMI",
        &json!({
            "phase": vmi["status"]["phase"],
            "stays": vmi["status"]["nodeName"] == before["status"]["nodeName"],
            "completed": vmi["status"]["migrationState"]["completed"],
            "reason": vmi["status"]["migrationState"]["failureReason"].is_string(),
        }),
    );
    let vm = until(lab, "virtualmachines", "m", "the VM runs", |vm| {
        text(vm, "/status/printableStatus") == "Running"
    })
    .await?;
    t.note("ready", &vm["status"]["ready"]);
    Ok(())
}

async fn with_volumes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "datavolumes", &super::samples::mk_data_volume("a")).await?;
    let (volume, disk) = super::samples::mk_hotplug("a");
    let vm = with_template(
        mk_vm("m"),
        json!({
            "volumes": [{ "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } }, volume],
            "domain": { "devices": { "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }, disk] } },
        }),
    );
    made(lab, "virtualmachines", &vm).await?;
    let plugged = |vmi: &Value| {
        let all = vmi["status"]["volumeStatus"].as_array();
        all.into_iter()
            .flatten()
            .find(|volume| volume["name"] == "a")
            .cloned()
            .unwrap_or_default()
    };
    let before = until(lab, "virtualmachineinstances", "m", "the volume is ready", |vmi| {
        plugged(vmi)["phase"] == "Ready" && condition(vmi, "LiveMigratable")["status"] == "True"
    })
    .await?;
    made(lab, MIGRATIONS, &mk_migration("go", "m")).await?;
    t.note("its end", &ended(lab, "go").await?["status"]["phase"]);
    moved(lab, &before).await?;
    let vmi = until(
        lab,
        "virtualmachineinstances",
        "m",
        "the volume is ready there",
        |vmi| {
            plugged(vmi)["phase"] == "Ready"
                && plugged(vmi)["hotplugVolume"]["attachPodName"] != plugged(&before)["hotplugVolume"]["attachPodName"]
        },
    )
    .await?;
    t.note("volume", &only(&plugged(&vmi), &["name", "phase", "target"]));
    Ok(())
}
