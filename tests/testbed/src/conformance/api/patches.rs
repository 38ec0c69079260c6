//! JSON patches, merge patches and strategic merge patches.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::objects::verdict;
use crate::conformance::{Answer, Area, Lab, PatchKind, Transcript, cases};

cases! { Area::ApiMachinery,
    "a-json-patch-does-all-operations" => json_operations,
    "a-json-patch-whose-test-fails-changes-nothing" => json_test,
    "a-json-patch-of-what-is-not-there-is-refused" => json_missing,
    "a-malformed-json-patch-is-refused" => json_malformed,
    "a-merge-patch-sets-removes-and-replaces" => merge,
    "a-merge-patch-makes-what-was-not-there" => merge_nested,
    "a-strategic-patch-merges-lists-by-key" => strategic_lists,
    "a-strategic-patch-deletes-from-lists" => strategic_deletes,
    "a-strategic-patch-replaces-by-directive" => strategic_replaces,
    "a-strategic-patch-merges-lists-of-words" => strategic_primitives,
    "a-strategic-patch-orders-a-list" => strategic_order,
    "a-strategic-patch-keeps-only-the-keys-it-retains" => retain_keys,
    "a-strategic-patch-of-a-service-merges-ports" => service_ports,
    "a-patch-of-nothing-is-not-found" => missing,
    "a-patch-of-an-unknown-type-is-refused" => unknown_type,
    "a-patch-that-makes-the-object-invalid-is-refused" => invalid,
    "a-patch-of-the-status-leaves-the-spec" => status,
}

fn mk_config_map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "1"}}, "data": data})
}

async fn mk(lab: &Lab, data: Value) -> Result<String> {
    lab.make(&lab.path("configmaps"), &mk_config_map(&data)).await?;
    Ok(lab.path("configmaps/a"))
}

/// A template that no controller picks up.
async fn mk_template(lab: &Lab) -> Result<String> {
    let template = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"}, "template": {
        "metadata": {"labels": {"app": "a"}},
        "spec": {
            "containers": [
                {"name": "one", "image": "one:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 80}], "command": ["run", "it"]},
                {"name": "two", "image": "two:1"},
            ],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
    }});
    lab.make(&lab.path("podtemplates"), &template).await?;
    Ok(lab.path("podtemplates/a"))
}

/// What the cases change of a template.
const CONTAINERS: [&str; 1] = ["template/spec/containers"];

/// An answer about a template without what the server fills in.
pub(super) fn trimmed(mut answer: Answer) -> Answer {
    const FILLED_IN: [&str; 7] = [
        "defaultMode",
        "imagePullPolicy",
        "protocol",
        "resources",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "schedulerName",
    ];
    fn trim(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| !FILLED_IN.contains(&key.as_str()));
                map.values_mut().for_each(trim);
            }
            Value::Array(items) => items.iter_mut().for_each(trim),
            _ => {}
        }
    }
    if let Some(template) = answer.body.get_mut("template") {
        trim(template);
    }
    answer
}

async fn strategic(lab: &Lab, t: &mut Transcript, what: &str, path: &str, spec: Value, seen: &[&str]) -> Result<()> {
    let patch = json!({"template": {"spec": spec}});
    let answer = lab.patch(path, PatchKind::Strategic, &patch).await?;
    t.note(what, &trimmed(answer).only(seen));
    Ok(())
}

async fn json_operations(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({"a": "1", "b": "2", "c": "3"})).await?;
    let seen = ["data", "metadata/labels", "metadata/finalizers", "metadata/annotations"];
    for (what, patch) in [
        ("add", json!([{"op": "add", "path": "/data/d", "value": "4"}])),
        ("replace", json!([{"op": "replace", "path": "/data/a", "value": "5"}])),
        ("remove", json!([{"op": "remove", "path": "/data/b"}])),
        ("move", json!([{"op": "move", "from": "/data/c", "path": "/data/e"}])),
        ("copy", json!([{"op": "copy", "from": "/data/a", "path": "/data/f"}])),
        (
            "test and add",
            json!([{"op": "test", "path": "/data/a", "value": "5"}, {"op": "add", "path": "/data/g", "value": "6"}]),
        ),
        (
            "add a map",
            json!([{"op": "add", "path": "/metadata/annotations", "value": {"example.com/a": "1"}}]),
        ),
        (
            "escaped",
            json!([{"op": "replace", "path": "/metadata/annotations/example.com~1a", "value": "2"}]),
        ),
        (
            "add a list",
            json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/a"]}]),
        ),
        (
            "append",
            json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/c"}]),
        ),
        (
            "insert",
            json!([{"op": "add", "path": "/metadata/finalizers/1", "value": "example.com/b"}]),
        ),
        (
            "remove a list",
            json!([{"op": "remove", "path": "/metadata/finalizers"}]),
        ),
        ("nothing", json!([])),
    ] {
        t.note(what, &lab.patch(&one, PatchKind::Json, &patch).await?.only(&seen));
    }
    Ok(())
}

