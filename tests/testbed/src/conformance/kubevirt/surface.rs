//! What KubeVirt completes by itself, and the ends of things.

use std::collections::BTreeSet;

use anyhow::Result;
use http::Method;
use serde_json::json;

use super::{
    samples::{changed, mk_vm, mk_vmi, with_template},
    steps::{
        at, condition, course, delete, gone, launcher, made, only, path, pods, read, running, running_vmi, text, until,
    },
};
use crate::conformance::{Area, Lab, PatchKind, Transcript, cases};

cases! { Area::KubeVirt,
    "a-vm-is-completed-when-it-is-made" => vm_defaults,
    "a-vmi-is-completed-when-it-is-made" => vmi_defaults,
    "a-volume-without-a-disk-gets-one" => default_disks,
    "a-vmi-without-a-network-gets-the-pods" => default_network,
    "a-vm-that-is-deleted-takes-everything-along" => deletion,
    "a-vm-that-is-deleted-says-that-it-goes" => deletion_words,
    "a-vm-that-is-orphaned-leaves-its-vmi" => orphan,
    "a-foreground-deletion-waits-for-the-vmi" => foreground,
    "the-generation-of-a-vm-counts-its-specs" => generations,
    "the-status-of-a-vm-is-a-subresource" => status_subresource,
    "the-template-of-a-running-vm-can-change" => template_changes,
    "placement-of-a-running-vm-follows-at-once" => live_update,
}

async fn vm_defaults(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(mk_vm("m"), json!({ "spec": { "runStrategy": "Halted" } }));
    let made = made(lab, "virtualmachines", &vm).await?;
    let spec = &made["spec"]["template"]["spec"];
    let firmware = spec["domain"]["firmware"].as_object();
    let firmware: Option<BTreeSet<&String>> = firmware.map(|firmware| firmware.keys().collect());
    t.note(
        "spec",
        &json!({
            "architecture": spec["architecture"],
            "machine": spec["domain"]["machine"],
            "resources": spec["domain"]["resources"],
            "firmware": firmware,
            "disks": spec["domain"]["devices"]["disks"],
            "volumes": spec["volumes"],
            "networks": spec["networks"],
            "eviction": spec.get("evictionStrategy"),
            "annotations": made["spec"]["template"]["metadata"]["annotations"],
            "creation": made["spec"]["template"]["metadata"].get("creationTimestamp"),
        }),
    );
    t.note(
        "metadata",
        &only(
            &made["metadata"],
            &["annotations", "labels", "finalizers", "generation"],
        ),
    );
    let vm = until(lab, "virtualmachines", "m", "the controller has seen it", |vm| {
        vm["metadata"]["finalizers"].is_array() && vm["status"]["printableStatus"].is_string()
    })
    .await?;
    t.note(
        "once it is seen",
        &only(&vm["metadata"], &["annotations", "finalizers", "generation"]),
    );
    Ok(())
}

async fn vmi_defaults(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vmi = changed(
        mk_vmi("m"),
        json!({ "spec": { "terminationGracePeriodSeconds": null, "domain": { "devices": { "disks": [{ "name": "boot", "disk": {} }] } } } }),
    );
    let vmi = made(lab, "virtualmachineinstances", &vmi).await?;
    let domain = &vmi["spec"]["domain"];
    t.note(
        "spec",
        &json!({
            "architecture": vmi["spec"]["architecture"],
            "cpu": domain["cpu"],
            "memory": domain["memory"],
            "machine": domain["machine"],
            "resources": domain["resources"],
            "disks": domain["devices"]["disks"],
            "interfaces": domain["devices"]["interfaces"],
            "volumes": vmi["spec"]["volumes"],
            "networks": vmi["spec"]["networks"],
            "eviction": vmi["spec"].get("evictionStrategy"),
            "grace": vmi["spec"].get("terminationGracePeriodSeconds"),
        }),
    );
    t.note(
        "status",
        &at(
            &vmi,
            &[
                "/status/phase",
                "/status/memory",
                "/status/currentCPUTopology",
                "/status/runtimeUser",
            ],
        ),
    );
    t.note("finalizers", &vmi["metadata"]["finalizers"]);
    running_vmi(lab, "m").await?;
    Ok(())
}

