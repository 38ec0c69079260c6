//! Volumes that are plugged while a machine runs.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    samples::{mk_data_volume, mk_hotplug, mk_vm, with_template},
    steps::{condition, made, merge, only, path, pods, read, running, subresource, text, until, verdict},
};
use crate::conformance::{Area, Lab, Transcript, Watch, cases};

cases! { Area::KubeVirt,
    "a-hot-plugged-volume-goes-through-its-phases" => plug,
    "volumes-that-are-plugged-together-share-a-pod" => together,
    "the-attachment-pod-stands-beside-the-launcher" => attachment,
    "an-unplugged-volume-leaves-the-vmi" => unplug,
    "a-volume-of-a-missing-claim-stays-pending" => plug_missing,
    "a-disk-without-a-bus-blocks-hot-plug" => no_bus,
    "volumes-plugged-at-the-start-are-attached" => from_the_start,
    "addvolume-changes-the-vm" => add_volume,
    "removevolume-changes-the-vm" => remove_volume,
    "an-attachment-pod-is-not-evicted" => attachment_eviction,
}

/// Makes a machine that runs, and DataVolumes that are filled.
pub(super) async fn ready(lab: &Lab, volumes: &[&str]) -> Result<Value> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    for name in volumes {
        made(lab, "datavolumes", &mk_data_volume(name)).await?;
    }
    for name in volumes {
        until(lab, "datavolumes", name, "the DataVolume is filled", |volume| {
            text(volume, "/status/phase") == "Succeeded"
        })
        .await?;
    }
    running(lab, "m").await
}

