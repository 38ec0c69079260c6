//! Custom kinds: how they are established, discovered, served in versions, shown and removed.

use anyhow::Result;
use serde_json::{Value, json};

use super::definitions::{DEFINITIONS, establish, establish_as, group, mk_definition, mk_schema, mk_version, settled};
use crate::conformance::{Answer, Area, Lab, PatchKind, Transcript, cases, pick};

cases! { Area::ApiMachinery,
    "a-definition-is-established-and-gets-its-defaults" => established,
    "a-custom-kind-is-discovered-with-its-short-names-and-categories" => discovered,
    "a-definition-that-does-not-fit-together-is-refused" => refused_definitions,
    "the-status-of-a-custom-object-is-written-apart" => status_apart,
    "generation-counts-changes-of-the-spec-only" => generations,
    "without-a-status-subresource-all-is-one" => no_status,
    "a-custom-kind-scales" => scales,
    "printer-columns-make-a-table" => printer_columns,
    "an-object-is-read-in-each-served-version" => versions,
    "a-version-that-is-not-served-is-not-found" => not_served,
    "a-custom-kind-of-the-cluster-has-no-namespaces" => cluster_scope,
    "strategic-merge-is-not-for-custom-kinds" => no_strategic,
    "apply-merges-lists-of-custom-kinds-by-their-keys" => applied_lists,
    "deleting-a-definition-deletes-its-objects" => deleted_definition,
    "unknown-metadata-of-custom-objects-is-pruned" => metadata,
}

fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

async fn established(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let definition = mk_definition(&group(lab), &[mk_version(anything())]);
    t.note(
        "create",
        &lab.post(DEFINITIONS, &definition)
            .await?
            .only(&["spec", "metadata/generation"]),
    );
    let path = format!("{DEFINITIONS}/widgets.{}", group(lab));
    lab.clean_up(path.clone()).await;
    let ready = |answer: &Answer| answer.body["status"]["conditions"][1]["status"] == "True";
    let seen = lab.until("established", &path, ready).await?;
    let paths = [
        "status/conditions/0",
        "status/conditions/1",
        "status/acceptedNames",
        "status/storedVersions",
    ];
    t.note("established", &seen.only(&paths));
    t.note("create again", &lab.post(DEFINITIONS, &definition).await?);
    Ok(())
}

async fn discovered(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut version = mk_version(anything());
    version["subresources"] = json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    let mut definition = mk_definition(&group(lab), &[version]);
    definition["spec"]["names"] = json!({
        "plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "Widgets", "shortNames": [format!("w{}", lab.id)],
        "categories": ["all"],
    });
    let widgets = establish_as(lab, &definition).await?;
    let path = format!("/apis/{}/v1", widgets.group);
    let listed = lab
        .until("discovered", &path, |answer| answer.at("resources/2/name").is_string())
        .await?;
    let fields = [
        "name",
        "singularName",
        "namespaced",
        "group",
        "version",
        "kind",
        "verbs",
        "shortNames",
        "categories",
    ];
    for resource in listed.at("resources").as_array().into_iter().flatten() {
        t.note("resource", &pick(resource, &fields));
    }
    let group = lab
        .until("the group", &format!("/apis/{}", widgets.group), Answer::ok)
        .await?;
    t.note("group", &group);
    t.note(
        "list",
        &lab.get(&widgets.path(""))
            .await?
            .only(&["kind", "apiVersion", "items", "metadata/continue"]),
    );
    Ok(())
}

async fn refused_definitions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let good = mk_definition(&group(lab), &[mk_version(anything())]);
    let changed = |pointer: &str, value: Value| {
        let mut definition = good.clone();
        if let Some(place) = definition.pointer_mut(pointer) {
            *place = value;
        }
        definition
    };
    for (what, definition) in [
        ("another name", changed("/metadata/name", json!("gadgets.example.com"))),
        ("no schema", changed("/spec/versions/0/schema", Value::Null)),
        ("no scope", changed("/spec/scope", json!("Everywhere"))),
    ] {
        t.note(what, &lab.post(DEFINITIONS, &definition).await?);
    }
    Ok(())
}

