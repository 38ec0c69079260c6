//! Volumes that a machine boots from.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    hotplug::ready,
    samples::{changed, mk_data_volume, mk_data_volume_spec, mk_vm, with_template},
    steps::{condition, course, delete, gone, made, merge, only, path, printable, read, running, until, verdict},
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "data-volume-templates-become-data-volumes-of-the-vm" => templates,
    "a-vm-waits-until-its-data-volumes-are-filled" => waits,
    "a-missing-claim-is-told-and-waited-for" => missing_claim,
    "a-missing-data-volume-is-told" => missing_data_volume,
    "a-new-claim-for-a-fixed-disk-wants-a-restart" => fixed_disk,
}

fn mk_vm_with_template(name: &str, volume: &str) -> Value {
    let vm = changed(
        mk_vm(name),
        json!({ "spec": { "dataVolumeTemplates": [{ "metadata": { "name": volume, "labels": { "colour": "red" } }, "spec": mk_data_volume_spec() }] } }),
    );
    with_template(
        vm,
        json!({ "volumes": [{ "name": "boot", "dataVolume": { "name": volume } }] }),
    )
}

async fn templates(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm_with_template("m", "data")).await?;
    running(lab, "m").await?;
    let volume = read(lab, "datavolumes", "data").await?;
    t.note(
        "DataVolume",
        &json!({
            "owner": only(&volume["metadata"]["ownerReferences"][0], &["apiVersion", "kind", "name", "controller", "blockOwnerDeletion"]),
            "labels": volume["metadata"]["labels"].as_object().map(|labels| labels.keys().cloned().collect::<Vec<_>>()),
            "spec": only(&volume["spec"], &["source", "storage"]),
            "phase": volume["status"]["phase"],
        }),
    );
    let claim = read(lab, "persistentvolumeclaims", "data").await?;
    t.note("phase of the claim", &claim["status"]["phase"]);
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note(
        "volume of the VMI",
        &only(
            &vmi["status"]["volumeStatus"][0],
            &["name", "target", "phase", "persistentVolumeClaimInfo"],
        ),
    );
    t.note("can be migrated", &condition(&vmi, "LiveMigratable")["status"]);
    delete(lab, "virtualmachines", "m").await?;
    gone(lab, "virtualmachines", "m").await?;
    gone(lab, "datavolumes", "data").await?;
    Ok(())
}

async fn waits(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut watch = lab.watch(&path(lab, "virtualmachines", "")).await?;
    made(lab, "virtualmachines", &mk_vm_with_template("m", "data")).await?;
    let mut words = course(&mut watch, "m", "/status/printableStatus", "Running").await?;
    // Whether the controller sees the moments on the way is chance.
    words.retain(|word| !matches!(word.as_str(), "Stopped" | "Provisioning" | "Starting"));
    t.note("words", &json!(words));
    Ok(())
}

async fn missing_claim(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = with_template(
        mk_vm("m"),
        json!({ "volumes": [{ "name": "boot", "persistentVolumeClaim": { "claimName": "data" } }] }),
    );
    made(lab, "virtualmachines", &vm).await?;
    let vm = printable(lab, "m", "ErrorPvcNotFound").await?;
    t.note("status", &only(&vm["status"], &["created", "ready", "printableStatus"]));
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note(
        "condition of the VMI",
        &only(&condition(&vmi, "Synchronized"), &["status", "reason", "message"]),
    );
    t.note("phase of the VMI", &vmi["status"]["phase"]);
    made(lab, "datavolumes", &mk_data_volume("data")).await?;
    running(lab, "m").await?;
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note("condition afterwards", &condition(&vmi, "Synchronized"));
    Ok(())
}

async fn missing_data_volume(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = with_template(
        mk_vm("m"),
        json!({ "volumes": [{ "name": "boot", "dataVolume": { "name": "data" } }] }),
    );
    made(lab, "virtualmachines", &vm).await?;
    let vmi = until(
        lab,
        "virtualmachineinstances",
        "m",
        "the VMI says what it lacks",
        |vmi| !condition(vmi, "Synchronized").is_null(),
    )
    .await?;
    t.note(
        "condition of the VMI",
        &only(&condition(&vmi, "Synchronized"), &["status", "reason", "message"]),
    );
    let vm = printable(lab, "m", "ErrorPvcNotFound").await?;
    t.note("status", &only(&vm["status"], &["created", "ready"]));
    made(lab, "datavolumes", &mk_data_volume("data")).await?;
    running(lab, "m").await?;
    Ok(())
}

async fn fixed_disk(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a"]).await?;
    let patch = json!({ "spec": { "template": { "spec": {
        "volumes": [{ "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } }, { "name": "data", "dataVolume": { "name": "a" } }],
        "domain": { "devices": { "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }, { "name": "data", "disk": { "bus": "virtio" } }] } },
    }}}});
    t.note("change", &verdict(&merge(lab, "virtualmachines", "m", &patch).await?));
    let vm = until(lab, "virtualmachines", "m", "a restart is asked for", |vm| {
        condition(vm, "RestartRequired")["status"] == "True"
    })
    .await?;
    t.note(
        "condition",
        &only(&condition(&vm, "RestartRequired"), &["status", "reason", "message"]),
    );
    let vmi = read(lab, "virtualmachineinstances", "m").await?;
    t.note("volumes of the VMI", &vmi["spec"]["volumes"].as_array().map(Vec::len));
    Ok(())
}