/// Writes the VM's disks and volumes: its boot disk and these.
async fn plug_all(lab: &Lab, names: &[&str]) -> Result<()> {
    let mut volumes = vec![json!({ "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } })];
    let mut disks = vec![json!({ "name": "boot", "disk": { "bus": "virtio" } })];
    for name in names {
        let (volume, disk) = mk_hotplug(name);
        volumes.push(volume);
        disks.push(disk);
    }
    let patch = json!({ "spec": { "template": { "spec": { "volumes": volumes, "domain": { "devices": { "disks": disks } } } } } });
    merge(lab, "virtualmachines", "m", &patch).await?.expect_ok("plug")?;
    Ok(())
}

/// The state of a plugged volume in a VMI.
fn plugged(vmi: &Value, name: &str) -> Value {
    let all = vmi.pointer("/status/volumeStatus").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .find(|volume| volume["name"] == name)
        .cloned()
        .unwrap_or_default()
}

fn is_ready(vmi: &Value, name: &str) -> bool {
    plugged(vmi, name)["phase"] == "Ready"
}

/// What clients read of it.
fn shown(volume: &Value) -> Value {
    let message = text(volume, "/message");
    let pod = text(volume, "/hotplugVolume/attachPodName");
    json!({
        "phase": volume["phase"], "reason": volume["reason"], "target": volume["target"],
        "message": if pod.is_empty() { message.to_owned() } else { message.replace(pod, "<pod>") },
        "pod": pod.starts_with("hp-volume-"),
        "claim": volume["persistentVolumeClaimInfo"],
    })
}

async fn plug(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a"]).await?;
    let mut watch = lab.watch(&path(lab, "virtualmachineinstances", "")).await?;
    plug_all(lab, &["a"]).await?;
    t.note("phases", &phases(&mut watch, "a", "Ready").await?);
    let vmi = until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    t.note("when it is ready", &shown(&plugged(&vmi, "a")));
    let disks = vmi["spec"]["domain"]["devices"]["disks"].as_array();
    t.note("disk of the VMI", &disks.and_then(|disks| disks.last().cloned()));
    t.note("volume of the VMI", &vmi["spec"]["volumes"][1]);
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note("a restart is asked for", &!condition(&vm, "RestartRequired").is_null());
    Ok(())
}

/// The different phases of a volume, until the last one; those that tell nothing but what KubeVirt does inside are left out.
async fn phases(watch: &mut Watch, name: &str, last: &str) -> Result<Value> {
    let mut seen: Vec<String> = Vec::new();
    loop {
        let event = watch.change(&format!("{name} becomes {last} after {seen:?}")).await?;
        let phase = text(&plugged(&event["object"], name), "/phase").to_owned();
        // Whether the attachment pod is there when the volume is first told of is chance.
        if !phase.is_empty() && phase != "Bound" && seen.last() != Some(&phase) {
            seen.push(phase.clone());
        }
        if phase == last {
            return Ok(json!(seen));
        }
    }
}

async fn together(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a", "b", "c"]).await?;
    plug_all(lab, &["a", "b"]).await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "both are ready", |vmi| {
        is_ready(vmi, "a") && is_ready(vmi, "b")
    })
    .await?;
    t.note(
        "two",
        &json!({
            "one pod": plugged(&vmi, "a")["hotplugVolume"]["attachPodName"] == plugged(&vmi, "b")["hotplugVolume"]["attachPodName"],
            "pods": settled(lab, 1).await?,
        }),
    );
    plug_all(lab, &["a", "b", "c"]).await?;
    until(lab, "virtualmachineinstances", "m", "all three are ready", |vmi| {
        ["a", "b", "c"].iter().all(|name| is_ready(vmi, name))
    })
    .await?;
    t.note("a third", &json!({ "pods": settled(lab, 1).await? }));
    let pods = pods(lab, "kubevirt.io=hotplug-disk").await?;
    let mut claims: Vec<Value> = pods
        .iter()
        .flat_map(|pod| pod["spec"]["volumes"].as_array().cloned().unwrap_or_default())
        .filter_map(|volume| Some(volume.get("persistentVolumeClaim")?["claimName"].clone()))
        .collect();
    claims.sort_by_key(Value::to_string);
    t.note("claims of the pod", &claims);
    Ok(())
}

/// Waits until so many attachment pods are left.
async fn settled(lab: &Lab, count: usize) -> Result<usize> {
    let path = format!("{}?labelSelector=kubevirt.io=hotplug-disk", lab.path("pods"));
    let answer = lab
        .until("attachment pods settle", &path, |answer| {
            answer.body["items"]
                .as_array()
                .is_some_and(|items| items.len() == count)
        })
        .await?;
    Ok(answer.names().len())
}

async fn attachment(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vmi = ready(lab, &["a"]).await?;
    plug_all(lab, &["a"]).await?;
    until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    let pods = pods(lab, "kubevirt.io=hotplug-disk").await?;
    let pod = pods.first().cloned().unwrap_or_default();
    let terms =
        &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    let labels = pod["metadata"]["labels"].as_object();
    let labels: Option<BTreeSet<&String>> = labels.map(|labels| labels.keys().collect());
    t.note(
        "pod",
        &json!({
            "name": text(&pod, "/metadata/name").starts_with("hp-volume-"),
            "labels": labels,
            "owner": only(&pod["metadata"]["ownerReferences"][0], &["apiVersion", "kind", "controller", "blockOwnerDeletion"]),
            "owned by the launcher": text(&pod, "/metadata/ownerReferences/0/name").starts_with("virt-launcher-m-"),
            "pinned to": terms[0]["matchExpressions"][0]["key"],
            "node": pod["spec"]["nodeName"] == vmi["status"]["nodeName"],
        }),
    );
    let tolerations = pod["spec"]["tolerations"].as_array();
    let tolerated: BTreeSet<String> = tolerations
        .into_iter()
        .flatten()
        .map(|one| {
            ["key", "operator", "effect"]
                .map(|part| text(one, &format!("/{part}")).to_owned())
                .join(" ")
        })
        .collect();
    t.note("tolerates", &json!(tolerated));
    Ok(())
}

async fn unplug(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a", "b"]).await?;
    plug_all(lab, &["a", "b"]).await?;
    until(lab, "virtualmachineinstances", "m", "both are ready", |vmi| {
        is_ready(vmi, "a") && is_ready(vmi, "b")
    })
    .await?;
    plug_all(lab, &["b"]).await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "one is gone", |vmi| {
        plugged(vmi, "a").is_null() && is_ready(vmi, "b")
    })
    .await?;
    let names = |list: &Value| -> Vec<Value> {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|item| item["name"].clone())
            .collect()
    };
    t.note(
        "one less",
        &json!({ "disks": names(&vmi["spec"]["domain"]["devices"]["disks"]), "volumes": names(&vmi["spec"]["volumes"]) }),
    );
    t.note("pods", &settled(lab, 1).await?);
    plug_all(lab, &[]).await?;
    until(lab, "virtualmachineinstances", "m", "none is left", |vmi| {
        plugged(vmi, "b").is_null()
    })
    .await?;
    t.note("pods for none", &settled(lab, 0).await?);
    let volume = read(lab, "datavolumes", "a").await?;
    t.note("the DataVolume stays", &volume["status"]["phase"]);
    Ok(())
}

async fn plug_missing(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &[]).await?;
    plug_all(lab, &["a"]).await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "it is seen", |vmi| {
        !plugged(vmi, "a").is_null()
    })
    .await?;
    t.note("volume", &shown(&plugged(&vmi, "a")));
    t.note("pods", &settled(lab, 0).await?);
    made(lab, "datavolumes", &mk_data_volume("a")).await?;
    until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    Ok(())
}

