//! Instance types: what they do to a VMI, how a VM keeps what it was made of, and what is refused.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{
    samples::{changed, mk_instancetype, mk_vm_without_size, with_template},
    steps::{
        cluster_path, condition, create, delete, gone, made, merge, only, path, read, running, subresource, text,
        until, verdict,
    },
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "a-cluster-wide-instance-type-sizes-the-vmi" => cluster_wide,
    "an-instance-type-of-the-namespace-is-taken-by-its-kind" => of_the_namespace,
    "a-vm-keeps-revisions-of-what-it-was-made-of" => revisions,
    "an-instance-type-that-does-not-exist-is-waited-for" => not_there_yet,
    "an-instance-type-and-a-size-of-its-own-conflict" => conflicts,
    "another-instance-type-wants-a-restart" => another_type,
    "an-instance-type-that-changes-does-not-change-machines" => type_changes,
    "a-vm-can-be-shown-expanded" => expanded,
    "bad-instance-types-are-refused" => bad_types,
    "bad-matchers-are-refused" => bad_matchers,
    "an-instance-type-brings-annotations-and-a-node-selector" => extras,
}

const TYPES: &str = "virtualmachineclusterinstancetypes";

pub(super) const PREFERENCES: &str = "virtualmachineclusterpreferences";

/// Makes a cluster-wide instance type and returns its name.
pub(super) async fn cluster_type(lab: &Lab, what: &str, spec: Value) -> Result<String> {
    let name = format!("{what}-{}", lab.id);
    let object = mk_instancetype("VirtualMachineClusterInstancetype", &name, spec);
    lab.make(&cluster_path(TYPES, ""), &object).await?;
    lab.clean_up(cluster_path(TYPES, &name)).await;
    Ok(name)
}

pub(super) async fn cluster_preference(lab: &Lab, what: &str, spec: Value) -> Result<String> {
    let name = format!("{what}-{}", lab.id);
    let object = mk_instancetype("VirtualMachineClusterPreference", &name, spec);
    lab.make(&cluster_path(PREFERENCES, ""), &object).await?;
    lab.clean_up(cluster_path(PREFERENCES, &name)).await;
    Ok(name)
}

pub(super) fn small() -> Value {
    json!({ "cpu": { "guest": 2 }, "memory": { "guest": "128Mi" } })
}

pub(super) fn mk_vm_of(name: &str, matchers: Value) -> Value {
    changed(mk_vm_without_size(name), json!({ "spec": matchers }))
}

/// Size and origin of a VMI.
fn size(vmi: &Value) -> Value {
    let domain = &vmi["spec"]["domain"];
    let annotations = &vmi["metadata"]["annotations"];
    json!({
        "cpu": only(&domain["cpu"], &["cores", "sockets", "threads"]),
        "memory": domain["memory"]["guest"],
        "annotations": only(annotations, &[
            "kubevirt.io/instancetype-name", "kubevirt.io/cluster-instancetype-name",
            "kubevirt.io/preference-name", "kubevirt.io/cluster-preference-name",
        ]),
    })
}

async fn cluster_wide(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = cluster_type(lab, "small", small()).await?;
    let vm = mk_vm_of("m", json!({ "instancetype": { "name": name } }));
    let vm = made(lab, "virtualmachines", &vm).await?;
    t.note("matcher", &vm["spec"]["instancetype"]);
    let vmi = running(lab, "m").await?;
    t.note("VMI", &size(&vmi));
    let vm = read(lab, "virtualmachines", "m").await?;
    t.note(
        "the VM's own spec",
        &only(
            &vm["spec"]["template"]["spec"]["domain"],
            &["cpu", "memory", "resources"],
        ),
    );
    Ok(())
}

