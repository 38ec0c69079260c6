//! A machine's life: phases, status, and what ends it.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    power::{another, with_strategy},
    samples::{mk_vm, mk_vmi},
    steps::{
        at, condition, conditions, course, delete, gone, launcher, made, only, path, pods, printable, read, running,
        running_vmi, subresource, text, until, verdict,
    },
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "a-vmi-goes-through-its-phases-in-order" => vmi_phases,
    "a-vm-tells-how-far-its-machine-is" => vm_words,
    "a-running-vm-has-a-full-status" => vm_status,
    "a-running-vmi-has-a-full-status" => vmi_status,
    "a-vmi-without-a-vm-runs-too" => lone_vmi,
    "a-deleted-vmi-comes-back" => vmi_deleted,
    "a-deleted-launcher-pod-takes-the-vmi-along" => launcher_deleted,
    "a-machine-that-fits-nowhere-says-why" => unschedulable,
}

async fn vmi_phases(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut watch = lab.watch(&path(lab, "virtualmachineinstances", "")).await?;
    let mut launchers = lab.watch(&path(lab, "pods", "")).await?;
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    t.note(
        "phases of the VMI",
        &json!(course(&mut watch, "m", "/status/phase", "Running").await?),
    );
    t.note(
        "phases of its pod",
        &json!(course(&mut launchers, "", "/status/phase", "Running").await?),
    );
    let vmi = running_vmi(lab, "m").await?;
    let stamps = vmi["status"]["phaseTransitionTimestamps"].as_array().cloned();
    let stamped: Vec<Value> = stamps
        .into_iter()
        .flatten()
        .map(|stamp| stamp["phase"].clone())
        .collect();
    t.note("phases with a time", &json!(stamped));
    delete(lab, "virtualmachines", "m").await?;
    let mut after = course(&mut watch, "m", "/status/phase", "<deleted>").await?;
    // Whether the guest ends or its pod goes first is chance.
    for phase in &mut after {
        if matches!(phase.as_str(), "Succeeded" | "Failed") {
            "<ended>".clone_into(phase);
        }
    }
    t.note("phases of the VMI at its end", &json!(after));
    Ok(())
}

async fn vm_words(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut watch = lab.watch(&path(lab, "virtualmachines", "")).await?;
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    t.note(
        "until it runs",
        &json!(course(&mut watch, "m", "/status/printableStatus", "Running").await?),
    );
    subresource(lab, "virtualmachines", "m", "stop", None).await?;
    // A busy controller does not see each moment of the end.
    let mut words = course(&mut watch, "m", "/status/printableStatus", "Stopped").await?;
    words.retain(|word| word != "Stopping");
    t.note("until it stops", &json!(words));
    Ok(())
}

async fn vm_status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let vm = until(lab, "virtualmachines", "m", "the VM knows of the agent", |vm| {
        !condition(vm, "AgentConnected").is_null() && !condition(vm, "LiveMigratable").is_null()
    })
    .await?;
    t.note(
        "status",
        &at(
            &vm,
            &[
                "/status/created",
                "/status/ready",
                "/status/printableStatus",
                "/status/runStrategy",
                "/status/desiredGeneration",
                "/status/observedGeneration",
                "/status/startFailure",
                "/status/stateChangeRequests",
                "/metadata/finalizers",
                "/metadata/generation",
            ],
        ),
    );
    t.note("conditions", &conditions(&vm));
    Ok(())
}

