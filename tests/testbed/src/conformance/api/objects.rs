//! Create, read, update and delete of plain objects, and what is refused.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use crate::conformance::{Answer, Area, Lab, PatchKind, Transcript, cases};

cases! { Area::ApiMachinery,
    "an-object-lives-from-create-to-delete" => lives,
    "a-generated-name-has-the-prefix-and-a-suffix" => generated,
    "an-object-without-a-name-is-refused" => nameless,
    "a-stale-update-conflicts" => stale,
    "an-update-of-another-uid-conflicts" => other_uid,
    "a-delete-holds-to-its-preconditions" => preconditions,
    "unknown-fields-are-refused-warned-of-or-ignored" => unknown_fields,
    "duplicate-fields-are-refused-warned-of-or-ignored" => duplicate_fields,
    "a-dry-run-writes-nothing" => dry_run,
    "a-bad-name-is-refused-with-its-cause" => bad_names,
    "bad-labels-and-annotations-are-refused-with-causes" => bad_labels,
    "bad-owner-references-are-refused-with-causes" => bad_owners,
    "a-new-object-may-not-name-a-resource-version" => new_with_version,
    "names-in-body-and-path-must-agree" => mismatches,
    "nothing-is-created-in-a-namespace-that-is-not-there" => no_namespace,
    "what-the-server-says-is-not-the-clients-to-change" => system_fields,
    "an-update-that-changes-nothing-keeps-the-version" => unchanged,
    "the-generation-counts-changes-of-the-spec" => generation,
    "a-read-at-a-version-waits-or-is-refused" => read_at,
    "bad-keys-of-a-config-map-are-refused" => bad_keys,
}

fn mk_config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// The code and the reason, where the message shows objects, parsers or storage.
pub(super) fn verdict(answer: &Answer) -> Value {
    json!({"code": answer.code, "reason": answer.at("reason")})
}

fn with_metadata(metadata: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}

async fn lives(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("configmaps"), lab.path("configmaps/a"));
    t.note("create", &lab.post(&all, &mk_config_map("a", json!({"k": "1"}))).await?);
    t.note("get", &lab.get(&one).await?);
    t.note("create again", &lab.post(&all, &mk_config_map("a", json!({}))).await?);
    t.note("update", &lab.put(&one, &mk_config_map("a", json!({"k": "2"}))).await?);
    t.note("delete", &lab.delete(&one).await?);
    t.note("get what is gone", &lab.get(&one).await?);
    t.note("delete what is gone", &lab.delete(&one).await?);
    t.note(
        "update what is gone",
        &lab.put(&one, &mk_config_map("a", json!({}))).await?,
    );
    Ok(())
}

async fn generated(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    let generate = |prefix: &str| with_metadata(json!({"generateName": prefix}));
    let answer = lab.post(&all, &generate("web-")).await?;
    t.note("create", &answer);
    t.note("length", &answer.text("metadata/name").len());
    let again = lab.post(&all, &generate("web-")).await?;
    t.note("once more", &again);
    let both = with_metadata(json!({"name": "fixed", "generateName": "web-"}));
    t.note("name and prefix", &lab.post(&all, &both).await?);
    let long = lab.post(&all, &generate(&"p".repeat(70))).await?;
    t.note("length with a long prefix", &long.text("metadata/name").len());
    t.note(
        "bad prefix",
        &lab.post(&all, &generate("Web_")).await?.only(&[]).get("code").cloned(),
    );
    Ok(())
}

async fn nameless(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let bare = with_metadata(json!({}));
    t.note("create", &lab.post(&lab.path("configmaps"), &bare).await?);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}});
    t.note("create a namespace", &lab.post("/api/v1/namespaces", &namespace).await?);
    Ok(())
}