fn with_status() -> Value {
    let mut version = mk_version(anything());
    version["subresources"] = json!({"status": {}});
    version
}

async fn status_apart(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &[with_status()]).await?;
    let mut one = widgets.mk("a", json!({"size": 1}));
    one["status"] = json!({"phase": "Ready"});
    t.note("create", &widgets.post(&one).await?);
    let (path, status) = (widgets.path("/a"), widgets.path("/a/status"));
    let both = json!({"spec": {"size": 2}, "status": {"phase": "Ready"}});
    t.note(
        "both through the object",
        &lab.patch(&path, PatchKind::Merge, &both).await?,
    );
    let both = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"size": 3}, "status": {"phase": "Ready"}});
    t.note(
        "both through the status",
        &lab.patch(&status, PatchKind::Merge, &both).await?,
    );
    t.note("get the status", &lab.get(&status).await?);
    let mut stale = widgets.mk("a", json!({}));
    stale["metadata"]["resourceVersion"] = json!("1");
    t.note("stale", &lab.put(&status, &stale).await?);
    t.note(
        "of nothing",
        &lab.patch(&widgets.path("/b/status"), PatchKind::Merge, &both).await?,
    );
    t.note("delete a status", &lab.delete(&status).await?);
    Ok(())
}

async fn generations(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &[with_status()]).await?;
    let seen = ["metadata/generation", "spec", "status", "metadata/labels"];
    t.note("create", &widgets.create("a", json!({"size": 1})).await?.only(&seen));
    for (what, patch) in [
        ("a label", json!({"metadata": {"labels": {"a": "b"}}})),
        ("the spec", json!({"spec": {"size": 2}})),
        ("nothing", json!({"spec": {"size": 2}})),
        ("the generation", json!({"metadata": {"generation": 9}})),
    ] {
        t.note(
            what,
            &lab.patch(&widgets.path("/a"), PatchKind::Merge, &patch)
                .await?
                .only(&seen),
        );
    }
    let patch = json!({"status": {"phase": "Ready"}});
    t.note(
        "the status",
        &lab.patch(&widgets.path("/a/status"), PatchKind::Merge, &patch)
            .await?
            .only(&seen),
    );
    Ok(())
}

async fn no_status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &[mk_version(anything())]).await?;
    let mut one = widgets.mk("a", json!({"size": 1}));
    one["status"] = json!({"phase": "New"});
    t.note("create", &widgets.post(&one).await?);
    let patch = json!({"status": {"phase": "Ready"}});
    t.note(
        "change the status",
        &lab.patch(&widgets.path("/a"), PatchKind::Merge, &patch).await?,
    );
    t.note("the subresource", &lab.get(&widgets.path("/a/status")).await?);
    Ok(())
}

async fn scales(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut version = mk_version(anything());
    version["subresources"] = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector",
    }});
    let widgets = establish(lab, &[version]).await?;
    widgets.create("a", json!({"replicas": 2})).await?.expect_ok("create")?;
    let scale = widgets.path("/a/scale");
    t.note("get", &lab.get(&scale).await?);
    let status = json!({"status": {"replicas": 1, "selector": "app=a"}});
    lab.patch(&widgets.path("/a/status"), PatchKind::Merge, &status)
        .await?
        .expect_ok("status")?;
    t.note("with a status", &lab.get(&scale).await?);
    t.note(
        "patch",
        &lab.patch(&scale, PatchKind::Merge, &json!({"spec": {"replicas": 5}}))
            .await?,
    );
    t.note("the object", &lab.get(&widgets.path("/a")).await?);
    t.note(
        "less than none",
        &lab.patch(&scale, PatchKind::Merge, &json!({"spec": {"replicas": -1}}))
            .await?,
    );
    t.note("of nothing", &lab.get(&widgets.path("/b/scale")).await?);
    Ok(())
}