async fn default_disks(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = with_template(
        mk_vm("m"),
        json!({ "volumes": [
            { "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } },
            { "name": "scratch", "emptyDisk": { "capacity": "1Gi" } },
        ]}),
    );
    made(lab, "virtualmachines", &vm).await?;
    let vmi = running(lab, "m").await?;
    t.note("disks of the VMI", &vmi["spec"]["domain"]["devices"]["disks"]);
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note(
        "disks of the VM",
        &vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"],
    );
    Ok(())
}

async fn default_network(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = with_template(
        mk_vm("m"),
        json!({ "networks": null, "domain": { "devices": { "interfaces": null } } }),
    );
    made(lab, "virtualmachines", &vm).await?;
    let vmi = running(lab, "m").await?;
    t.note(
        "VMI",
        &json!({ "networks": vmi["spec"]["networks"], "interfaces": vmi["spec"]["domain"]["devices"]["interfaces"] }),
    );
    Ok(())
}

async fn deletion(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let answer = delete(lab, "virtualmachines", "m").await?;
    t.note(
        "delete",
        &json!({
            "code": answer.code, "kind": answer.body["kind"],
            "going": answer.body["metadata"]["deletionTimestamp"].is_string(),
            "finalizers": answer.body["metadata"]["finalizers"],
            "grace": answer.body["metadata"]["deletionGracePeriodSeconds"],
        }),
    );
    for plural in ["virtualmachines", "virtualmachineinstances"] {
        gone(lab, plural, "m").await?;
    }
    lab.until("no pods", &lab.path("pods"), |pods| pods.names().is_empty())
        .await?;
    lab.until("no revisions", &lab.path("controllerrevisions"), |all| {
        all.names().is_empty()
    })
    .await?;
    Ok(())
}

async fn deletion_words(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let mut watch = lab.watch(&path(lab, "virtualmachines", "")).await?;
    course(&mut watch, "m", "/status/printableStatus", "Running").await?;
    delete(lab, "virtualmachines", "m").await?;
    t.note(
        "words",
        &json!(course(&mut watch, "m", "/status/printableStatus", "<deleted>").await?),
    );
    Ok(())
}

async fn orphan(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    let before = running(lab, "m").await?;
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan" });
    let answer = lab
        .call(Method::DELETE, &path(lab, "virtualmachines", "m"), Some(&options))
        .await?;
    t.note("delete", &answer.code);
    gone(lab, "virtualmachines", "m").await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "the VMI has no owner", |vmi| {
        vmi["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)
    })
    .await?;
    t.note(
        "VMI",
        &json!({
            "same": vmi["metadata"]["uid"] == before["metadata"]["uid"],
            "phase": vmi["status"]["phase"],
            "going": vmi["metadata"]["deletionTimestamp"].is_string(),
            "finalizers": vmi["metadata"]["finalizers"],
        }),
    );
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "a new VM adopts it", |vmi| {
        vmi["metadata"]["ownerReferences"]
            .as_array()
            .is_some_and(|owners| owners.len() == 1)
    })
    .await?;
    t.note("adopted", &(vmi["metadata"]["uid"] == before["metadata"]["uid"]));
    delete(lab, "virtualmachines", "m").await?;
    gone(lab, "virtualmachines", "m").await?;
    gone(lab, "virtualmachineinstances", "m").await?;
    Ok(())
}

async fn foreground(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground" });
    let answer = lab
        .call(Method::DELETE, &path(lab, "virtualmachines", "m"), Some(&options))
        .await?;
    t.note(
        "delete",
        &json!({ "code": answer.code, "finalizers": answer.body["metadata"]["finalizers"] }),
    );
    gone(lab, "virtualmachines", "m").await?;
    let vmi = lab.get(&path(lab, "virtualmachineinstances", "m")).await?;
    t.note("the VMI then", &vmi.code);
    Ok(())
}