async fn stale(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let mut old = lab
        .make(&lab.path("configmaps"), &mk_config_map("a", json!({"k": "1"})))
        .await?
        .body;
    t.note("update", &lab.put(&one, &mk_config_map("a", json!({"k": "2"}))).await?);
    old["data"]["k"] = json!("3");
    t.note("update what was", &lab.put(&one, &old).await?);
    let patch = json!({"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"k": "4"}});
    t.note("patch what was", &lab.patch(&one, PatchKind::Merge, &patch).await?);
    t.note("get", &lab.get(&one).await?.only(&["data"]));
    Ok(())
}

async fn other_uid(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let mut object = lab
        .make(&lab.path("configmaps"), &mk_config_map("a", json!({})))
        .await?
        .body;
    object["metadata"]["uid"] = json!("11111111-2222-3333-4444-555555555555");
    t.note("update", &verdict(&lab.put(&one, &object).await?));
    let patch = json!({"metadata": {"uid": "11111111-2222-3333-4444-555555555555"}});
    t.note("patch", &verdict(&lab.patch(&one, PatchKind::Merge, &patch).await?));
    Ok(())
}

async fn preconditions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let first = lab
        .make(&lab.path("configmaps"), &mk_config_map("a", json!({})))
        .await?;
    let second = lab
        .put(&one, &mk_config_map("a", json!({"k": "1"})))
        .await?
        .expect_ok("update")?;
    t.alias(first.uid(), "own");
    t.alias(first.revision(), "first");
    t.alias(second.revision(), "second");
    let options =
        |preconditions: Value| json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
    let delete = async |preconditions: Value| lab.call(Method::DELETE, &one, Some(&options(preconditions))).await;
    t.note(
        "another uid",
        &delete(json!({"uid": "11111111-2222-3333-4444-555555555555"})).await?,
    );
    t.note(
        "an old version",
        &delete(json!({"resourceVersion": first.revision()})).await?,
    );
    let both = json!({"uid": first.uid(), "resourceVersion": second.revision()});
    t.note("both as they are", &delete(both).await?);
    Ok(())
}

async fn unknown_fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("services");
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "lables": {}},
            "spec": {"clusterIP": "None", "ports": [{"port": 80, "prot": 1}], "foo": {"bar": 1}}})
    };
    for validation in ["Strict", "Warn", "Ignore", "Never"] {
        let name = validation.to_lowercase();
        let answer = lab
            .post(&format!("{all}?fieldValidation={validation}"), &service(&name))
            .await?;
        t.note(validation, &answer.only(&["spec/ports", "spec/foo"]));
    }
    let warned = lab.post(&all, &service("unsaid")).await?;
    t.note("unsaid", &warned.only(&["metadata/name"]));
    let patch = json!({"spec": {"foo": 1}});
    let path = format!("{}?fieldValidation=Warn", lab.path("services/warn"));
    t.note(
        "merge patch",
        &lab.patch(&path, PatchKind::Merge, &patch).await?.only(&["spec/foo"]),
    );
    t.note(
        "strategic patch",
        &lab.patch(&path, PatchKind::Strategic, &patch)
            .await?
            .only(&["spec/foo"]),
    );
    Ok(())
}

async fn duplicate_fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for validation in ["Strict", "Warn", "Ignore"] {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{}"}},"data":{{"k":"1","k":"2"}},"immutable":false,"immutable":false}}"#,
            validation.to_lowercase()
        );
        let answer = lab
            .request(
                Method::POST,
                format!("{}?fieldValidation={validation}", lab.path("configmaps")),
            )
            .header("content-type", "application/json")
            .raw(body)
            .send()
            .await?;
        t.note(validation, &answer.only(&["data", "immutable"]));
    }
    Ok(())
}

async fn dry_run(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("configmaps"), lab.path("configmaps/a"));
    let dry = |path: &str| format!("{path}?dryRun=All");
    t.note(
        "create",
        &lab.post(&dry(&all), &mk_config_map("a", json!({})))
            .await?
            .only(&["metadata/name"]),
    );
    t.note("get", &lab.get(&one).await?);
    lab.make(&all, &mk_config_map("a", json!({"k": "1"}))).await?;
    t.note(
        "create again",
        &lab.post(&dry(&all), &mk_config_map("a", json!({}))).await?,
    );
    t.note(
        "update",
        &lab.put(&dry(&one), &mk_config_map("a", json!({"k": "2"})))
            .await?
            .only(&["data"]),
    );
    let patch = json!({"data": {"k": "3"}});
    t.note(
        "patch",
        &lab.patch(&dry(&one), PatchKind::Merge, &patch).await?.only(&["data"]),
    );
    t.note("delete", &lab.delete(&dry(&one)).await?);
    t.note("get at the end", &lab.get(&one).await?.only(&["data"]));
    t.note("another word", &lab.delete(&format!("{one}?dryRun=true")).await?);
    Ok(())
}