async fn printer_columns(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut version = mk_version(anything());
    version["additionalPrinterColumns"] = json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How big it is"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "First", "type": "string", "jsonPath": ".spec.parts[0].name", "priority": 1},
        {"name": "Parts", "type": "string", "jsonPath": ".spec.parts[*].name"},
    ]);
    let widgets = establish(lab, &[version]).await?;
    let mut one = widgets.mk("a", json!({"size": 3, "parts": [{"name": "x"}, {"name": "y"}]}));
    one["status"] = json!({"conditions": [{"type": "Old", "status": "False"}, {"type": "Ready", "status": "True"}]});
    widgets.post(&one).await?.expect_ok("create")?;
    widgets.create("b", json!({})).await?.expect_ok("create")?;
    let request = lab.request(http::Method::GET, widgets.path(""));
    let table = request
        .header(
            "accept",
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        )
        .send()
        .await?;
    t.note(
        "table",
        &table.only(&[
            "kind",
            "apiVersion",
            "rows/0/cells",
            "rows/1/cells",
            "rows/0/object/kind",
        ]),
    );
    for column in table.at("columnDefinitions").as_array().into_iter().flatten() {
        t.note("column", &pick(column, &["name", "type", "format", "priority"]));
    }
    Ok(())
}

fn two_versions() -> [Value; 2] {
    let mut old = mk_version(anything());
    old["name"] = json!("v1beta1");
    old["storage"] = json!(false);
    [mk_version(anything()), old]
}

async fn versions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &two_versions()).await?;
    widgets.create("a", json!({"size": 1})).await?.expect_ok("create")?;
    t.note("in the old version", &lab.get(&widgets.path_of("v1beta1", "/a")).await?);
    t.note(
        "list in the old version",
        &lab.get(&widgets.path_of("v1beta1", ""))
            .await?
            .only(&["kind", "apiVersion", "items/0/apiVersion"]),
    );
    let other = widgets.mk("b", json!({}));
    t.note(
        "a body of the other version",
        &lab.post(&widgets.path_of("v1beta1", ""), &other).await?,
    );
    t.note(
        "write in the old version",
        &lab.patch(
            &widgets.path_of("v1beta1", "/a"),
            PatchKind::Merge,
            &json!({"spec": {"size": 2}}),
        )
        .await?,
    );
    t.note("read in the new one", &lab.get(&widgets.path("/a")).await?);
    Ok(())
}

async fn not_served(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &two_versions()).await?;
    widgets.create("a", json!({})).await?.expect_ok("create")?;
    let patch = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    lab.patch(&widgets.definition(), PatchKind::Json, &patch)
        .await?
        .expect_ok("no longer served")?;
    let gone = lab.until_gone(&widgets.path_of("v1beta1", "/a")).await?;
    t.note("no longer served", &gone);
    t.note(
        "the other version",
        &lab.get(&widgets.path("/a"))
            .await?
            .only(&["apiVersion", "metadata/name"]),
    );
    let path = format!("/apis/{}", widgets.group);
    let seen = lab
        .until("one version", &path, |answer| answer.at("versions/1").is_null())
        .await?;
    t.note("discovery", &seen.only(&["versions"]));
    Ok(())
}

async fn cluster_scope(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut definition = mk_definition(&group(lab), &[mk_version(anything())]);
    definition["spec"]["scope"] = json!("Cluster");
    lab.make(DEFINITIONS, &definition).await?;
    lab.clean_up(format!("{DEFINITIONS}/widgets.{}", group(lab))).await;
    let all = format!("/apis/{}/v1/widgets", group(lab));
    settled(lab, &format!("{DEFINITIONS}/widgets.{}", group(lab)), &all).await?;
    let one = json!({"apiVersion": format!("{}/v1", group(lab)), "kind": "Widget", "metadata": {"name": "a"}});
    t.note("create", &lab.post(&all, &one).await?);
    t.note(
        "in a namespace",
        &lab.get(&lab.path_in(&format!("{}/v1", group(lab)), "widgets/a"))
            .await?,
    );
    let mut placed = one.clone();
    placed["metadata"] = json!({"name": "b", "namespace": lab.namespace});
    t.note("with a namespace", &lab.post(&all, &placed).await?);
    t.note("get", &lab.get(&format!("{all}/a")).await?);
    Ok(())
}