/// The data that a patch leaves, or how it is refused.
fn note_data(t: &mut Transcript, what: &str, answer: &Answer) {
    let noted = if answer.ok() {
        answer.only(&["data"])
    } else {
        verdict(answer)
    };
    t.note(what, &noted);
}

async fn json_test(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({"a": "1"})).await?;
    for (what, path, value) in [
        ("another value", "/data/a", json!("2")),
        ("a missing field", "/data/x", json!("2")),
        ("a missing map", "/binaryData/x", json!(null)),
    ] {
        let patch =
            json!([{"op": "replace", "path": "/data/a", "value": "3"}, {"op": "test", "path": path, "value": value}]);
        note_data(t, what, &lab.patch(&one, PatchKind::Json, &patch).await?);
    }
    t.note("get", &lab.get(&one).await?.only(&["data"]));
    Ok(())
}

async fn json_missing(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({"a": "1"})).await?;
    for (what, patch) in [
        ("remove", json!([{"op": "remove", "path": "/data/x"}])),
        ("remove deep", json!([{"op": "remove", "path": "/binaryData/x"}])),
        ("replace", json!([{"op": "replace", "path": "/data/x", "value": "1"}])),
        (
            "add below nothing",
            json!([{"op": "add", "path": "/metadata/annotations/x", "value": "1"}]),
        ),
        ("move", json!([{"op": "move", "from": "/data/x", "path": "/data/y"}])),
        (
            "index",
            json!([{"op": "add", "path": "/metadata/finalizers/3", "value": "1"}]),
        ),
    ] {
        note_data(t, what, &lab.patch(&one, PatchKind::Json, &patch).await?);
    }
    Ok(())
}

async fn json_malformed(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({"a": "1"})).await?;
    for (what, patch) in [
        ("no list", json!({"data": {"a": "2"}})),
        ("unknown operation", json!([{"op": "bump", "path": "/data/a"}])),
    ] {
        let answer = lab.patch(&one, PatchKind::Json, &patch).await?;
        t.note(what, &verdict(&answer));
    }
    Ok(())
}

async fn merge(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({"a": "1", "b": "2"})).await?;
    let seen = ["data", "metadata/labels", "metadata/finalizers"];
    for (what, patch) in [
        ("set and remove", json!({"data": {"a": "3", "b": null, "c": "4"}})),
        ("remove what is not there", json!({"data": {"x": null}})),
        (
            "list",
            json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}),
        ),
        ("list again", json!({"metadata": {"finalizers": ["example.com/c"]}})),
        (
            "remove maps",
            json!({"data": null, "metadata": {"labels": null, "finalizers": null}}),
        ),
    ] {
        t.note(what, &lab.patch(&one, PatchKind::Merge, &patch).await?.only(&seen));
    }
    let list = lab.patch(&one, PatchKind::Merge, &json!(["a"])).await?;
    t.note("no object", &verdict(&list));
    Ok(())
}

async fn merge_nested(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_template(lab).await?;
    let patch = json!({"template": {"metadata": {"annotations": {"n": "1"}}, "spec": {"securityContext": {"runAsUser": 7}, "nodeSelector": {"a": "b", "gone": null}}}});
    let answer = lab.patch(&path, PatchKind::Merge, &patch).await?;
    t.note(
        "nested",
        &answer.only(&[
            "template/metadata",
            "template/spec/securityContext",
            "template/spec/nodeSelector",
        ]),
    );
    let patch = json!({"template": {"spec": {"containers": [{"name": "three", "image": "three:1"}]}}});
    let list = lab.patch(&path, PatchKind::Merge, &patch).await?;
    t.note("list", &trimmed(list).only(&CONTAINERS));
    Ok(())
}