async fn of_the_namespace(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = cluster_type(lab, "same", small()).await?;
    let big = json!({ "cpu": { "guest": 3 }, "memory": { "guest": "192Mi" } });
    let object = mk_instancetype("VirtualMachineInstancetype", &name, big);
    made(lab, "virtualmachineinstancetypes", &object).await?;
    for (vm, kind) in [
        ("a", "VirtualMachineInstancetype"),
        ("b", "virtualmachineinstancetypes"),
        ("c", "VirtualMachineClusterInstancetype"),
        ("d", ""),
    ] {
        let mut matcher = json!({ "name": name });
        if !kind.is_empty() {
            matcher["kind"] = json!(kind);
        }
        made(
            lab,
            "virtualmachines",
            &mk_vm_of(vm, json!({ "instancetype": matcher })),
        )
        .await?;
        let vmi = running(lab, vm).await?;
        t.note(&format!("kind {kind:?}"), &size(&vmi));
    }
    let vm = mk_vm_of("e", json!({ "instancetype": { "name": name, "kind": "Flavour" } }));
    let answer = create(lab, "virtualmachines", &vm).await?;
    t.note("an unknown kind", &verdict(&answer));
    let failure = until(lab, "virtualmachines", "e", "the VM says what is wrong", |vm| {
        condition(vm, "Failure")["status"] == "True"
    })
    .await?;
    t.note(
        "its failure",
        &only(&condition(&failure, "Failure"), &["reason", "message"]),
    );
    Ok(())
}

async fn revisions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let instancetype = cluster_type(lab, "small", small()).await?;
    let preference = cluster_preference(lab, "cores", json!({ "cpu": { "preferredCPUTopology": "cores" } })).await?;
    let matchers = json!({ "instancetype": { "name": instancetype }, "preference": { "name": preference } });
    made(lab, "virtualmachines", &mk_vm_of("m", matchers)).await?;
    running(lab, "m").await?;
    let vm = until(lab, "virtualmachines", "m", "the revisions are named", |vm| {
        !text(vm, "/status/instancetypeRef/controllerRevisionRef/name").is_empty()
            && !text(vm, "/status/preferenceRef/controllerRevisionRef/name").is_empty()
    })
    .await?;
    t.note("instance type of the VM", &vm["status"]["instancetypeRef"]);
    t.note("preference of the VM", &vm["status"]["preferenceRef"]);
    t.note("matchers", &only(&vm["spec"], &["instancetype", "preference"]));
    let all = lab.get(&path(lab, "controllerrevisions", "")).await?;
    let mut seen: Vec<Value> = all.body["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|revision| {
            json!({
                "name": revision["metadata"]["name"],
                "owner": only(&revision["metadata"]["ownerReferences"][0], &["kind", "name", "controller"]),
                "labels": revision["metadata"]["labels"],
                "data": { "kind": revision["data"]["kind"], "cpu": revision["data"]["spec"]["cpu"] },
            })
        })
        .collect();
    seen.sort_by_key(|revision| revision["data"].to_string());
    t.note("revisions", &seen);
    delete(lab, "virtualmachines", "m").await?;
    gone(lab, "virtualmachines", "m").await?;
    lab.until("the revisions are gone", &path(lab, "controllerrevisions", ""), |all| {
        all.names().is_empty()
    })
    .await?;
    Ok(())
}

async fn not_there_yet(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = format!("late-{}", lab.id);
    let vm = mk_vm_of("m", json!({ "instancetype": { "name": name } }));
    t.note("create", &verdict(&create(lab, "virtualmachines", &vm).await?));
    let vm = until(lab, "virtualmachines", "m", "the VM says what it lacks", |vm| {
        condition(vm, "Failure")["status"] == "True"
    })
    .await?;
    t.note(
        "condition",
        &only(&condition(&vm, "Failure"), &["reason", "message", "status"]),
    );
    t.note("status", &only(&vm["status"], &["created", "ready", "printableStatus"]));
    cluster_type(lab, "late", small()).await?;
    running(lab, "m").await?;
    let vm = until(lab, "virtualmachines", "m", "the VM has what it lacked", |vm| {
        condition(vm, "Failure").is_null()
    })
    .await?;
    t.note("afterwards", &condition(&vm, "Failure"));
    Ok(())
}