async fn no_strategic(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &[mk_version(anything())]).await?;
    widgets.create("a", json!({"size": 1})).await?.expect_ok("create")?;
    t.note(
        "strategic",
        &lab.patch(&widgets.path("/a"), PatchKind::Strategic, &json!({"spec": {"size": 2}}))
            .await?,
    );
    let patch =
        json!([{"op": "test", "path": "/spec/size", "value": 1}, {"op": "replace", "path": "/spec/size", "value": 3}]);
    t.note("json", &lab.patch(&widgets.path("/a"), PatchKind::Json, &patch).await?);
    Ok(())
}

async fn applied_lists(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let item = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "size": {"type": "integer"}}});
    let spec = json!({"type": "object", "properties": {
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "steps": {"type": "array", "items": {"type": "string"}},
    }});
    let widgets = establish(lab, &[mk_version(spec)]).await?;
    let path = widgets.path("/a");
    let first = widgets.mk(
        "a",
        json!({"parts": [{"name": "x", "size": 1}], "tags": ["x"], "steps": ["x"]}),
    );
    let applied = lab.apply(&path, "first", &first).await?;
    t.note("first", &applied);
    t.note_whole(
        "owned",
        pick(
            &applied.body,
            &["metadata/managedFields/0/fieldsV1", "metadata/managedFields/0/manager"],
        ),
    );
    let second = widgets.mk("a", json!({"parts": [{"name": "y", "size": 2}], "tags": ["y"]}));
    t.note("second", &lab.apply(&path, "second", &second).await?);
    let clash = widgets.mk("a", json!({"parts": [{"name": "x", "size": 9}], "steps": ["y"]}));
    let refused = lab.apply(&path, "second", &clash).await?;
    let causes = refused.at("details/causes");
    let mut causes: Vec<String> = causes.as_array().into_iter().flatten().map(Value::to_string).collect();
    causes.sort();
    t.note("clash", &json!([refused.code, refused.at("reason"), causes]));
    t.note(
        "without",
        &lab.apply(&path, "first", &widgets.mk("a", json!({}))).await?,
    );
    Ok(())
}

async fn deleted_definition(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &[mk_version(anything())]).await?;
    widgets.create("a", json!({})).await?.expect_ok("create")?;
    let mut watch = lab.watch(&widgets.path("")).await?;
    t.note(
        "before",
        &watch.change("added").await?.get("type").cloned().unwrap_or_default(),
    );
    t.note("delete", &lab.delete(&widgets.definition()).await?.code);
    let deleted = watch.until("deleted", |event| event["type"] == "DELETED").await?;
    t.note(
        "its object",
        &deleted.last().map(|event| event["object"]["metadata"]["name"].clone()),
    );
    lab.until_gone(&widgets.definition()).await?;
    t.note("the definition", &lab.get(&widgets.definition()).await?);
    lab.until_gone(&widgets.path("/a")).await?;
    let path = format!("/apis/{}/v1", widgets.group);
    t.note("discovery", &lab.until_gone(&path).await?.code);
    Ok(())
}

async fn metadata(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let widgets = establish(lab, &[mk_schema(json!({}))]).await?;
    let mut unknown = widgets.mk("b", json!({}));
    unknown["metadata"]["colour"] = json!("red");
    unknown["metadata"]["generation"] = json!(7);
    t.note("unknown metadata", &widgets.post(&unknown).await?);
    Ok(())
}