async fn vmi_status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "the agent answers", |vmi| {
        !condition(vmi, "AgentConnected").is_null()
    })
    .await?;
    t.note("conditions", &conditions(&vmi));
    let interface = vmi.pointer("/status/interfaces/0").cloned().unwrap_or_default();
    t.note(
        "interface",
        &json!({
            "name": interface["name"],
            "address of the pod": text(&launcher(lab, "m").await?, "/status/podIP") == text(&interface, "/ipAddress"),
            "addresses": interface["ipAddresses"].as_array().is_some_and(|all| !all.is_empty()),
        }),
    );
    let volumes = vmi.pointer("/status/volumeStatus").and_then(Value::as_array);
    let volumes: Vec<Value> = volumes
        .into_iter()
        .flatten()
        .map(|volume| only(volume, &["name", "target", "phase", "hotplugVolume"]))
        .collect();
    t.note("volumes", &json!(volumes));
    t.note(
        "labels of its own",
        &json!({
            "nodeName": vmi["metadata"]["labels"]["kubevirt.io/nodeName"] == vmi["status"]["nodeName"],
            "machine": vmi["metadata"]["labels"]["machine"],
            "vm": vmi["metadata"]["labels"]["vm.kubevirt.io/name"],
        }),
    );
    t.note(
        "owner",
        &only(
            &vmi["metadata"]["ownerReferences"][0],
            &["apiVersion", "kind", "name", "controller", "blockOwnerDeletion"],
        ),
    );
    t.note(
        "where it is",
        &json!({
            "pods": vmi["status"]["activePods"].as_object().map(serde_json::Map::len),
            "on its node": vmi["status"]["activePods"].as_object().is_some_and(|pods| pods.values().all(|node| *node == vmi["status"]["nodeName"])),
            "revision": text(&vmi, "/status/virtualMachineRevisionName").starts_with("revision-start-vm-"),
            "finalizers": vmi["metadata"]["finalizers"],
        }),
    );
    t.note(
        "memory and CPU",
        &at(
            &vmi,
            &["/status/memory", "/status/currentCPUTopology", "/status/qosClass"],
        ),
    );
    Ok(())
}

async fn lone_vmi(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachineinstances", &mk_vmi("m")).await?;
    let vmi = running_vmi(lab, "m").await?;
    t.note(
        "who it is",
        &json!({ "owners": vmi["metadata"]["ownerReferences"], "finalizers": vmi["metadata"]["finalizers"] }),
    );
    let start = subresource(lab, "virtualmachines", "m", "start", None).await?;
    t.note("start of no VM", &verdict(&start));
    t.note(
        "delete",
        &json!({ "code": delete(lab, "virtualmachineinstances", "m").await?.code }),
    );
    gone(lab, "virtualmachineinstances", "m").await?;
    Ok(())
}

async fn vmi_deleted(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Always")).await?;
    let before = running(lab, "m").await?;
    let answer = delete(lab, "virtualmachineinstances", "m").await?;
    t.note("delete", &json!({ "code": answer.code }));
    another(lab, "m", &before).await?;
    running(lab, "m").await?;
    let launchers = pods(lab, "kubevirt.io=virt-launcher").await?;
    t.note("launcher pods afterwards", &json!(launchers.len()));
    Ok(())
}

async fn launcher_deleted(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &with_strategy("m", "Always")).await?;
    let before = running(lab, "m").await?;
    let pod = launcher(lab, "m").await?;
    let answer = delete(lab, "pods", text(&pod, "/metadata/name")).await?;
    t.note("delete", &json!({ "code": answer.code }));
    another(lab, "m", &before).await?;
    running(lab, "m").await?;
    let fresh = launcher(lab, "m").await?;
    t.note(
        "another pod",
        &json!(fresh["metadata"]["name"] != pod["metadata"]["name"]),
    );
    Ok(())
}

async fn unschedulable(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = super::samples::with_template(mk_vm("m"), json!({ "nodeSelector": { "no-such": "node" } }));
    made(lab, "virtualmachines", &vm).await?;
    let vm = printable(lab, "m", "ErrorUnschedulable").await?;
    let scheduled = condition(&vm, "PodScheduled");
    t.note(
        "condition of the VM",
        &json!({
            "status": scheduled["status"], "reason": scheduled["reason"],
            "selector": text(&scheduled, "/message").contains("didn't match Pod's node affinity/selector"),
        }),
    );
    t.note("status", &only(&vm["status"], &["created", "ready", "printableStatus"]));
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note(
        "VMI",
        &json!({ "phase": vmi["status"]["phase"], "ready": only(&condition(&vmi, "Ready"), &["status", "reason"]) }),
    );
    Ok(())
}
