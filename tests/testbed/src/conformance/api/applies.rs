//! Server-side apply: who owns which fields, and what follows.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::patches::trimmed;
use crate::conformance::{Answer, Area, Lab, PatchKind, Transcript, cases};

cases! { Area::ApiMachinery,
    "an-apply-creates-and-then-changes-nothing" => creates,
    "an-apply-over-anothers-field-conflicts" => conflicts,
    "a-forced-apply-takes-the-field" => forces,
    "what-is-applied-no-more-is-removed" => removes,
    "a-shared-field-stays-while-one-declares-it" => shares,
    "an-update-owns-what-it-changes" => updates,
    "an-apply-without-a-manager-is-refused" => without_manager,
    "a-bad-apply-is-refused" => bad_applies,
    "an-apply-with-a-stale-version-conflicts" => stale,
    "an-apply-of-the-status-owns-it-apart" => status,
    "lists-with-keys-are-owned-element-by-element" => keyed_lists,
    "lists-of-words-and-atomic-maps-are-owned-as-they-merge" => sets_and_atoms,
    "the-managers-records-can-be-cleared" => cleared,
    "a-dry-run-of-an-apply-writes-nothing" => dry_run,
    "an-apply-can-be-yaml" => yaml,
    "an-unknown-field-of-an-apply-is-refused-or-warned-of" => unknown_fields,
    "an-empty-map-is-owned-like-a-value" => empties,
    "an-apply-takes-over-from-an-update-of-the-same-values" => takes_over,
}

fn mk(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

/// The code, these paths and the managers' records in the order of their names; a refusal as it is.
fn owned(t: &mut Transcript, what: &str, answer: &Answer, paths: &[&str]) {
    const RECORDS: &str = "metadata/managedFields";
    let mut noted = answer.only(&[paths, &[RECORDS]].concat());
    if let Some(records) = noted["body"].get_mut(RECORDS).and_then(Value::as_array_mut) {
        records.sort_by_key(|record| ["manager", "operation", "subresource"].map(|key| record[key].to_string()));
    }
    t.note_whole(what, noted);
}

async fn creates(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let made = lab.apply(&one, "first", &mk(&json!({"k": "1"}))).await?;
    owned(
        t,
        "apply",
        &made,
        &["data", "metadata/resourceVersion", "metadata/name"],
    );
    let same = lab.apply(&one, "first", &mk(&json!({"k": "1"}))).await?;
    t.note("again", &same.only(&["metadata/resourceVersion"]));
    let change = lab.apply(&one, "first", &mk(&json!({"k": "2"}))).await?;
    t.note("change", &change.only(&["metadata/resourceVersion", "data"]));
    Ok(())
}

async fn conflicts(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.apply(&one, "first", &mk(&json!({"k": "1", "l": "1"})))
        .await?
        .expect_ok("apply")?;
    t.note("one field", &lab.apply(&one, "second", &mk(&json!({"k": "2"}))).await?);
    t.note(
        "two fields",
        &lab.apply(&one, "second", &mk(&json!({"k": "2", "l": "2"}))).await?,
    );
    let other = lab.apply(&one, "second", &mk(&json!({"m": "1"}))).await?;
    owned(t, "another field", &other, &["data"]);
    Ok(())
}

async fn forces(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.apply(&one, "first", &mk(&json!({"k": "1", "l": "1"})))
        .await?
        .expect_ok("apply")?;
    let forced = lab
        .apply(&format!("{one}?force=true"), "second", &mk(&json!({"k": "2"})))
        .await?;
    owned(t, "force", &forced, &["data"]);
    t.note(
        "the first again",
        &lab.apply(&one, "first", &mk(&json!({"k": "1", "l": "1"}))).await?,
    );
    let merge = lab
        .patch(&format!("{one}?force=true"), PatchKind::Merge, &json!({}))
        .await?;
    t.note("force of a merge patch", &merge);
    Ok(())
}

async fn removes(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let mut both = mk(&json!({"k": "1", "l": "1"}));
    both["metadata"]["labels"] = json!({"x": "1"});
    lab.apply(&one, "first", &both).await?.expect_ok("apply")?;
    lab.patch(&one, PatchKind::Merge, &json!({"data": {"m": "1"}}))
        .await?
        .expect_ok("patch")?;
    let less = lab.apply(&one, "first", &mk(&json!({"k": "1"}))).await?;
    owned(t, "less", &less, &["data", "metadata/labels"]);
    let nothing = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    owned(t, "nothing", &lab.apply(&one, "first", &nothing).await?, &["data"]);
    Ok(())
}

async fn shares(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.apply(&one, "first", &mk(&json!({"k": "1"})))
        .await?
        .expect_ok("apply")?;
    owned(
        t,
        "shared",
        &lab.apply(&one, "second", &mk(&json!({"k": "1"}))).await?,
        &["data"],
    );
    owned(
        t,
        "one lets go",
        &lab.apply(&one, "first", &mk(&json!({}))).await?,
        &["data"],
    );
    Ok(())
}

async fn updates(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let made = lab
        .post(
            &format!("{}?fieldManager=maker", lab.path("configmaps")),
            &mk(&json!({"k": "1", "l": "1"})),
        )
        .await?;
    owned(t, "create", &made, &[]);
    let put = lab.put(&one, &mk(&json!({"k": "1", "l": "2"}))).await?;
    owned(t, "update by another", &put, &["data"]);
    let patch = json!({"data": {"k": null, "m": "1"}});
    owned(
        t,
        "patch",
        &lab.patch(&format!("{one}?fieldManager=patcher"), PatchKind::Merge, &patch)
            .await?,
        &["data"],
    );
    t.note(
        "apply over an update",
        &lab.apply(&one, "first", &mk(&json!({"l": "3"}))).await?,
    );
    let long = lab
        .put(&format!("{one}?fieldManager={}", "m".repeat(129)), &mk(&json!({})))
        .await?;
    t.note("a long name", &long);
    Ok(())
}

async fn without_manager(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    t.note("apply", &lab.patch(&one, PatchKind::Apply, &mk(&json!({}))).await?);
    t.note("get", &lab.get(&one).await?.code);
    Ok(())
}

async fn bad_applies(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let bare = |body: Value| async move { lab.apply(&lab.path("configmaps/a"), "m", &body).await };
    t.note("no kind", &bare(json!({"metadata": {"name": "a"}})).await?.code);
    t.note(
        "another kind",
        &bare(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}))
            .await?
            .code,
    );
    t.note(
        "another name",
        &bare(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}})).await?,
    );
    t.note(
        "no name",
        &bare(json!({"apiVersion": "v1", "kind": "ConfigMap"})).await?.code,
    );
    let records = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "v1", "time": "2024-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {}}]}});
    t.note("with records", &lab.apply(&one, "m", &records).await?);
    let mut uid = mk(&json!({}));
    uid["metadata"]["uid"] = json!("11111111-2222-3333-4444-555555555555");
    t.note(
        "a uid of nothing",
        &lab.apply(&lab.path("configmaps/none"), "m", &{
            let mut body = uid.clone();
            body["metadata"]["name"] = json!("none");
            body
        })
        .await?,
    );
    Ok(())
}

