//! What tools show and find out: tables, served versions, features.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{
    samples::mk_vm,
    steps::{at, made, only, path, running, text, until},
};
use crate::conformance::{Area, Lab, Transcript, cases};

cases! { Area::KubeVirt,
    "machines-are-shown-in-tables" => tables,
    "migrations-and-types-are-shown-in-tables" => other_tables,
    "the-resources-of-kubevirt-are-discovered" => discovery,
    "the-subresources-of-kubevirt-are-discovered" => subresources,
    "kubevirt-says-what-it-can-do" => features,
}

/// Columns and cells of a table; what differs from run to run is left out.
async fn table(lab: &Lab, path: &str, open: &[&str]) -> Result<Value> {
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let answer = lab.request(Method::GET, path).header("accept", accept).send().await?;
    let columns = answer.body["columnDefinitions"].as_array().cloned().unwrap_or_default();
    let rows: Vec<Value> = answer.body["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let cells = row["cells"].as_array().cloned().unwrap_or_default();
            columns
                .iter()
                .zip(cells)
                .map(|(column, cell)| {
                    if open.contains(&text(column, "/name")) {
                        json!(!cell.is_null() && cell != "")
                    } else {
                        cell
                    }
                })
                .collect()
        })
        .collect();
    let columns: Vec<Value> = columns
        .iter()
        .map(|column| only(column, &["name", "type", "format", "priority"]))
        .collect();
    Ok(json!({ "code": answer.code, "columns": columns, "rows": rows }))
}

async fn tables(lab: &Lab, t: &mut Transcript) -> Result<()> {
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    t.note("VMs", &table(lab, &path(lab, "virtualmachines", ""), &["Age"]).await?);
    t.note(
        "VMIs",
        &table(
            lab,
            &path(lab, "virtualmachineinstances", ""),
            &["Age", "IP", "NodeName"],
        )
        .await?,
    );
    t.note(
        "one VM",
        &table(lab, &path(lab, "virtualmachines", "m"), &["Age"]).await?,
    );
    Ok(())
}

async fn other_tables(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let spec = json!({ "cpu": { "guest": 1 }, "memory": { "guest": "64Mi" } });
    let object = super::samples::mk_instancetype("VirtualMachineInstancetype", "small", spec);
    made(lab, "virtualmachineinstancetypes", &object).await?;
    t.note(
        "instance types",
        &table(lab, &path(lab, "virtualmachineinstancetypes", ""), &["Age"]).await?,
    );
    made(lab, "virtualmachines", &mk_vm("m")).await?;
    running(lab, "m").await?;
    made(
        lab,
        "virtualmachineinstancemigrations",
        &super::samples::mk_migration("go", "m"),
    )
    .await?;
    until(
        lab,
        "virtualmachineinstancemigrations",
        "go",
        "it is done",
        |migration| text(migration, "/status/phase") == "Succeeded",
    )
    .await?;
    t.note(
        "migrations",
        &table(lab, &path(lab, "virtualmachineinstancemigrations", ""), &["Age"]).await?,
    );
    Ok(())
}

/// What a client learns of the resources of a group's version that Steading uses.
async fn resources(lab: &Lab, group_version: &str, names: &[&str]) -> Result<Value> {
    let answer = lab.get(&format!("/apis/{group_version}")).await?;
    let mut found: Vec<Value> = answer.body["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|resource| names.contains(&text(resource, "/name")))
        .map(|resource| {
            only(
                resource,
                &[
                    "name",
                    "singularName",
                    "namespaced",
                    "kind",
                    "verbs",
                    "shortNames",
                    "categories",
                ],
            )
        })
        .collect();
    found.sort_by_key(|resource| text(resource, "/name").to_owned());
    Ok(json!({ "code": answer.code, "resources": found }))
}

async fn discovery(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let machines = [
        "virtualmachines",
        "virtualmachines/status",
        "virtualmachineinstances",
        "virtualmachineinstances/status",
        "virtualmachineinstancemigrations",
        "virtualmachineinstancemigrations/status",
        "kubevirts",
        "kubevirts/status",
    ];
    t.note("machines", &resources(lab, "kubevirt.io/v1", &machines).await?);
    let types = [
        "virtualmachineinstancetypes",
        "virtualmachineclusterinstancetypes",
        "virtualmachinepreferences",
        "virtualmachineclusterpreferences",
    ];
    t.note(
        "types",
        &resources(lab, "instancetype.kubevirt.io/v1beta1", &types).await?,
    );
    let groups = lab.get("/apis").await?;
    let versions: Vec<Value> = groups.body["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|group| {
            matches!(
                text(group, "/name"),
                "kubevirt.io" | "instancetype.kubevirt.io" | "subresources.kubevirt.io" | "snapshot.kubevirt.io"
            )
        })
        .map(|group| only(group, &["name", "versions", "preferredVersion"]))
        .collect();
    let mut versions = versions;
    versions.sort_by_key(|group| text(group, "/name").to_owned());
    t.note("served versions", &versions);
    Ok(())
}

async fn subresources(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let answer = lab.get("/apis/subresources.kubevirt.io/v1").await?;
    let used = [
        "virtualmachines/start",
        "virtualmachines/stop",
        "virtualmachines/restart",
        "virtualmachines/migrate",
        "virtualmachines/addvolume",
        "virtualmachines/removevolume",
        "virtualmachines/expand-spec",
        "virtualmachines/evacuate/cancel",
        "virtualmachineinstances/addvolume",
        "virtualmachineinstances/removevolume",
        "virtualmachineinstances/evacuate/cancel",
        "expand-vm-spec",
    ];
    let mut names: Vec<&str> = answer.body["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|resource| text(resource, "/name"))
        .filter(|name| used.contains(name))
        .collect();
    names.sort_unstable();
    t.note(
        "those that Steading uses",
        &json!({ "code": answer.code, "names": names }),
    );
    Ok(())
}

async fn features(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let answer = lab
        .get("/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt")
        .await?;
    let mut gates = answer.body["spec"]["configuration"]["developerConfiguration"]["featureGates"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    gates.retain(|gate| {
        matches!(
            gate.as_str(),
            Some("DeclarativeHotplugVolumes" | "HotplugVolumes" | "Snapshot")
        )
    });
    gates.sort_by_key(Value::to_string);
    t.note("gates", &gates);
    t.note(
        "status",
        &at(&answer.body, &["/status/phase", "/status/observedKubeVirtVersion"]),
    );
    Ok(())
}
