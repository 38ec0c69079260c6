//! What is refused of a machine's devices and sizes, and with which words.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    samples::{changed, mk_vm, with_template},
    steps::{create, verdict},
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "a-vm-without-a-template-is-refused" => no_template,
    "a-vm-needs-exactly-one-run-strategy" => run_strategies,
    "a-vm-whose-disks-and-volumes-do-not-fit-is-refused" => disks_and_volumes,
    "a-disk-with-a-bad-target-is-refused" => disk_targets,
    "two-devices-with-one-boot-order-are-refused" => boot_orders,
    "a-volume-needs-exactly-one-source" => volume_sources,
    "a-cloud-init-volume-needs-one-source-of-user-data" => cloud_init,
    "cpu-and-memory-have-to-make-sense" => sizes,
    "interfaces-and-networks-have-to-fit" => networks,
    "a-bad-host-name-is-refused" => host_names,
    "an-unknown-eviction-strategy-is-refused" => eviction_strategies,
}

async fn no_template(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut vm = mk_vm("m");
    vm["spec"] = json!({ "runStrategy": "Halted" });
    t.note("no template", &verdict(&create(lab, "virtualmachines", &vm).await?));
    vm["spec"] = json!({ "runStrategy": "Halted", "template": {} });
    t.note(
        "an empty template",
        &verdict(&create(lab, "virtualmachines", &vm).await?),
    );
    vm["spec"] = json!({ "runStrategy": "Halted", "template": { "spec": {} } });
    t.note("an empty spec", &verdict(&create(lab, "virtualmachines", &vm).await?));
    Ok(())
}

/// Creates VMs that differ from the sample by a merge patch of their template's spec, and notes what is said.
pub(super) async fn tries(lab: &Lab, t: &mut Transcript, variants: &[(&str, Value)]) -> Result<()> {
    for (index, (what, patch)) in variants.iter().enumerate() {
        let halted = changed(
            mk_vm(&format!("m{index}")),
            json!({ "spec": { "runStrategy": "Halted" } }),
        );
        let vm = with_template(halted, patch.clone());
        t.note(what, &verdict(&create(lab, "virtualmachines", &vm).await?));
    }
    Ok(())
}

async fn run_strategies(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for (what, patch) in [
        ("both", json!({ "running": true, "runStrategy": "Always" })),
        ("none", json!({ "runStrategy": null })),
        ("an unknown one", json!({ "runStrategy": "Sometimes" })),
        ("waits as receiver", json!({ "runStrategy": "WaitAsReceiver" })),
    ] {
        let vm = changed(mk_vm("m"), json!({ "spec": patch }));
        t.note(what, &verdict(&create(lab, "virtualmachines", &vm).await?));
    }
    Ok(())
}

async fn disks_and_volumes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let disk = |name: &str| json!({ "name": name, "disk": { "bus": "virtio" } });
    let volume = |name: &str| json!({ "name": name, "containerDisk": { "image": "registry.example/linux:1" } });
    let devices = |disks: Value| json!({ "devices": { "disks": disks } });
    tries(
        lab,
        t,
        &[
            (
                "two disks of one name",
                json!({ "domain": devices(json!([disk("boot"), disk("boot")])) }),
            ),
            (
                "two volumes of one name",
                json!({ "volumes": [volume("boot"), volume("boot")] }),
            ),
            (
                "a disk without a volume",
                json!({ "domain": devices(json!([disk("boot"), disk("data")])) }),
            ),
            (
                "a volume without a disk",
                json!({ "volumes": [volume("boot"), volume("data")] }),
            ),
            (
                "a name that is no container's",
                json!({ "domain": devices(json!([disk("Boot_1")])), "volumes": [volume("Boot_1")] }),
            ),
            (
                "a serial of odd characters",
                json!({ "domain": devices(json!([{ "name": "boot", "serial": "a b", "disk": {} }])) }),
            ),
            (
                "no disks and no volumes",
                json!({ "domain": { "devices": { "disks": null } }, "volumes": null }),
            ),
        ],
    )
    .await
}

async fn disk_targets(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let disks = |disk: Value| json!({ "domain": { "devices": { "disks": [disk] } } });
    tries(
        lab,
        t,
        &[
            (
                "an unknown bus",
                disks(json!({ "name": "boot", "disk": { "bus": "floppy" } })),
            ),
            ("ide", disks(json!({ "name": "boot", "disk": { "bus": "ide" } }))),
            (
                "a cdrom on virtio",
                disks(json!({ "name": "boot", "cdrom": { "bus": "virtio" } })),
            ),
            (
                "two targets",
                disks(json!({ "name": "boot", "disk": { "bus": "virtio" }, "cdrom": { "bus": "sata" } })),
            ),
            (
                "an unknown cache",
                disks(json!({ "name": "boot", "disk": {}, "cache": "warm" })),
            ),
            ("a lun of a container disk", disks(json!({ "name": "boot", "lun": {} }))),
            ("no bus", disks(json!({ "name": "boot", "disk": {} }))),
        ],
    )
    .await
}

