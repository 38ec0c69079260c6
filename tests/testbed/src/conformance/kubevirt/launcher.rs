//! What of a machine reaches its launcher pod.

use anyhow::Result;
use serde_json::{Value, json};
use steading_model::quantity::Quantity;

use super::{
    samples::{changed, mk_vm, with_template},
    steps::{at, launcher, made, only, running, text},
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "a-launcher-pod-carries-who-it-belongs-to" => identity,
    "labels-and-annotations-of-the-template-reach-the-pod" => metadata,
    "placement-rules-reach-the-pod-as-they-are" => placement,
    "a-launcher-asks-for-a-tenth-of-a-cpu-a-core" => cpu,
    "a-launcher-asks-for-the-guests-memory-and-more" => memory,
    "requests-of-ones-own-reach-the-pod" => own_requests,
    "a-launcher-asks-for-the-devices-of-its-node" => devices,
    "volumes-of-the-machine-reach-the-pod" => volumes,
    "scheduler-priority-and-grace-reach-the-pod" => scheduling,
    "machines-that-avoid-each-other-do" => apart,
}

async fn pod_of(lab: &Lab, vm: &Value) -> Result<(Value, Value)> {
    let name = text(vm, "/metadata/name").to_owned();
    made(lab, "virtualmachines", vm).await?;
    let vmi = running(lab, &name).await?;
    Ok((vmi, launcher(lab, &name).await?))
}

/// The container that runs the guest.
fn compute(pod: &Value) -> Value {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    containers
        .into_iter()
        .flatten()
        .find(|container| container["name"] == "compute")
        .cloned()
        .unwrap_or_default()
}

async fn identity(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (vmi, pod) = pod_of(lab, &mk_vm("m")).await?;
    t.note(
        "labels",
        &json!({
            "labels": only(&pod["metadata"]["labels"], &["kubevirt.io", "vm.kubevirt.io/name", "kubevirt.io/created-by", "machine"]),
            "created by the VMI": pod["metadata"]["labels"]["kubevirt.io/created-by"] == vmi["metadata"]["uid"],
            "node": pod["metadata"]["labels"]["kubevirt.io/nodeName"] == vmi["status"]["nodeName"],
        }),
    );
    t.note(
        "domain",
        &only(&pod["metadata"]["annotations"], &["kubevirt.io/domain"]),
    );
    t.note(
        "owner",
        &only(
            &pod["metadata"]["ownerReferences"][0],
            &["apiVersion", "kind", "name", "controller", "blockOwnerDeletion"],
        ),
    );
    t.note(
        "name",
        &json!({
            "prefix": text(&pod, "/metadata/name").starts_with("virt-launcher-m-"),
            "generateName": pod["metadata"].get("generateName"),
            "on the VMI's node": pod["spec"]["nodeName"] == vmi["status"]["nodeName"],
        }),
    );
    Ok(())
}

async fn metadata(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = changed(
        mk_vm("m"),
        json!({
            "metadata": { "labels": { "of-the-vm": "1" }, "annotations": { "example.com/of-the-vm": "1" } },
            "spec": { "template": { "metadata": {
                "labels": { "colour": "red", "topology.kubernetes.io/zone": "a" },
                "annotations": { "example.com/colour": "red" },
            }}},
        }),
    );
    let (vmi, pod) = pod_of(lab, &vm).await?;
    let labels = ["colour", "machine", "of-the-vm"];
    let annotations = ["example.com/colour", "example.com/of-the-vm"];
    for (what, object) in [("VMI", &vmi), ("pod", &pod)] {
        t.note(
            what,
            &json!({
                "labels": only(&object["metadata"]["labels"], &labels),
                "annotations": only(&object["metadata"]["annotations"], &annotations),
            }),
        );
    }
    let node = lab
        .get(&format!("/api/v1/nodes/{}", text(&vmi, "/status/nodeName")))
        .await?;
    let zone = "topology.kubernetes.io/zone";
    t.note(
        "zone",
        &json!({
            "VMI": vmi["metadata"]["labels"][zone],
            "the pod's is its node's": pod["metadata"]["labels"][zone] == node.body["metadata"]["labels"][zone],
        }),
    );
    Ok(())
}

async fn placement(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = with_template(
        mk_vm("m"),
        json!({
            "nodeSelector": { "kubernetes.io/os": "linux" },
            "tolerations": [{ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" }],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": { "matchLabels": { "machine": "m" } }, "minDomains": 1, "nodeTaintsPolicy": "Honor",
                },
                {
                    "maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": { "matchLabels": { "machine": "m" } }, "matchLabelKeys": ["colour"],
                },
            ],
            "affinity": {
                "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
                    { "weight": 7, "preference": { "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] } },
                ]},
                "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                    { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "machine": "other" } } },
                ]},
            },
        }),
    );
    let (vmi, pod) = pod_of(lab, &vm).await?;
    for (what, object) in [("VMI", &vmi), ("pod", &pod)] {
        t.note(
            what,
            &json!({
                "spread": object["spec"]["topologySpreadConstraints"],
                "tolerations": tolerations(object),
                "preferred": object["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"],
                "apart": object["spec"]["affinity"]["podAntiAffinity"],
                "selector": only(&object["spec"]["nodeSelector"], &["kubernetes.io/os", "kubevirt.io/schedulable"]),
            }),
        );
    }
    Ok(())
}

/// Without those that the API server adds to every pod.
fn tolerations(object: &Value) -> Value {
    let all = object.pointer("/spec/tolerations").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter(|toleration| !text(toleration, "/key").starts_with("node.kubernetes.io/"))
        .cloned()
        .collect()
}

