//! How objects end: finalizers, grace, owners and their dependents, namespaces.

use anyhow::Result;
use serde_json::{Value, json};

use super::samples::{mk_config_map, mk_pod, mk_running_pod};
use crate::conformance::{Answer, Area, Lab, PatchKind, Transcript, cases};

cases! { Area::ApiMachinery,
    "a-finalizer-holds-a-deleted-object" => held,
    "a-dying-object-gets-no-new-finalizers" => no_new_finalizers,
    "removing-the-last-finalizer-by-an-update-ends-an-object" => ended_by_update,
    "finalizers-need-good-names" => finalizer_names,
    "marks-of-deletion-are-not-the-clients" => own_marks,
    "a-pod-that-runs-is-deleted-with-grace" => grace,
    "a-pod-that-waits-is-deleted-at-once" => no_grace,
    "a-deletion-in-the-foreground-waits-for-the-dependents" => foreground,
    "a-deletion-in-the-background-takes-the-dependents-later" => background,
    "a-deletion-may-leave-orphans" => orphans,
    "a-dependent-without-its-owner-is-collected" => absent_owner,
    "a-dependent-stays-while-it-has-another-owner" => two_owners,
    "owner-references-are-checked" => owner_references,
    "a-policy-of-deletion-that-is-not-known-is-refused" => policies,
    "a-namespace-ends-with-what-is-in-it" => namespace,
    "a-dying-namespace-takes-nothing-new" => dying_namespace,
    "a-namespace-gets-its-label-and-its-finalizer" => namespace_defaults,
}

fn mk_held(name: &str, finalizers: &[&str]) -> Value {
    let mut object = mk_config_map(name);
    object["metadata"]["finalizers"] = json!(finalizers);
    object
}

const MARKS: [&str; 5] = [
    "metadata/name",
    "metadata/finalizers",
    "metadata/deletionTimestamp",
    "metadata/deletionGracePeriodSeconds",
    "data",
];

async fn held(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.make(
        &lab.path("configmaps"),
        &mk_held("a", &["example.com/hold", "example.com/wait"]),
    )
    .await?;
    t.note("delete", &lab.delete(&one).await?);
    t.note("get", &lab.get(&one).await?.only(&MARKS));
    t.note("delete again", &lab.delete(&one).await?.only(&MARKS));
    t.note(
        "change",
        &lab.patch(&one, PatchKind::Merge, &json!({"data": {"k": "2"}}))
            .await?
            .only(&MARKS),
    );
    t.note(
        "create again",
        &lab.post(&lab.path("configmaps"), &mk_config_map("a")).await?,
    );
    let release = |left: &[&str]| json!({"metadata": {"finalizers": left}});
    t.note(
        "release one",
        &lab.patch(&one, PatchKind::Merge, &release(&["example.com/wait"]))
            .await?
            .only(&MARKS),
    );
    t.note(
        "release both",
        &lab.patch(&one, PatchKind::Merge, &release(&[])).await?.only(&MARKS),
    );
    t.note("gone", &lab.get(&one).await?);
    Ok(())
}