async fn bad_names(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for name in ["Upper", "with_underscore", "-begins", "a/b", "..", &"l".repeat(254)] {
        let answer = lab
            .post(&lab.path("configmaps"), &mk_config_map(name, json!({})))
            .await?;
        t.note(if name.len() > 20 { "too long" } else { name }, &answer);
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "0.svc"},
        "spec": {"clusterIP": "None", "ports": [{"port": 1}]}});
    t.note("service", &lab.post(&lab.path("services"), &service).await?);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dotted.name"}});
    t.note("namespace", &lab.post("/api/v1/namespaces", &namespace).await?);
    Ok(())
}

async fn bad_labels(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    for (what, labels) in [
        ("value with a space", json!({"a": "b c"})),
        ("long value", json!({"a": "v".repeat(64)})),
        ("empty key", json!({"": "v"})),
        ("bad prefix", json!({"Ex_ample.com/a": "v"})),
        ("two slashes", json!({"a/b/c": "v"})),
        ("bad name", json!({"-a": "v"})),
    ] {
        let answer = lab
            .post(&all, &with_metadata(json!({"name": "a", "labels": labels})))
            .await?;
        t.note(what, &answer);
    }
    let annotations = with_metadata(json!({"name": "a", "annotations": {"Upper.com/x y": "v"}}));
    t.note("annotation", &lab.post(&all, &annotations).await?);
    let fine = with_metadata(
        json!({"name": "a", "labels": {"example.com/a_b.c": "", "x": "A-1"}, "annotations": {"UPPER": "any: {}"}}),
    );
    t.note(
        "good ones",
        &lab.post(&all, &fine)
            .await?
            .only(&["metadata/labels", "metadata/annotations"]),
    );
    Ok(())
}

/// The fields that a refusal names.
fn causes(answer: &Answer) -> Vec<Value> {
    let causes = answer.at("details/causes");
    let fields = causes
        .as_array()
        .into_iter()
        .flatten()
        .map(|cause| cause["field"].clone());
    fields.collect()
}

async fn bad_owners(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u-1", "controller": true});
    let mut second = owner.clone();
    second["uid"] = json!("u-2");
    for (what, owners) in [
        (
            "nothing said",
            json!([{"apiVersion": "", "kind": "", "name": "", "uid": ""}]),
        ),
        ("two controllers", json!([owner, second])),
        (
            "bad version",
            json!([{"apiVersion": "a/b/c", "kind": "K", "name": "o", "uid": "u"}]),
        ),
    ] {
        let answer = lab
            .post(&all, &with_metadata(json!({"name": "a", "ownerReferences": owners})))
            .await?;
        t.note(what, &verdict(&answer));
        t.note(&format!("fields of {what}"), &causes(&answer));
    }
    Ok(())
}

async fn new_with_version(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    let object = with_metadata(json!({"name": "a", "resourceVersion": "12"}));
    t.note("create", &lab.post(&all, &object).await?);
    let object = with_metadata(
        json!({"name": "a", "uid": "11111111-2222-3333-4444-555555555555", "creationTimestamp": "2020-01-01T00:00:00Z", "generation": 7, "selfLink": "/x"}),
    );
    let answer = lab.post(&all, &object).await?;
    t.note("create with more", &answer);
    let kept = answer.uid() == "11111111-2222-3333-4444-555555555555"
        || answer.text("metadata/creationTimestamp").starts_with("2020");
    t.note("kept", &kept);
    Ok(())
}

async fn mismatches(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("configmaps"), lab.path("configmaps/a"));
    lab.make(&all, &mk_config_map("a", json!({}))).await?;
    t.note("another name", &lab.put(&one, &mk_config_map("b", json!({}))).await?);
    t.note("no name", &lab.put(&one, &with_metadata(json!({}))).await?);
    let elsewhere = with_metadata(json!({"name": "b", "namespace": "default"}));
    t.note("another namespace", &lab.post(&all, &elsewhere).await?);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    t.note("another kind", &verdict(&lab.put(&one, &secret).await?));
    let patch = json!({"metadata": {"name": "b"}});
    t.note("patch of the name", &lab.patch(&one, PatchKind::Merge, &patch).await?);
    let patch = json!({"metadata": {"namespace": "default"}});
    t.note(
        "patch of the namespace",
        &lab.patch(&one, PatchKind::Merge, &patch).await?,
    );
    Ok(())
}

