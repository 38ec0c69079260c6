//! Steps that many of the KubeVirt cases share.

use anyhow::{Context as _, Result, bail};
use http::Method;
use serde_json::{Map, Value, json};

use crate::conformance::{Answer, Lab, PatchKind, Watch};

/// The path of a namespaced collection, or of one of its objects.
pub(super) fn path(lab: &Lab, plural: &str, name: &str) -> String {
    join(lab.path(plural), name)
}

fn join(collection: String, name: &str) -> String {
    if name.is_empty() {
        collection
    } else {
        format!("{collection}/{name}")
    }
}

/// The path of a cluster-wide instance type or preference.
pub(super) fn cluster_path(plural: &str, name: &str) -> String {
    join(format!("/apis/instancetype.kubevirt.io/v1beta1/{plural}"), name)
}

/// Creates an object; whether it was made is for the caller to see.
pub(super) async fn create(lab: &Lab, plural: &str, object: &Value) -> Result<Answer> {
    lab.post(&path(lab, plural, ""), object).await
}

/// Creates an object that has to be accepted.
pub(super) async fn made(lab: &Lab, plural: &str, object: &Value) -> Result<Value> {
    let answer = create(lab, plural, object).await?;
    if answer.code != 201 {
        bail!("{plural} not created: {} {}", answer.code, answer.body);
    }
    Ok(answer.body)
}

/// Reads an object that has to be there.
pub(super) async fn read(lab: &Lab, plural: &str, name: &str) -> Result<Value> {
    let answer = lab.get(&path(lab, plural, name)).await?;
    if answer.code != 200 {
        bail!("{plural} {name} not read: {} {}", answer.code, answer.body);
    }
    Ok(answer.body)
}

/// Deletes an object in the background.
pub(super) async fn delete(lab: &Lab, plural: &str, name: &str) -> Result<Answer> {
    lab.delete(&path(lab, plural, name)).await
}

/// Calls a subresource of a VM or VMI, as `virtctl` does.
pub(super) async fn subresource(
    lab: &Lab,
    plural: &str,
    name: &str,
    sub: &str,
    body: Option<&Value>,
) -> Result<Answer> {
    let path = format!(
        "/apis/subresources.kubevirt.io/v1/namespaces/{}/{plural}/{name}/{sub}",
        lab.namespace
    );
    lab.call(Method::PUT, &path, body).await
}

/// Waits until an object looks as it should.
pub(super) async fn until(
    lab: &Lab,
    plural: &str,
    name: &str,
    what: &str,
    is: impl Fn(&Value) -> bool + Send + Sync,
) -> Result<Value> {
    let answer = lab
        .until(what, &path(lab, plural, name), move |answer: &Answer| {
            answer.code == 200 && is(&answer.body)
        })
        .await?;
    Ok(answer.body)
}

/// Waits until an object is gone.
pub(super) async fn gone(lab: &Lab, plural: &str, name: &str) -> Result<()> {
    let what = format!("{plural} {name} is gone");
    lab.until(&what, &path(lab, plural, name), |answer: &Answer| answer.code == 404)
        .await
        .map(|_| ())
}

/// Waits until a VM says that it runs and is ready, and everything about it has come to rest; returns its VMI.
pub(super) async fn running(lab: &Lab, name: &str) -> Result<Value> {
    until(lab, "virtualmachines", name, "the VM runs", |vm| {
        text(vm, "/status/printableStatus") == "Running" && vm["status"]["ready"] == true
    })
    .await?;
    running_vmi(lab, name).await
}

/// Waits until a VMI runs, is ready and knows whether it can be migrated.
pub(super) async fn running_vmi(lab: &Lab, name: &str) -> Result<Value> {
    until(lab, "virtualmachineinstances", name, "the VMI runs", |vmi| {
        text(vmi, "/status/phase") == "Running"
            && condition(vmi, "Ready")["status"] == "True"
            && !condition(vmi, "LiveMigratable").is_null()
    })
    .await
}

/// Waits until a VM has a printable status.
pub(super) async fn printable(lab: &Lab, name: &str, status: &str) -> Result<Value> {
    until(lab, "virtualmachines", name, &format!("the VM says {status}"), |vm| {
        text(vm, "/status/printableStatus") == status
    })
    .await
}