async fn no_bus(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a"]).await?;
    let (volume, _) = mk_hotplug("a");
    let patch = json!({ "spec": { "template": { "spec": {
        "volumes": [{ "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } }, volume],
        "domain": { "devices": { "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }, { "name": "a", "disk": {} }] } },
    }}}});
    t.note("change", &verdict(&merge(lab, "virtualmachines", "m", &patch).await?));
    let vm = until(lab, "virtualmachines", "m", "the VM says what is wrong", |vm| {
        condition(vm, "Failure")["status"] == "True"
    })
    .await?;
    t.note(
        "condition",
        &only(&condition(&vm, "Failure"), &["status", "reason", "message"]),
    );
    plug_all(lab, &["a"]).await?;
    until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    let vm = until(lab, "virtualmachines", "m", "nothing is wrong", |vm| {
        condition(vm, "Failure").is_null()
    })
    .await?;
    t.note("afterwards", &vm["status"]["printableStatus"]);
    Ok(())
}

async fn from_the_start(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "datavolumes", &mk_data_volume("a")).await?;
    let (volume, disk) = mk_hotplug("a");
    let vm = with_template(
        mk_vm("m"),
        json!({
            "volumes": [{ "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } }, volume],
            "domain": { "devices": { "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }, disk] } },
        }),
    );
    made(lab, "virtualmachines", &vm).await?;
    let vmi = until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    t.note("volume", &shown(&plugged(&vmi, "a")));
    t.note("pods", &settled(lab, 1).await?);
    Ok(())
}

fn options(name: &str, claim: &str) -> Value {
    json!({
        "name": name, "disk": { "disk": { "bus": "scsi" }, "serial": format!("serial-{name}") },
        "volumeSource": { "dataVolume": { "name": claim } },
    })
}

async fn add_volume(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a"]).await?;
    let add = async |plural: &str, body: &Value| subresource(lab, plural, "m", "addvolume", Some(body)).await;
    t.note(
        "to the VMI of a VM",
        &verdict(&add("virtualmachineinstances", &options("a", "a")).await?),
    );
    t.note("no name", &verdict(&add("virtualmachines", &options("", "a")).await?));
    t.note(
        "no disk",
        &verdict(&add("virtualmachines", &json!({ "name": "a" })).await?),
    );
    t.note(
        "no source",
        &verdict(&add("virtualmachines", &json!({ "name": "a", "disk": {} })).await?),
    );
    t.note(
        "to the VM",
        &verdict(&add("virtualmachines", &options("a", "a")).await?),
    );
    let vm = read(lab, "virtualmachines", "m").await?;
    let spec = &vm["spec"]["template"]["spec"];
    t.note(
        "the VM",
        &json!({ "volume": spec["volumes"][1], "disk": spec["domain"]["devices"]["disks"][1] }),
    );
    t.note("again", &verdict(&add("virtualmachines", &options("a", "a")).await?));
    t.note(
        "the same claim by another name",
        &verdict(&add("virtualmachines", &options("b", "a")).await?),
    );
    until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    Ok(())
}

async fn remove_volume(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a"]).await?;
    plug_all(lab, &["a"]).await?;
    until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    let remove = async |plural: &str, name: &str| {
        subresource(lab, plural, "m", "removevolume", Some(&json!({ "name": name }))).await
    };
    t.note("no name", &verdict(&remove("virtualmachines", "").await?));
    t.note("an unknown one", &verdict(&remove("virtualmachines", "b").await?));
    t.note("a fixed one", &verdict(&remove("virtualmachines", "boot").await?));
    t.note(
        "from the VMI of a VM",
        &verdict(&remove("virtualmachineinstances", "a").await?),
    );
    t.note("from the VM", &verdict(&remove("virtualmachines", "a").await?));
    let vm = read(lab, "virtualmachines", "m").await?;
    let spec = &vm["spec"]["template"]["spec"];
    t.note(
        "the VM",
        &json!({ "volumes": spec["volumes"].as_array().map(Vec::len), "disks": spec["domain"]["devices"]["disks"].as_array().map(Vec::len) }),
    );
    t.note("again", &verdict(&remove("virtualmachines", "a").await?));
    until(lab, "virtualmachineinstances", "m", "it is gone", |vmi| {
        plugged(vmi, "a").is_null()
    })
    .await?;
    Ok(())
}

async fn attachment_eviction(lab: &Lab, t: &mut Transcript) -> Result<()> {
    ready(lab, &["a"]).await?;
    plug_all(lab, &["a"]).await?;
    until(lab, "virtualmachineinstances", "m", "it is ready", |vmi| {
        is_ready(vmi, "a")
    })
    .await?;
    settled(lab, 1).await?;
    let pods = pods(lab, "kubevirt.io=hotplug-disk").await?;
    let name = pods
        .first()
        .map(|pod| text(pod, "/metadata/name").to_owned())
        .unwrap_or_default();
    t.alias(name.clone(), "attachment pod");
    t.note("evict", &verdict(&super::eviction::evict(lab, &name).await?));
    Ok(())
}