async fn no_new_finalizers(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    lab.make(&lab.path("configmaps"), &mk_held("a", &["example.com/hold"]))
        .await?;
    lab.delete(&one).await?.expect_ok("delete")?;
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    t.note("one more", &lab.patch(&one, PatchKind::Merge, &more).await?);
    let other = json!({"metadata": {"finalizers": ["example.com/more"]}});
    t.note("another one", &lab.patch(&one, PatchKind::Merge, &other).await?);
    let alive = json!({"metadata": {"deletionTimestamp": null}});
    t.note(
        "alive again",
        &lab.patch(&one, PatchKind::Merge, &alive).await?.only(&MARKS),
    );
    lab.patch(&one, PatchKind::Merge, &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect_ok("release")?;
    Ok(())
}

async fn ended_by_update(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let one = lab.path("configmaps/a");
    let mut watch = lab
        .watch(&lab.path("configmaps?fieldSelector=metadata.name%3Da"))
        .await?;
    lab.make(&lab.path("configmaps"), &mk_held("a", &["example.com/hold"]))
        .await?;
    lab.delete(&one).await?.expect_ok("delete")?;
    t.note("update", &lab.put(&one, &mk_config_map("a")).await?.only(&MARKS));
    let events = watch.until("deleted", |event| event["type"] == "DELETED").await?;
    let kinds: Vec<Value> = events
        .iter()
        .map(|event| json!([event["type"], event["object"]["metadata"]["finalizers"]]))
        .collect();
    t.note("events", &kinds);
    Ok(())
}

async fn finalizer_names(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    t.note("no domain", &lab.post(&all, &mk_held("a", &["hold"])).await?);
    t.note(
        "a standard one",
        &lab.post(&all, &mk_held("b", &["orphan"])).await?.only(&MARKS),
    );
    t.note("release", &release(lab, "b").await?.code);
    Ok(())
}

async fn own_marks(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut object = mk_held("a", &["example.com/hold"]);
    object["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    object["metadata"]["deletionGracePeriodSeconds"] = json!(9);
    object["metadata"]["creationTimestamp"] = json!("2020-01-02T03:04:05Z");
    object["metadata"]["selfLink"] = json!("/somewhere");
    object["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    let created = lab.post(&lab.path("configmaps"), &object).await?;
    t.note("create", &created);
    t.note(
        "creation is now",
        &!created.text("metadata/creationTimestamp").starts_with("2020"),
    );
    let one = lab.path("configmaps/a");
    lab.patch(&one, PatchKind::Merge, &json!({"metadata": {"finalizers": null}}))
        .await?
        .expect_ok("release")?;
    Ok(())
}

async fn grace(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut pod = mk_running_pod("a");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(7);
    pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lab.make(&lab.path("pods"), &pod).await?;
    let one = lab.path("pods/a");
    lab.until("running", &one, |answer| answer.text("status/phase") == "Running")
        .await?;
    let deleted = lab.delete(&one).await?;
    t.note(
        "delete",
        &deleted.only(&[
            "kind",
            "metadata/deletionTimestamp",
            "metadata/deletionGracePeriodSeconds",
        ]),
    );
    let shorter = lab.delete(&format!("{one}?gracePeriodSeconds=1")).await?;
    t.note("sooner", &json!([shorter.code]));
    lab.patch(&one, PatchKind::Merge, &json!({"metadata": {"finalizers": null}}))
        .await?;
    t.note("gone", &lab.until_gone(&one).await?.code);
    Ok(())
}

async fn no_grace(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("pods"), &mk_pod("a")).await?;
    let deleted = lab.delete(&lab.path("pods/a")).await?;
    t.note(
        "delete",
        &deleted.only(&[
            "kind",
            "status/phase",
            "metadata/deletionGracePeriodSeconds",
            "metadata/deletionTimestamp",
        ]),
    );
    t.note("gone", &lab.get(&lab.path("pods/a")).await?.code);
    lab.make(&lab.path("pods"), &mk_pod("b")).await?;
    t.note(
        "negative",
        &lab.delete(&lab.path("pods/b?gracePeriodSeconds=-1"))
            .await?
            .only(&["kind"]),
    );
    Ok(())
}

/// A config map that belongs to others, given by name and uid.
fn mk_dependent(name: &str, owners: &[(&str, &str)]) -> Value {
    let mut object = mk_config_map(name);
    let owners = owners.iter().map(|(name, uid)| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true}));
    object["metadata"]["ownerReferences"] = owners.collect();
    object
}

/// An owner and its dependent, which has a finalizer if `hold`.
async fn family(lab: &Lab, hold: bool) -> Result<()> {
    let owner = lab.make(&lab.path("configmaps"), &mk_config_map("owner")).await?.uid();
    let mut child = mk_dependent("child", &[("owner", &owner)]);
    if hold {
        child["metadata"]["finalizers"] = json!(["example.com/hold"]);
    }
    lab.make(&lab.path("configmaps"), &child).await?;
    Ok(())
}