async fn generations(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note("at first", &vm["metadata"]["generation"]);
    let one = path(lab, "virtualmachines", "m");
    let patch = json!({ "metadata": { "labels": { "colour": "red" } } });
    let answer = lab.patch(&one, PatchKind::Merge, &patch).await?;
    t.note("after a label", &answer.at("metadata/generation"));
    let patch = json!({ "spec": { "template": { "spec": { "hostname": "other" } } } });
    let answer = lab.patch(&one, PatchKind::Merge, &patch).await?;
    t.note("after another spec", &answer.at("metadata/generation"));
    let vm = until(lab, "virtualmachines", "m", "the controller has seen it", |vm| {
        vm["status"]["desiredGeneration"] == vm["metadata"]["generation"]
    })
    .await?;
    t.note(
        "generations",
        &only(&vm["status"], &["desiredGeneration", "observedGeneration"]),
    );
    Ok(())
}

async fn status_subresource(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(mk_vm("m"), json!({ "spec": { "runStrategy": "Halted" } }));
    made(lab, "virtualmachines", &vm).await?;
    until(lab, "virtualmachines", "m", "it is stopped", |vm| {
        text(vm, "/status/printableStatus") == "Stopped"
    })
    .await?;
    let one = path(lab, "virtualmachines", "m");
    let patch = json!({ "status": { "printableStatus": "Running" } });
    let answer = lab.patch(&one, PatchKind::Merge, &patch).await?;
    t.note("a status by the VM", &answer.only(&["status/printableStatus"]));
    let vmi = lab
        .get(&format!("{}/status", path(lab, "virtualmachineinstances", "m")))
        .await?;
    t.note("status of a VMI as a subresource", &json!({ "code": vmi.code }));
    let answer = lab.get(&format!("{one}/status")).await?;
    t.note(
        "status of a VM as a subresource",
        &answer.only(&["status/printableStatus"]),
    );
    Ok(())
}

async fn template_changes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let one = path(lab, "virtualmachines", "m");
    let patch = json!({ "spec": { "template": { "spec": { "hostname": "other" } } } });
    t.note("change", &lab.patch(&one, PatchKind::Merge, &patch).await?.code);
    let vm = until(lab, "virtualmachines", "m", "a restart is asked for", |vm| {
        condition(vm, "RestartRequired")["status"] == "True"
    })
    .await?;
    t.note(
        "condition",
        &only(&condition(&vm, "RestartRequired"), &["status", "reason", "message"]),
    );
    let patch = json!({ "spec": { "template": { "spec": { "hostname": null } } } });
    lab.patch(&one, PatchKind::Merge, &patch).await?;
    let vm = until(lab, "virtualmachines", "m", "no restart is asked for", |vm| {
        condition(vm, "RestartRequired").is_null()
    })
    .await?;
    t.note("changed back", &vm["status"]["printableStatus"]);
    let patch = json!({ "spec": { "template": { "metadata": { "labels": { "colour": "red" } } } } });
    lab.patch(&one, PatchKind::Merge, &patch).await?;
    let vm = until(lab, "virtualmachines", "m", "the label is seen", |vm| {
        vm["status"]["desiredGeneration"] == vm["metadata"]["generation"]
    })
    .await?;
    t.note("a label wants no restart", &condition(&vm, "RestartRequired").is_null());
    let pod = launcher(lab, "m").await?;
    t.note("label of the pod", &pod["metadata"]["labels"].get("colour").cloned());
    Ok(())
}

async fn live_update(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    let one = path(lab, "virtualmachines", "m");
    let patch = json!({ "spec": { "template": { "spec": {
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "tolerations": [{ "key": "dedicated", "operator": "Exists" }],
    }}}});
    t.note("change", &lab.patch(&one, PatchKind::Merge, &patch).await?.code);
    let vmi = until(lab, "virtualmachineinstances", "m", "the VMI follows", |vmi| {
        vmi["spec"]["nodeSelector"].is_object() && vmi["spec"]["tolerations"].is_array()
    })
    .await?;
    t.note("VMI", &only(&vmi["spec"], &["nodeSelector", "tolerations"]));
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note("a restart is asked for", &!condition(&vm, "RestartRequired").is_null());
    t.note("launcher pods", &pods(lab, "kubevirt.io=virt-launcher").await?.len());
    Ok(())
}