async fn conflicts(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = cluster_type(lab, "small", small()).await?;
    for (what, domain) in [
        ("cores", json!({ "cpu": { "cores": 2 } })),
        ("sockets and threads", json!({ "cpu": { "sockets": 2, "threads": 2 } })),
        ("memory", json!({ "memory": { "guest": "64Mi" } })),
        ("a cpu request", json!({ "resources": { "requests": { "cpu": "1" } } })),
        (
            "a memory limit",
            json!({ "resources": { "limits": { "memory": "64Mi" } } }),
        ),
        ("both", json!({ "cpu": { "cores": 2 }, "memory": { "guest": "64Mi" } })),
    ] {
        let vm = mk_vm_of("m", json!({ "instancetype": { "name": name } }));
        let vm = with_template(vm, json!({ "domain": domain }));
        t.note(what, &verdict(&create(lab, "virtualmachines", &vm).await?));
    }
    Ok(())
}

async fn another_type(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let first = cluster_type(lab, "first", small()).await?;
    let second = cluster_type(
        lab,
        "second",
        json!({ "cpu": { "guest": 3 }, "memory": { "guest": "192Mi" }, "ioThreadsPolicy": "shared" }),
    )
    .await?;
    let vm = mk_vm_of("m", json!({ "instancetype": { "name": first } }));
    made(lab, "virtualmachines", &vm).await?;
    running(lab, "m").await?;
    let patch = json!({ "spec": { "instancetype": { "name": second } } });
    t.note("change", &verdict(&merge(lab, "virtualmachines", "m", &patch).await?));
    let vm = until(lab, "virtualmachines", "m", "a restart is asked for", |vm| {
        condition(vm, "RestartRequired")["status"] == "True"
    })
    .await?;
    t.note(
        "condition",
        &only(&condition(&vm, "RestartRequired"), &["status", "reason", "message"]),
    );
    t.note("VMI", &size(&read(lab, "virtualmachineinstances", "m").await?));
    let before = read(lab, "virtualmachineinstances", "m").await?["metadata"]["uid"].clone();
    t.note(
        "restart",
        &verdict(&subresource(lab, "virtualmachines", "m", "restart", None).await?),
    );
    until(lab, "virtualmachineinstances", "m", "another VMI runs", move |vmi| {
        vmi["metadata"]["uid"] != before && text(vmi, "/status/phase") == "Running"
    })
    .await?;
    t.note("VMI afterwards", &size(&running(lab, "m").await?));
    let vm = until(lab, "virtualmachines", "m", "no restart is asked for", |vm| {
        condition(vm, "RestartRequired").is_null()
    })
    .await?;
    t.note("condition afterwards", &condition(&vm, "RestartRequired"));
    Ok(())
}

async fn type_changes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = cluster_type(lab, "changing", small()).await?;
    let vm = mk_vm_of("m", json!({ "instancetype": { "name": name } }));
    made(lab, "virtualmachines", &vm).await?;
    let before = running(lab, "m").await?;
    let patch = json!({ "spec": { "cpu": { "guest": 4 } } });
    let answer = lab
        .patch(
            &cluster_path(TYPES, &name),
            crate::conformance::PatchKind::Merge,
            &patch,
        )
        .await?;
    t.note("change of the type", &verdict(&answer));
    delete(lab, "virtualmachineinstances", "m").await?;
    let uid = before["metadata"]["uid"].clone();
    until(lab, "virtualmachineinstances", "m", "another VMI runs", move |vmi| {
        vmi["metadata"]["uid"] != uid && text(vmi, "/status/phase") == "Running"
    })
    .await?;
    t.note("VMI afterwards", &size(&running(lab, "m").await?));
    made(
        lab,
        "virtualmachines",
        &mk_vm_of("n", json!({ "instancetype": { "name": name } })),
    )
    .await?;
    t.note("VMI of a new VM", &size(&running(lab, "n").await?));
    Ok(())
}