async fn release(lab: &Lab, name: &str) -> Result<Answer> {
    let patch = json!({"metadata": {"finalizers": null}});
    lab.patch(&lab.path(&format!("configmaps/{name}")), PatchKind::Merge, &patch)
        .await
}

async fn foreground(lab: &Lab, t: &mut Transcript) -> Result<()> {
    family(lab, true).await?;
    let (owner, child) = (lab.path("configmaps/owner"), lab.path("configmaps/child"));
    t.note(
        "delete",
        &lab.delete(&format!("{owner}?propagationPolicy=Foreground"))
            .await?
            .only(&MARKS),
    );
    let dying = |answer: &Answer| answer.at("metadata/deletionTimestamp").is_string();
    t.note("the dependent", &lab.until("dying", &child, dying).await?.only(&MARKS));
    t.note("the owner waits", &lab.get(&owner).await?.only(&MARKS));
    release(lab, "child").await?.expect_ok("release")?;
    lab.until_gone(&child).await?;
    t.note("the owner", &lab.until_gone(&owner).await?);
    Ok(())
}

async fn background(lab: &Lab, t: &mut Transcript) -> Result<()> {
    family(lab, false).await?;
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    t.note(
        "delete",
        &lab.call(http::Method::DELETE, &lab.path("configmaps/owner"), Some(&options))
            .await?,
    );
    t.note("the owner", &lab.get(&lab.path("configmaps/owner")).await?.code);
    t.note("the dependent", &lab.until_gone(&lab.path("configmaps/child")).await?);
    Ok(())
}

async fn orphans(lab: &Lab, t: &mut Transcript) -> Result<()> {
    family(lab, false).await?;
    let (owner, child) = (lab.path("configmaps/owner"), lab.path("configmaps/child"));
    t.note(
        "delete",
        &lab.delete(&format!("{owner}?propagationPolicy=Orphan"))
            .await?
            .only(&MARKS),
    );
    lab.until_gone(&owner).await?;
    t.note(
        "the dependent",
        &lab.get(&child)
            .await?
            .only(&["metadata/ownerReferences", "metadata/deletionTimestamp"]),
    );
    Ok(())
}

async fn two_owners(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    let one = lab.make(&all, &mk_config_map("one")).await?.uid();
    let two = lab.make(&all, &mk_config_map("two")).await?.uid();
    lab.make(&all, &mk_dependent("child", &[("one", &one), ("two", &two)]))
        .await?;
    lab.delete(&lab.path("configmaps/one")).await?.expect_ok("delete")?;
    let child = lab.path("configmaps/child");
    let seen = lab
        .until("one owner", &child, |answer| {
            answer.at("metadata/ownerReferences/1").is_null()
        })
        .await?;
    t.note("one owner left", &seen.only(&["metadata/ownerReferences"]));
    lab.delete(&lab.path("configmaps/two")).await?.expect_ok("delete")?;
    t.note("none left", &lab.until_gone(&child).await?.code);
    Ok(())
}

async fn absent_owner(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let child = mk_dependent("child", &[("nobody", "00000000-0000-0000-0000-000000000001")]);
    t.note(
        "create",
        &lab.post(&lab.path("configmaps"), &child)
            .await?
            .only(&["metadata/ownerReferences"]),
    );
    t.note("gone", &lab.until_gone(&lab.path("configmaps/child")).await?.code);
    Ok(())
}

async fn owner_references(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    let with = |owners: Value| {
        let mut object = mk_config_map("a");
        object["metadata"]["ownerReferences"] = owners;
        object
    };
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "00000000-0000-0000-0000-000000000001", "controller": true});
    let mut second = owner.clone();
    second["name"] = json!("p");
    second["uid"] = json!("00000000-0000-0000-0000-000000000002");
    t.note("two controllers", &lab.post(&all, &with(json!([owner, second]))).await?);
    let empty = json!({"apiVersion": "", "kind": "", "name": "", "uid": ""});
    t.note("nothing in it", &lab.post(&all, &with(json!([empty]))).await?);
    let mut event = owner.clone();
    event["kind"] = json!("Event");
    t.note("an event", &lab.post(&all, &with(json!([event]))).await?);
    Ok(())
}