async fn strategic_lists(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_template(lab).await?;
    let seen = [
        "template/spec/containers",
        "template/spec/volumes",
        "template/spec/tolerations",
        "template/spec/nodeSelector",
    ];
    for (what, spec) in [
        (
            "change one container",
            json!({"containers": [{"name": "one", "image": "one:2", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}),
        ),
        (
            "add a container",
            json!({"containers": [{"name": "three", "image": "three:1"}]}),
        ),
        (
            "replace a list of words",
            json!({"containers": [{"name": "one", "command": ["stop"]}]}),
        ),
        (
            "tolerations are one value",
            json!({"tolerations": [{"key": "other", "operator": "Exists"}]}),
        ),
        (
            "add a volume",
            json!({"volumes": [{"name": "w", "emptyDir": {"medium": "Memory"}}]}),
        ),
        ("a map", json!({"nodeSelector": {"a": "b"}})),
    ] {
        strategic(lab, t, what, &path, spec, &seen).await?;
    }
    Ok(())
}

async fn strategic_deletes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_template(lab).await?;
    let seen = [
        "template/spec/containers",
        "template/spec/tolerations",
        "template/spec/volumes",
    ];
    for (what, spec) in [
        (
            "an element of a list within",
            json!({"containers": [{"name": "one", "env": [{"name": "A", "$patch": "delete"}]}]}),
        ),
        (
            "a container",
            json!({"containers": [{"name": "two", "$patch": "delete"}]}),
        ),
        (
            "what is not there",
            json!({"containers": [{"name": "none", "$patch": "delete"}]}),
        ),
        (
            "a field",
            json!({"containers": [{"name": "one", "ports": null}], "tolerations": null}),
        ),
        ("all volumes", json!({"volumes": null})),
    ] {
        strategic(lab, t, what, &path, spec, &seen).await?;
    }
    let keyless = json!({"template": {"spec": {"containers": [{"image": "x"}]}}});
    let answer = lab.patch(&path, PatchKind::Strategic, &keyless).await?;
    t.note("an element without its key", &answer.code);
    Ok(())
}

async fn strategic_replaces(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_template(lab).await?;
    let seen = ["template/spec/containers", "template/spec/securityContext"];
    strategic(
        lab,
        t,
        "a list",
        &path,
        json!({"containers": [{"name": "new", "image": "new:1"}, {"$patch": "replace"}]}),
        &CONTAINERS,
    )
    .await?;
    strategic(
        lab,
        t,
        "set a map",
        &path,
        json!({"securityContext": {"runAsUser": 1, "runAsGroup": 2}}),
        &seen,
    )
    .await?;
    strategic(
        lab,
        t,
        "a map",
        &path,
        json!({"securityContext": {"$patch": "replace", "runAsUser": 3}}),
        &seen,
    )
    .await?;
    let directive = json!({"template": {"spec": {"securityContext": {"$patch": "shuffle"}}}});
    let answer = lab.patch(&path, PatchKind::Strategic, &directive).await?;
    t.note("an unknown directive", &answer.code);
    Ok(())
}

async fn strategic_primitives(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({})).await?;
    for (what, metadata) in [
        ("set", json!({"finalizers": ["example.com/a", "example.com/b"]})),
        ("add", json!({"finalizers": ["example.com/c", "example.com/a"]})),
        (
            "delete",
            json!({"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}),
        ),
        (
            "delete and add",
            json!({"$deleteFromPrimitiveList/finalizers": ["example.com/b"], "finalizers": ["example.com/d"]}),
        ),
        ("clear", json!({"finalizers": null})),
    ] {
        let answer = lab
            .patch(&one, PatchKind::Strategic, &json!({"metadata": metadata}))
            .await?;
        t.note(what, &answer.only(&["metadata/finalizers"]));
    }
    Ok(())
}

async fn strategic_order(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_template(lab).await?;
    let order = json!({"$setElementOrder/containers": [{"name": "two"}, {"name": "three"}, {"name": "one"}], "containers": [{"name": "three", "image": "three:1"}]});
    strategic(
        lab,
        t,
        "order",
        &path,
        order,
        &[
            "template/spec/containers/0/name",
            "template/spec/containers/1/name",
            "template/spec/containers/2/name",
        ],
    )
    .await
}

async fn retain_keys(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_template(lab).await?;
    let seen = ["template/spec/volumes"];
    let other = json!({"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}}]});
    strategic(lab, t, "another source", &path, other, &seen).await?;
    Ok(())
}

async fn service_ports(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"name": "x", "port": 80}, {"name": "y", "port": 81}]}});
    lab.make(&lab.path("services"), &service).await?;
    let path = lab.path("services/a");
    for (what, spec) in [
        ("change", json!({"ports": [{"port": 80, "targetPort": 8080}]})),
        ("add", json!({"ports": [{"name": "z", "port": 82}]})),
        ("delete", json!({"ports": [{"port": 81, "$patch": "delete"}]})),
        ("selector", json!({"selector": {"c": "d", "a": null}})),
    ] {
        let answer = lab.patch(&path, PatchKind::Strategic, &json!({"spec": spec})).await?;
        t.note(what, &answer.only(&["spec/ports", "spec/selector"]));
    }
    Ok(())
}