async fn stale(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let made = lab.apply(&one, "first", &mk(&json!({"k": "1"}))).await?;
    lab.apply(&one, "first", &mk(&json!({"k": "2"})))
        .await?
        .expect_ok("apply")?;
    let mut old = mk(&json!({"k": "3"}));
    old["metadata"]["resourceVersion"] = json!(made.revision());
    t.note("apply", &lab.apply(&one, "first", &old).await?);
    t.note("forced", &lab.apply(&format!("{one}?force=true"), "first", &old).await?);
    let mut none = mk(&json!({}));
    none["metadata"] = json!({"name": "none", "resourceVersion": made.revision()});
    t.note(
        "of nothing",
        &lab.apply(&lab.path("configmaps/none"), "first", &none).await?,
    );
    Ok(())
}

async fn status(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("services/a");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    lab.apply(&one, "first", &service).await?.expect_ok("apply")?;
    let status = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 81}]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let answer = lab.apply(&format!("{one}/status"), "first", &status).await?;
    owned(t, "status", &answer, &["spec/ports", "status"]);
    let main = lab.apply(&one, "first", &service).await?;
    owned(t, "main", &main, &["spec/ports", "status"]);
    Ok(())
}

async fn keyed_lists(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("podtemplates/a");
    let template = |containers: Value| {
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}})
    };
    let seen = ["template/spec/containers"];
    let first = template(
        json!([{"name": "one", "image": "one:1", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}]),
    );
    owned(t, "first", &trimmed(lab.apply(&one, "first", &first).await?), &seen);
    let second = template(
        json!([{"name": "two", "image": "two:1"}, {"name": "one", "env": [{"name": "B", "value": "2"}], "ports": [{"containerPort": 80, "protocol": "UDP"}]}]),
    );
    owned(t, "second", &trimmed(lab.apply(&one, "second", &second).await?), &seen);
    let image = template(json!([{"name": "one", "image": "one:2"}]));
    t.note("conflict", &lab.apply(&one, "second", &image).await?);
    let less = template(json!([{"name": "two", "image": "two:1"}]));
    owned(t, "less", &trimmed(lab.apply(&one, "second", &less).await?), &seen);
    Ok(())
}