async fn boot_orders(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let disks = json!([
        { "name": "boot", "bootOrder": 1, "disk": { "bus": "virtio" } },
        { "name": "data", "bootOrder": 1, "disk": { "bus": "virtio" } },
    ]);
    let volumes = json!([
        { "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } },
        { "name": "data", "emptyDisk": { "capacity": "1Gi" } },
    ]);
    tries(
        lab,
        t,
        &[
            (
                "two disks",
                json!({ "domain": { "devices": { "disks": disks } }, "volumes": volumes }),
            ),
            (
                "a disk and an interface",
                json!({ "domain": { "devices": {
                    "disks": [{ "name": "boot", "bootOrder": 1, "disk": { "bus": "virtio" } }],
                    "interfaces": [{ "name": "default", "bootOrder": 1, "masquerade": {} }],
                }}}),
            ),
            (
                "zero",
                json!({ "domain": { "devices": { "disks": [{ "name": "boot", "bootOrder": 0, "disk": { "bus": "virtio" } }] } } }),
            ),
        ],
    )
    .await
}

async fn volume_sources(lab: &Lab, t: &mut Transcript) -> Result<()> {
    tries(
        lab,
        t,
        &[
            ("none", json!({ "volumes": [{ "name": "boot" }] })),
            (
                "two",
                json!({ "volumes": [{
                    "name": "boot", "containerDisk": { "image": "registry.example/linux:1" }, "dataVolume": { "name": "boot" },
                }]}),
            ),
            (
                "a data volume without a name",
                json!({ "volumes": [{ "name": "boot", "dataVolume": { "name": "" } }] }),
            ),
            ("an unknown one", json!({ "volumes": [{ "name": "boot", "tape": {} }] })),
        ],
    )
    .await
}

async fn cloud_init(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let with = |source: Value| {
        json!({
            "domain": { "devices": { "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }, { "name": "cloudinit", "disk": { "bus": "virtio" } }] } },
            "volumes": [
                { "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } },
                { "name": "cloudinit", "cloudInitNoCloud": source },
            ],
        })
    };
    tries(
        lab,
        t,
        &[
            ("no data", with(json!({}))),
            (
                "two kinds of data",
                with(json!({ "userData": "#cloud-config", "userDataBase64": "I2Nsb3VkLWNvbmZpZw==" })),
            ),
            ("not base64", with(json!({ "userDataBase64": "#cloud-config" }))),
            ("too long", with(json!({ "userData": "x".repeat(2049) }))),
            ("just short enough", with(json!({ "userData": "x".repeat(2048) }))),
            ("a secret", with(json!({ "secretRef": { "name": "user-data" } }))),
        ],
    )
    .await
}

async fn sizes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let domain = |domain: Value| json!({ "domain": domain });
    tries(
        lab,
        t,
        &[
            ("no memory", domain(json!({ "memory": null }))),
            ("no guest memory", domain(json!({ "memory": { "guest": null } }))),
            ("no memory at all", domain(json!({ "memory": { "guest": "0" } }))),
            (
                "a negative memory request",
                domain(json!({ "resources": { "requests": { "memory": "-64Mi" } } })),
            ),
            (
                "a negative cpu request",
                domain(json!({ "resources": { "requests": { "cpu": "-1" } } })),
            ),
            (
                "a negative cpu limit",
                domain(json!({ "resources": { "limits": { "cpu": "-1" } } })),
            ),
            (
                "a request over its limit",
                domain(json!({ "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "1" } } })),
            ),
            (
                "a memory request over its limit",
                domain(json!({ "resources": { "requests": { "memory": "128Mi" }, "limits": { "memory": "64Mi" } } })),
            ),
            ("memory that is no quantity", domain(json!({ "memory": { "guest": "much" } }))),
            ("more sockets than the most", domain(json!({ "cpu": { "sockets": 4, "maxSockets": 2 } }))),
            (
                "dedicated cpus and a broken request",
                domain(json!({ "cpu": { "dedicatedCpuPlacement": true }, "resources": { "requests": { "cpu": "1500m" } } })),
            ),
        ],
    )
    .await
}

async fn networks(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let with = |interfaces: Value, networks: Value| json!({ "domain": { "devices": { "interfaces": interfaces } }, "networks": networks });
    let pod = json!([{ "name": "default", "pod": {} }]);
    tries(
        lab,
        t,
        &[
            (
                "an interface without a network",
                with(
                    json!([{ "name": "default", "masquerade": {} }, { "name": "other", "bridge": {} }]),
                    pod.clone(),
                ),
            ),
            (
                "a network without an interface",
                with(
                    json!([{ "name": "default", "masquerade": {} }]),
                    json!([{ "name": "default", "pod": {} }, { "name": "other", "multus": { "networkName": "other" } }]),
                ),
            ),
            (
                "two pod networks",
                with(
                    json!([{ "name": "default", "masquerade": {} }, { "name": "other", "masquerade": {} }]),
                    json!([{ "name": "default", "pod": {} }, { "name": "other", "pod": {} }]),
                ),
            ),
            (
                "two interfaces of one name",
                with(
                    json!([{ "name": "default", "masquerade": {} }, { "name": "default", "masquerade": {} }]),
                    pod.clone(),
                ),
            ),
            (
                "an unknown model",
                with(json!([{ "name": "default", "masquerade": {}, "model": "telegraph" }]), pod.clone()),
            ),
            (
                "a bad hardware address",
                with(json!([{ "name": "default", "masquerade": {}, "macAddress": "de:ad" }]), pod.clone()),
            ),
            ("no binding", with(json!([{ "name": "default" }]), pod.clone())),
            (
                "a network without a kind",
                with(json!([{ "name": "default", "masquerade": {} }]), json!([{ "name": "default" }])),
            ),
        ],
    )
    .await
}

async fn host_names(lab: &Lab, t: &mut Transcript) -> Result<()> {
    tries(
        lab,
        t,
        &[
            ("capitals", json!({ "hostname": "Machine" })),
            ("a dot", json!({ "hostname": "machine.example" })),
            ("a bad subdomain", json!({ "subdomain": "bad_domain" })),
            ("a good one", json!({ "hostname": "machine", "subdomain": "example" })),
        ],
    )
    .await
}

async fn eviction_strategies(lab: &Lab, t: &mut Transcript) -> Result<()> {
    tries(lab, t, &[("unknown", json!({ "evictionStrategy": "Gently" }))]).await
}