async fn missing(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    t.note("json", &lab.patch(&one, PatchKind::Json, &json!([])).await?);
    t.note("merge", &lab.patch(&one, PatchKind::Merge, &json!({})).await?);
    t.note("strategic", &lab.patch(&one, PatchKind::Strategic, &json!({})).await?);
    t.note(
        "of a collection",
        &verdict(&lab.patch(&lab.path("configmaps"), PatchKind::Merge, &json!({})).await?),
    );
    Ok(())
}

async fn unknown_type(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({"a": "1"})).await?;
    let send = async |media_type: &str, body: &str| {
        lab.request(Method::PATCH, one.as_str())
            .header("content-type", media_type)
            .raw(body)
            .send()
            .await
    };
    t.note("json", &verdict(&send("application/json", "{}").await?));
    t.note("text", &verdict(&send("text/plain", "{}").await?));
    t.note(
        "broken merge",
        &send("application/merge-patch+json", "{").await?.at("reason"),
    );
    let parameter = send("application/merge-patch+json; charset=utf-8", r#"{"data":{"a":"2"}}"#).await?;
    t.note("with a parameter", &parameter.only(&["data"]));
    Ok(())
}

async fn invalid(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = mk(lab, json!({"a": "1"})).await?;
    let patch = json!({"metadata": {"labels": {"x": "a b"}}});
    t.note("label", &verdict(&lab.patch(&one, PatchKind::Merge, &patch).await?));
    t.note(
        "key",
        &lab.patch(&one, PatchKind::Strategic, &json!({"data": {"a/b": "1"}}))
            .await?,
    );
    let kind = lab.patch(&one, PatchKind::Merge, &json!({"kind": "Secret"})).await?;
    t.note("kind", &verdict(&kind));
    let version = lab.patch(&one, PatchKind::Merge, &json!({"apiVersion": "v2"})).await?;
    t.note("version", &verdict(&version));
    t.note("get", &lab.get(&one).await?.only(&["data", "metadata/labels"]));
    Ok(())
}

async fn status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    lab.make(&lab.path("services"), &service).await?;
    let path = lab.path("services/a");
    let seen = [
        "spec/sessionAffinity",
        "metadata/labels",
        "status/conditions/0/type",
        "status/conditions/0/status",
    ];
    let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "reason": "Said", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let patch =
        json!({"metadata": {"labels": {"x": "1"}}, "spec": {"sessionAffinity": "ClientIP"}, "status": ready("True")});
    let merged = lab.patch(&format!("{path}/status"), PatchKind::Merge, &patch).await?;
    t.note("status", &merged.only(&seen));
    let patch = json!({"metadata": {"labels": {"y": "2"}}, "status": ready("False")});
    t.note(
        "main",
        &lab.patch(&path, PatchKind::Strategic, &patch).await?.only(&seen),
    );
    Ok(())
}