async fn cpu(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for (name, cpu) in [
        ("one", json!({ "cores": 1 })),
        ("four", json!({ "cores": 2, "sockets": 2 })),
        ("twelve", json!({ "cores": 3, "sockets": 2, "threads": 2 })),
    ] {
        let vm = with_template(mk_vm(name), json!({ "domain": { "cpu": cpu } }));
        let (_, pod) = pod_of(lab, &vm).await?;
        t.note(
            name,
            &at(&compute(&pod), &["/resources/requests/cpu", "/resources/limits/cpu"]),
        );
    }
    Ok(())
}

async fn memory(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for (name, guest) in [("small", "64Mi"), ("large", "2Gi")] {
        let vm = with_template(mk_vm(name), json!({ "domain": { "memory": { "guest": guest } } }));
        let (_, pod) = pod_of(lab, &vm).await?;
        let asked = text(&compute(&pod), "/resources/requests/memory").parse::<Quantity>();
        let guest = guest.parse::<Quantity>();
        let more = asked.ok().zip(guest.ok()).map(|(asked, guest)| {
            let overhead = asked.bytes().saturating_sub(guest.bytes());
            json!({ "at least 200Mi": overhead >= 200 << 20, "at most 300Mi": overhead <= 300 << 20 })
        });
        t.note(name, &more);
        t.note(
            &format!("limit of {name}"),
            &at(&compute(&pod), &["/resources/limits/memory"]),
        );
    }
    Ok(())
}

async fn own_requests(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = with_template(
        mk_vm("m"),
        json!({ "domain": { "cpu": null, "resources": { "requests": { "cpu": "500m" }, "limits": { "cpu": "2" } } } }),
    );
    let (vmi, pod) = pod_of(lab, &vm).await?;
    t.note(
        "cpu of the VMI",
        &only(&vmi["spec"]["domain"]["cpu"], &["cores", "sockets", "threads"]),
    );
    t.note("requests of the VMI", &vmi["spec"]["domain"]["resources"]);
    t.note(
        "pod",
        &at(&compute(&pod), &["/resources/requests/cpu", "/resources/limits/cpu"]),
    );
    Ok(())
}

async fn devices(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (_, pod) = pod_of(lab, &mk_vm("m")).await?;
    let names = [
        "devices.kubevirt.io/kvm",
        "devices.kubevirt.io/tun",
        "devices.kubevirt.io/vhost-net",
    ];
    let compute = compute(&pod);
    t.note("requests", &only(&compute["resources"]["requests"], &names));
    t.note("limits", &only(&compute["resources"]["limits"], &names));
    Ok(())
}

async fn volumes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "user-data" }, "stringData": { "userdata": "#cloud-config" } });
    made(lab, "secrets", &secret).await?;
    let vm = with_template(
        mk_vm("m"),
        json!({
            "domain": { "devices": { "disks": [{ "name": "boot", "disk": { "bus": "virtio" } }, { "name": "cloudinit", "disk": { "bus": "virtio" } }] } },
            "volumes": [
                { "name": "boot", "containerDisk": { "image": "registry.example/linux:1" } },
                { "name": "cloudinit", "cloudInitNoCloud": { "secretRef": { "name": "user-data" } } },
            ],
        }),
    );
    let (vmi, pod) = pod_of(lab, &vm).await?;
    let secrets: Vec<Value> = pod["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|volume| !volume["secret"].is_null())
        .map(|volume| json!({ "name": volume["name"], "secret": volume["secret"]["secretName"] }))
        .collect();
    t.note("secrets of the pod", &secrets);
    let containers: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| container["name"].clone())
        .collect();
    t.note("containers of the pod", &containers);
    let status = vmi["status"]["volumeStatus"].as_array();
    let names: Vec<Value> = status
        .into_iter()
        .flatten()
        .map(|volume| volume["name"].clone())
        .collect();
    t.note("volumes that the VMI reports", &names);
    Ok(())
}

async fn scheduling(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let vm = with_template(
        mk_vm("m"),
        json!({ "priorityClassName": "system-node-critical", "terminationGracePeriodSeconds": 40, "hostname": "machine", "subdomain": "machines" }),
    );
    let (vmi, pod) = pod_of(lab, &vm).await?;
    t.note(
        "pod",
        &only(
            &pod["spec"],
            &[
                "priorityClassName",
                "terminationGracePeriodSeconds",
                "hostname",
                "subdomain",
                "restartPolicy",
                "automountServiceAccountToken",
                "schedulerName",
                "enableServiceLinks",
            ],
        ),
    );
    t.note(
        "VMI",
        &only(
            &vmi["spec"],
            &[
                "priorityClassName",
                "terminationGracePeriodSeconds",
                "hostname",
                "subdomain",
            ],
        ),
    );
    let vm = with_template(mk_vm("n"), json!({ "terminationGracePeriodSeconds": null }));
    let (vmi, pod) = pod_of(lab, &vm).await?;
    t.note(
        "grace of one that says none",
        &json!({ "vmi": vmi["spec"].get("terminationGracePeriodSeconds"), "pod": pod["spec"]["terminationGracePeriodSeconds"], "hostname": pod["spec"]["hostname"] }),
    );
    Ok(())
}

async fn apart(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let vm = with_template(
            changed(
                mk_vm(name),
                json!({ "spec": { "template": { "metadata": { "labels": { "set": "apart" } } } } }),
            ),
            json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "set": "apart" } } },
            ]}}}),
        );
        let (vmi, _) = pod_of(lab, &vm).await?;
        nodes.push(text(&vmi, "/status/nodeName").to_owned());
    }
    nodes.sort();
    nodes.dedup();
    t.note("different nodes", &nodes.len());
    Ok(())
}