async fn sets_and_atoms(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("podtemplates/a");
    let template = |finalizers: Value, spec: Value| {
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a", "finalizers": finalizers},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}})
    };
    let container = json!([{"name": "one", "image": "one:1"}]);
    let seen = [
        "metadata/finalizers",
        "template/spec/nodeSelector",
        "template/spec/tolerations",
    ];
    let first = template(
        json!(["example.com/a"]),
        json!({"containers": container, "nodeSelector": {"x": "1"}, "tolerations": [{"key": "k", "operator": "Exists"}]}),
    );
    owned(t, "first", &lab.apply(&one, "first", &first).await?, &seen);
    let second = template(json!(["example.com/b"]), json!({"containers": container}));
    owned(t, "second", &lab.apply(&one, "second", &second).await?, &seen);
    let atom = template(
        json!(["example.com/b"]),
        json!({"nodeSelector": {"y": "2"}, "tolerations": []}),
    );
    t.note("atoms", &lab.apply(&one, "second", &atom).await?);
    let mut less = template(json!([]), json!({"containers": container}));
    less["metadata"] = json!({"name": "a"});
    owned(t, "first lets go", &lab.apply(&one, "first", &less).await?, &seen);
    lab.patch(&one, PatchKind::Merge, &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect_ok("release")?;
    Ok(())
}

async fn cleared(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.apply(&one, "first", &mk(&json!({"k": "1"})))
        .await?
        .expect_ok("apply")?;
    let patch = json!({"metadata": {"managedFields": [{}]}});
    owned(t, "clear", &lab.patch(&one, PatchKind::Merge, &patch).await?, &["data"]);
    owned(
        t,
        "apply by another",
        &lab.apply(&one, "second", &mk(&json!({"k": "1"}))).await?,
        &["data"],
    );
    let patch = json!({"metadata": {"managedFields": []}});
    owned(
        t,
        "an empty list keeps them",
        &lab.patch(&one, PatchKind::Merge, &patch).await?,
        &[],
    );
    Ok(())
}

async fn dry_run(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let dry = format!("{one}?dryRun=All");
    owned(
        t,
        "create",
        &lab.apply(&dry, "first", &mk(&json!({"k": "1"}))).await?,
        &["data"],
    );
    t.note("get", &lab.get(&one).await?.code);
    lab.apply(&one, "first", &mk(&json!({"k": "1"})))
        .await?
        .expect_ok("apply")?;
    t.note("conflict", &lab.apply(&dry, "second", &mk(&json!({"k": "2"}))).await?);
    t.note(
        "change",
        &lab.apply(&dry, "first", &mk(&json!({"k": "2"}))).await?.only(&["data"]),
    );
    t.note("get at the end", &lab.get(&one).await?.only(&["data"]));
    Ok(())
}

async fn yaml(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels:\n    x: \"yes\"\ndata:\n  text: |\n    one\n    two\n";
    let answer = lab
        .request(Method::PATCH, format!("{}?fieldManager=m", lab.path("configmaps/a")))
        .header("content-type", "application/apply-patch+yaml")
        .raw(text)
        .send()
        .await?;
    t.note("apply", &answer.only(&["data", "metadata/labels"]));
    Ok(())
}

async fn unknown_fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let mut body = mk(&json!({"k": "1"}));
    body["datum"] = json!({"x": "1"});
    t.note("unsaid", &lab.apply(&one, "m", &body).await?.code);
    t.note(
        "strict",
        &lab.apply(&format!("{one}?fieldValidation=Strict"), "m", &body)
            .await?
            .code,
    );
    t.note(
        "ignore",
        &lab.apply(&format!("{one}?fieldValidation=Ignore"), "m", &body)
            .await?
            .code,
    );
    Ok(())
}

async fn empties(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let mut empty = mk(&json!({}));
    empty["metadata"]["labels"] = json!({"x": ""});
    owned(
        t,
        "empty map and text",
        &lab.apply(&one, "first", &empty).await?,
        &["data", "metadata/labels"],
    );
    Ok(())
}

async fn takes_over(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.make(&lab.path("configmaps"), &mk(&json!({"k": "1", "l": "1"})))
        .await?;
    owned(
        t,
        "apply the same",
        &lab.apply(&one, "first", &mk(&json!({"k": "1"}))).await?,
        &["data"],
    );
    t.note(
        "apply another value",
        &lab.apply(&one, "first", &mk(&json!({"k": "2"}))).await?,
    );
    let own = lab
        .apply(&format!("{one}?force=true"), "conformance", &mk(&json!({"k": "1"})))
        .await?;
    owned(t, "apply by the same name", &own, &["data"]);
    Ok(())
}