/// Waits until a VM is stopped and its controller has taken note of it.
pub(super) async fn stopped(lab: &Lab, name: &str) -> Result<Value> {
    until(lab, "virtualmachines", name, "the VM is stopped", |vm| {
        text(vm, "/status/printableStatus") == "Stopped"
            && vm["status"]["created"] != true
            && condition(vm, "Ready")["reason"] == "VMINotExists"
    })
    .await
}

/// The pods of the namespace that a selector takes, oldest first.
pub(super) async fn pods(lab: &Lab, selector: &str) -> Result<Vec<Value>> {
    let path = format!("{}?labelSelector={selector}", lab.path("pods"));
    let answer = lab.get(&path).await?;
    let mut items = answer.body["items"].as_array().cloned().unwrap_or_default();
    items.sort_by_key(|pod| {
        (
            text(pod, "/metadata/creationTimestamp").to_owned(),
            text(pod, "/metadata/name").to_owned(),
        )
    });
    Ok(items)
}

/// The launcher pod of a machine that has not ended.
pub(super) async fn launcher(lab: &Lab, vm: &str) -> Result<Value> {
    let all = pods(lab, "kubevirt.io=virt-launcher").await?;
    all.into_iter()
        .filter(|pod| pod["metadata"]["annotations"]["kubevirt.io/domain"] == vm)
        .rfind(|pod| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"))
        .context("the machine has no launcher pod")
}

/// Applies a merge patch.
pub(super) async fn merge(lab: &Lab, plural: &str, name: &str, patch: &Value) -> Result<Answer> {
    lab.patch(&path(lab, plural, name), PatchKind::Merge, patch).await
}

/// The text at a pointer, empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A condition of an object, null if there is none.
pub(super) fn condition(object: &Value, type_: &str) -> Value {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .find(|found| found["type"] == type_)
        .cloned()
        .unwrap_or_default()
}

/// What clients read of the conditions of an object: status, reason and message by type.
pub(super) fn conditions(object: &Value) -> Value {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let by_type: Map<String, Value> = all
        .into_iter()
        .flatten()
        .map(|found| {
            (
                found["type"].as_str().unwrap_or_default().to_owned(),
                only(found, &["status", "reason", "message"]),
            )
        })
        .collect();
    Value::Object(by_type)
}

/// Some fields of an object; those that are not there are left out.
pub(super) fn only(object: &Value, fields: &[&str]) -> Value {
    let kept: Map<String, Value> = fields
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), object.get(*field)?.clone())))
        .collect();
    Value::Object(kept)
}

/// Values by their pointers; null where there is none.
pub(super) fn at(object: &Value, pointers: &[&str]) -> Value {
    let found: Map<String, Value> = pointers
        .iter()
        .map(|pointer| {
            (
                (*pointer).to_owned(),
                object.pointer(pointer).cloned().unwrap_or_default(),
            )
        })
        .collect();
    Value::Object(found)
}

/// What a client reads of an answer that refuses, or that a write was accepted.
pub(super) fn verdict(answer: &Answer) -> Value {
    if answer.code < 300 {
        return json!({ "code": answer.code });
    }
    let mut verdict = only(&answer.body, &["reason", "message"]);
    verdict["code"] = json!(answer.code);
    if let Some(causes) = answer.body.pointer("/details/causes") {
        verdict["causes"] = causes.clone();
    }
    verdict
}

/// The different values that a field of one object takes, in order, until the watch shows the last one; of any object if `name` is empty.
pub(super) async fn course(watch: &mut Watch, name: &str, pointer: &str, last: &str) -> Result<Vec<String>> {
    let mut seen: Vec<String> = Vec::new();
    loop {
        let waits = format!("{name}: {pointer} becomes {last} after {seen:?}");
        let event = watch.change(&waits).await?;
        let object = &event["object"];
        if !name.is_empty() && object["metadata"]["name"] != name {
            continue;
        }
        let value = if event["type"] == "DELETED" {
            "<deleted>"
        } else {
            text(object, pointer)
        };
        if !value.is_empty() && seen.last().is_none_or(|before| before != value) {
            seen.push(value.to_owned());
        }
        if value == last {
            return Ok(seen);
        }
    }
}