async fn no_namespace(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = |rest: &str| format!("/api/v1/namespaces/none-{}/{rest}", lab.id);
    t.note(
        "create",
        &lab.post(&path("configmaps"), &mk_config_map("a", json!({}))).await?,
    );
    t.note("get", &lab.get(&path("configmaps/a")).await?);
    let list = lab.get(&path("configmaps")).await?;
    t.note("list", &list.only(&["kind", "items"]));
    let apply = lab
        .apply(&path("configmaps/a"), "m", &mk_config_map("a", json!({})))
        .await?;
    t.note("apply", &apply);
    Ok(())
}

async fn system_fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.make(&lab.path("configmaps"), &mk_config_map("a", json!({})))
        .await?;
    let patch = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z", "selfLink": "/x"}});
    let answer = lab.patch(&one, PatchKind::Merge, &patch).await?;
    t.note("patch", &answer);
    t.note("kept", &answer.text("metadata/creationTimestamp").starts_with("2020"));
    let patch = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}});
    let answer = lab.patch(&one, PatchKind::Merge, &patch).await?;
    t.note("deletion", &verdict(&answer));
    Ok(())
}

async fn unchanged(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let made = lab
        .make(&lab.path("configmaps"), &mk_config_map("a", json!({"k": "1"})))
        .await?;
    let versions = ["metadata/resourceVersion"];
    t.note("create", &made.only(&versions));
    t.note("the same", &lab.put(&one, &made.body).await?.only(&versions));
    t.note(
        "the same without a version",
        &lab.put(&one, &mk_config_map("a", json!({"k": "1"})))
            .await?
            .only(&versions),
    );
    t.note(
        "empty patch",
        &lab.patch(&one, PatchKind::Merge, &json!({})).await?.only(&versions),
    );
    let patch = json!({"data": {"k": "1"}, "metadata": {"labels": {}}});
    t.note(
        "patch to the same",
        &lab.patch(&one, PatchKind::Strategic, &patch).await?.only(&versions),
    );
    t.note(
        "a change",
        &lab.patch(&one, PatchKind::Merge, &json!({"data": {"k": "2"}}))
            .await?
            .only(&versions),
    );
    Ok(())
}

async fn generation(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a", "generation": 5},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    let plain = |answer: &Answer| answer.only(&["metadata/generation", "spec/maxUnavailable", "metadata/labels"]);
    t.note(
        "create",
        &plain(&lab.make(&lab.path("poddisruptionbudgets"), &budget).await?),
    );
    let one = lab.path("poddisruptionbudgets/a");
    let patch = json!({"metadata": {"labels": {"x": "y"}}});
    t.note("label", &plain(&lab.patch(&one, PatchKind::Merge, &patch).await?));
    let patch = json!({"spec": {"maxUnavailable": 2}});
    t.note("spec", &plain(&lab.patch(&one, PatchKind::Merge, &patch).await?));
    t.note("spec again", &plain(&lab.patch(&one, PatchKind::Merge, &patch).await?));
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "a"}, "spec": {"hard": {"pods": "1"}}, "status": {"used": {"pods": "9"}}});
    let quota = lab.post(&lab.path("resourcequotas"), &quota).await?;
    t.note(
        "kind without a generation",
        &quota.only(&["metadata/generation", "status/used"]),
    );
    Ok(())
}

async fn read_at(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let made = lab
        .make(&lab.path("configmaps"), &mk_config_map("a", json!({})))
        .await?;
    let name = ["metadata/name"];
    let at = async |version: &str| lab.get(&format!("{one}?resourceVersion={version}")).await;
    t.note("its version", &at(&made.revision()).await?.only(&name));
    t.note("rubbish", &at("abc").await?);
    t.note("a negative one", &at("-1").await?);
    Ok(())
}

async fn bad_keys(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    t.note(
        "slash",
        &lab.post(&all, &mk_config_map("a", json!({"a/b": "1"}))).await?,
    );
    t.note("dots", &lab.post(&all, &mk_config_map("a", json!({"..": "1"}))).await?);
    let mut both = mk_config_map("a", json!({"k": "1"}));
    both["binaryData"] = json!({"k": "AA=="});
    t.note("text and bytes", &lab.post(&all, &both).await?);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"a/b": "1"}});
    t.note("secret", &lab.post(&lab.path("secrets"), &secret).await?);
    Ok(())
}
