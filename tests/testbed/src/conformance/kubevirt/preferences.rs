//! Preferences: the topology and the devices that they choose, and what they require.

use anyhow::Result;
use serde_json::json;

use super::{
    instancetypes::{PREFERENCES, cluster_preference, cluster_type, mk_vm_of, small},
    samples::{changed, mk_instancetype, mk_vm},
    steps::{cluster_path, condition, create, made, only, read, running, until, verdict},
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "a-preference-that-does-not-exist-is-waited-for" => no_such_preference,
    "a-preference-chooses-the-topology-of-the-cpus" => topologies,
    "a-preference-fills-in-what-the-vm-leaves-open" => preferred_devices,
    "what-a-preference-requires-is-checked" => requirements,
}

async fn no_such_preference(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = format!("late-{}", lab.id);
    let vm = changed(mk_vm("m"), json!({ "spec": { "preference": { "name": name } } }));
    t.note("create", &verdict(&create(lab, "virtualmachines", &vm).await?));
    let vm = until(lab, "virtualmachines", "m", "the VM says what it lacks", |vm| {
        condition(vm, "Failure")["status"] == "True"
    })
    .await?;
    t.note(
        "condition",
        &only(&condition(&vm, "Failure"), &["reason", "message", "status"]),
    );
    Ok(())
}

async fn topologies(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let instancetype = cluster_type(
        lab,
        "four",
        json!({ "cpu": { "guest": 4 }, "memory": { "guest": "128Mi" } }),
    )
    .await?;
    for topology in [
        "sockets",
        "cores",
        "threads",
        "spread",
        "any",
        "preferSockets",
        "preferCores",
        "preferThreads",
        "preferSpread",
    ] {
        let name = topology.to_lowercase();
        let spec = json!({ "cpu": { "preferredCPUTopology": topology } });
        let preference = cluster_preference(lab, &name, spec).await?;
        let matchers = json!({ "instancetype": { "name": instancetype }, "preference": { "name": preference } });
        made(lab, "virtualmachines", &mk_vm_of(&name, matchers)).await?;
        let vmi = running(lab, &name).await?;
        t.note(
            topology,
            &only(&vmi["spec"]["domain"]["cpu"], &["cores", "sockets", "threads"]),
        );
    }
    let name = format!("odd-{}", lab.id);
    let odd = json!({ "cpu": { "preferredCPUTopology": "diagonal" } });
    let object = mk_instancetype("VirtualMachineClusterPreference", &name, odd);
    let answer = lab.post(&cluster_path(PREFERENCES, ""), &object).await?;
    lab.clean_up(cluster_path(PREFERENCES, &name)).await;
    t.note("an unknown one", &verdict(&answer));
    Ok(())
}

async fn preferred_devices(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let preference = cluster_preference(
        lab,
        "devices",
        json!({ "devices": {
            "preferredDiskBus": "scsi", "preferredInterfaceModel": "e1000e", "preferredAutoattachMemBalloon": false,
        }, "preferredTerminationGracePeriodSeconds": 7 }),
    )
    .await?;
    let vm = changed(
        mk_vm("m"),
        json!({ "spec": { "preference": { "name": preference }, "template": { "spec": {
            "terminationGracePeriodSeconds": null,
            "domain": { "devices": { "disks": [{ "name": "boot" }] } },
        }}}}),
    );
    made(lab, "virtualmachines", &vm).await?;
    let vmi = running(lab, "m").await?;
    let devices = &vmi["spec"]["domain"]["devices"];
    t.note(
        "VMI",
        &json!({
            "disk": devices["disks"][0]["disk"],
            "interface": devices["interfaces"][0]["model"],
            "balloon": devices["autoattachMemBalloon"],
            "grace": vmi["spec"]["terminationGracePeriodSeconds"],
        }),
    );
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note(
        "the VM's own disk",
        &vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0],
    );
    Ok(())
}

async fn requirements(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let instancetype = cluster_type(lab, "small", small()).await?;
    for (what, spec) in [
        ("cpu", json!({ "requirements": { "cpu": { "guest": 4 } } })),
        ("memory", json!({ "requirements": { "memory": { "guest": "1Gi" } } })),
        (
            "fulfilled",
            json!({ "requirements": { "cpu": { "guest": 2 }, "memory": { "guest": "128Mi" } } }),
        ),
    ] {
        let preference = cluster_preference(lab, what, spec).await?;
        let matchers = json!({
            "runStrategy": "Halted", "instancetype": { "name": instancetype }, "preference": { "name": preference },
        });
        let answer = create(lab, "virtualmachines", &mk_vm_of(what, matchers)).await?;
        t.note(what, &verdict(&answer));
    }
    Ok(())
}