async fn expanded(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let name = cluster_type(lab, "small", small()).await?;
    let vm = mk_vm_of(
        "m",
        json!({ "runStrategy": "Halted", "instancetype": { "name": name } }),
    );
    made(lab, "virtualmachines", &vm).await?;
    let shown = |body: &Value| {
        json!({
            "cpu": body["spec"]["template"]["spec"]["domain"]["cpu"],
            "memory": body["spec"]["template"]["spec"]["domain"]["memory"],
            "matcher": body["spec"].get("instancetype"),
        })
    };
    let group = format!("/apis/subresources.kubevirt.io/v1/namespaces/{}", lab.namespace);
    let answer = lab.get(&format!("{group}/virtualmachines/m/expand-spec")).await?;
    t.note(
        "a VM that is there",
        &json!({ "code": answer.code, "spec": shown(&answer.body) }),
    );
    let answer = lab
        .call(Method::PUT, &format!("{group}/expand-vm-spec"), Some(&vm))
        .await?;
    t.note(
        "a VM of one's own",
        &json!({ "code": answer.code, "spec": shown(&answer.body) }),
    );
    let vm = mk_vm_of(
        "n",
        json!({ "runStrategy": "Halted", "instancetype": { "name": "no-such" } }),
    );
    let answer = lab
        .call(Method::PUT, &format!("{group}/expand-vm-spec"), Some(&vm))
        .await?;
    t.note("of no such type", &verdict(&answer));
    let answer = lab.get(&format!("{group}/virtualmachines/nobody/expand-spec")).await?;
    t.note("a VM that is not there", &verdict(&answer));
    Ok(())
}

async fn bad_types(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for (what, spec) in [
        ("no cpu", json!({ "memory": { "guest": "1Gi" } })),
        ("no memory", json!({ "cpu": { "guest": 1 } })),
        ("no number of cpus", json!({ "cpu": {}, "memory": { "guest": "1Gi" } })),
        (
            "memory that is no quantity",
            json!({ "cpu": { "guest": 1 }, "memory": { "guest": "much" } }),
        ),
        (
            "overcommitted too far",
            json!({ "cpu": { "guest": 1 }, "memory": { "guest": "1Gi", "overcommitPercent": 101 } }),
        ),
        (
            "overcommitted huge pages",
            json!({ "cpu": { "guest": 1 }, "memory": { "guest": "1Gi", "overcommitPercent": 50, "hugepages": { "pageSize": "2Mi" } } }),
        ),
    ] {
        let object = mk_instancetype("VirtualMachineInstancetype", "bad", spec);
        let answer = create(lab, "virtualmachineinstancetypes", &object).await?;
        t.note(what, &verdict(&answer));
    }
    Ok(())
}

async fn bad_matchers(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for (what, matchers) in [
        ("no name", json!({ "instancetype": {} })),
        ("no name of a preference", json!({ "preference": {} })),
        (
            "a name and a volume",
            json!({ "instancetype": { "name": "small", "inferFromVolume": "boot" } }),
        ),
        (
            "a volume that says nothing",
            json!({ "instancetype": { "inferFromVolume": "boot" } }),
        ),
    ] {
        let vm = mk_vm_of("m", changed(json!({ "runStrategy": "Halted" }), matchers));
        t.note(what, &verdict(&create(lab, "virtualmachines", &vm).await?));
    }
    Ok(())
}

async fn extras(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let spec = changed(
        small(),
        json!({ "annotations": { "example.com/size": "small" }, "nodeSelector": { "kubernetes.io/os": "linux" } }),
    );
    let name = cluster_type(lab, "extras", spec).await?;
    let vm = mk_vm_of("m", json!({ "instancetype": { "name": name } }));
    made(lab, "virtualmachines", &vm).await?;
    let vmi = running(lab, "m").await?;
    t.note(
        "VMI",
        &json!({
            "annotation": vmi["metadata"]["annotations"]["example.com/size"],
            "selector": vmi["spec"]["nodeSelector"],
        }),
    );
    let vm = with_template(
        mk_vm_of(
            "n",
            json!({ "runStrategy": "Halted", "instancetype": { "name": name } }),
        ),
        json!({ "nodeSelector": { "kubernetes.io/os": "windows" } }),
    );
    t.note(
        "a selector that conflicts",
        &verdict(&create(lab, "virtualmachines", &vm).await?),
    );
    Ok(())
}