async fn policies(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("configmaps"), &mk_config_map("a")).await?;
    let one = lab.path("configmaps/a");
    t.note(
        "unknown",
        &lab.delete(&format!("{one}?propagationPolicy=Sideways")).await?,
    );
    let both = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "orphanDependents": true});
    t.note("both", &lab.call(http::Method::DELETE, &one, Some(&both)).await?);
    let other = json!({"kind": "ConfigMap", "apiVersion": "v1"});
    t.note(
        "options of another kind",
        &lab.call(http::Method::DELETE, &one, Some(&other)).await?,
    );
    t.note("still there", &lab.get(&one).await?.code);
    Ok(())
}

async fn mk_namespace(lab: &Lab) -> Result<String> {
    let name = format!("more-{}", lab.id);
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    lab.make("/api/v1/namespaces", &body).await?;
    let path = format!("/api/v1/namespaces/{name}");
    lab.clean_up(path.clone()).await;
    Ok(path)
}

async fn namespace(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_namespace(lab).await?;
    lab.make(&format!("{path}/configmaps"), &mk_config_map("plain")).await?;
    lab.make(&format!("{path}/configmaps"), &mk_held("held", &["example.com/hold"]))
        .await?;
    let deleted = lab.delete(&path).await?;
    t.note(
        "delete",
        &deleted.only(&["kind", "spec", "status/phase", "metadata/deletionTimestamp"]),
    );
    lab.until_gone(&format!("{path}/configmaps/plain")).await?;
    let held = lab
        .until("dying", &format!("{path}/configmaps/held"), |answer| {
            answer.at("metadata/deletionTimestamp").is_string()
        })
        .await?;
    t.note("what is held", &held.only(&MARKS));
    t.note("delete again", &lab.delete(&path).await?.only(&["status/phase"]));
    let patch = json!({"metadata": {"finalizers": null}});
    lab.patch(&format!("{path}/configmaps/held"), PatchKind::Merge, &patch)
        .await?
        .expect_ok("release")?;
    t.note("gone", &lab.until_gone(&path).await?);
    Ok(())
}

async fn dying_namespace(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_namespace(lab).await?;
    lab.make(&format!("{path}/configmaps"), &mk_held("held", &["example.com/hold"]))
        .await?;
    lab.delete(&path).await?.expect_ok("delete")?;
    let refused = |answer: &Answer| answer.code != 201;
    let body = mk_config_map("new");
    let answer = lab
        .retry(
            "refused",
            || async { lab.post(&format!("{path}/configmaps?dryRun=All"), &body).await },
            refused,
        )
        .await?;
    t.note("create", &answer);
    let change = lab
        .patch(
            &format!("{path}/configmaps/held"),
            PatchKind::Merge,
            &json!({"data": {"k": "3"}}),
        )
        .await?;
    t.note("change", &change.only(&MARKS[4..]));
    let patch = json!({"metadata": {"finalizers": null}});
    lab.patch(&format!("{path}/configmaps/held"), PatchKind::Merge, &patch)
        .await?
        .expect_ok("release")?;
    lab.until_gone(&path).await?;
    Ok(())
}

async fn namespace_defaults(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let path = mk_namespace(lab).await?;
    t.note("get", &lab.get(&path).await?);
    let patch = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "other"}}});
    t.note(
        "another label",
        &lab.patch(&path, PatchKind::Merge, &patch)
            .await?
            .only(&["metadata/labels"]),
    );
    t.note(
        "delete what must stay",
        &lab.delete("/api/v1/namespaces/default?dryRun=All").await?,
    );
    Ok(())
}
