//! Watches: what comes, in which order, and from which moment on.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::objects::verdict;
use crate::conformance::{Area, Lab, PatchKind, Transcript, Watch, cases, pick};

cases! { Area::ApiMachinery,
    "a-watch-tells-what-happens-in-order" => order,
    "a-watch-without-a-version-begins-with-what-is-there" => from_nothing,
    "a-watch-from-a-version-tells-what-came-after" => from_version,
    "an-object-enters-and-leaves-a-watched-selection" => transitions,
    "a-watch-of-one-name-tells-of-no-other" => one_name,
    "a-watch-can-begin-with-the-list-and-a-bookmark" => initial_events,
    "initial-events-need-their-parameters" => initial_events_refused,
    "a-watch-ends-after-its-timeout" => timeout,
    "a-watch-with-bad-parameters-is-refused" => refused,
    "what-changes-nothing-is-no-event" => silent,
    "a-finalizer-makes-a-change-before-the-end" => finalizer,
    "deleting-a-collection-tells-each-object" => collection,
    "a-watch-of-all-namespaces-tells-each" => everywhere,
}

fn mk_secret(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}})
}

/// What the next change says: its type and these fields of its object.
async fn change(watch: &mut Watch, what: &str) -> Result<Value> {
    let event = watch.change(what).await?;
    let paths = [
        "type",
        "object/metadata/name",
        "object/metadata/labels",
        "object/metadata/resourceVersion",
    ];
    Ok(pick(&event, &paths))
}

async fn now(lab: &Lab, resource: &str) -> Result<String> {
    Ok(lab.get(&lab.path(resource)).await?.expect_ok("list")?.revision())
}

async fn order(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    let mut watch = lab
        .watch(&format!("{all}?resourceVersion={}", now(lab, "secrets").await?))
        .await?;
    let made = lab.make(&all, &mk_secret("a", json!({}))).await?;
    t.note("created", &made);
    t.note("event of it", &watch.change("added").await?);
    let updated = lab
        .put(&lab.path("secrets/a"), &mk_secret("a", json!({"x": "1"})))
        .await?;
    t.note("updated", &updated.only(&["metadata/resourceVersion"]));
    t.note("event of the update", &change(&mut watch, "modified").await?);
    lab.delete(&lab.path("secrets/a")).await?.expect_ok("delete")?;
    t.note("event of the delete", &watch.change("deleted").await?);
    lab.make(&all, &mk_secret("a", json!({}))).await?;
    t.note("event of another", &watch.change("added").await?);
    watch.close();
    Ok(())
}

async fn from_nothing(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    for name in ["b", "a"] {
        lab.make(&all, &mk_secret(name, json!({}))).await?;
    }
    lab.put(&lab.path("secrets/a"), &mk_secret("a", json!({"x": "1"})))
        .await?
        .expect_ok("update")?;
    for query in ["", "?resourceVersion="] {
        let mut watch = lab.watch(&format!("{all}{query}")).await?;
        let mut seen = vec![change(&mut watch, "first").await?, change(&mut watch, "second").await?];
        seen.sort_by_key(|event| event["object/metadata/name"].to_string());
        t.note(&format!("what is there {query}"), &seen);
    }
    Ok(())
}

async fn from_version(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    let first = lab.make(&all, &mk_secret("a", json!({}))).await?;
    t.note("first", &first.only(&["metadata/resourceVersion"]));
    lab.make(&all, &mk_secret("b", json!({}))).await?;
    lab.put(&lab.path("secrets/a"), &mk_secret("a", json!({"x": "1"})))
        .await?
        .expect_ok("update")?;
    lab.delete(&lab.path("secrets/b")).await?.expect_ok("delete")?;
    let mut watch = lab
        .watch(&format!("{all}?resourceVersion={}", first.revision()))
        .await?;
    for what in ["one", "two", "three"] {
        t.note(what, &change(&mut watch, what).await?);
    }
    Ok(())
}

async fn transitions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("secrets"), lab.path("secrets/a"));
    let version = now(lab, "secrets").await?;
    let mut watch = lab
        .watch(&format!("{all}?labelSelector=on%3Dyes&resourceVersion={version}"))
        .await?;
    lab.make(&all, &mk_secret("a", json!({"on": "no"}))).await?;
    for (what, labels) in [
        ("enters", json!({"on": "yes"})),
        ("changes within", json!({"on": "yes", "n": "2"})),
        ("leaves", json!({"on": "no", "n": "3"})),
    ] {
        lab.put(&one, &mk_secret("a", labels)).await?.expect_ok(what)?;
        t.note(what, &change(&mut watch, what).await?);
    }
    lab.put(&one, &mk_secret("a", json!({"on": "no", "n": "4"})))
        .await?
        .expect_ok("change outside")?;
    lab.put(&one, &mk_secret("a", json!({"on": "yes"})))
        .await?
        .expect_ok("enter again")?;
    t.note("enters again", &change(&mut watch, "enters again").await?);
    lab.delete(&one).await?.expect_ok("delete")?;
    t.note("deleted", &change(&mut watch, "deleted").await?);
    Ok(())
}

async fn one_name(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    let version = now(lab, "secrets").await?;
    let mut watch = lab
        .watch(&format!(
            "{all}?fieldSelector=metadata.name%3Db&resourceVersion={version}"
        ))
        .await?;
    for name in ["a", "b", "c"] {
        lab.make(&all, &mk_secret(name, json!({}))).await?;
    }
    lab.delete(&lab.path("secrets/b")).await?.expect_ok("delete")?;
    for what in ["added", "deleted"] {
        t.note(what, &change(&mut watch, what).await?);
    }
    Ok(())
}

async fn initial_events(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    for name in ["a", "b"] {
        lab.make(&all, &mk_secret(name, json!({"on": "yes"}))).await?;
    }
    let path = format!(
        "{all}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=on"
    );
    let mut watch = lab.watch(&path).await?;
    let events = watch.until("a bookmark", |event| event["type"] == "BOOKMARK").await?;
    let mut names: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| pick(event, &["type", "object/metadata/name"]))
        .collect();
    names.sort_by_key(Value::to_string);
    t.note("events", &names);
    let bookmark = events.last().map(|event| {
        pick(
            event,
            &[
                "object/kind",
                "object/apiVersion",
                "object/metadata/annotations",
                "object/metadata/name",
            ],
        )
    });
    t.note("bookmark", &bookmark);
    let list = lab.get(&all).await?;
    let (then, after) = (
        events.last().and_then(|event| {
            event["object"]["metadata"]["resourceVersion"]
                .as_str()?
                .parse::<u64>()
                .ok()
        }),
        list.revision().parse::<u64>().ok(),
    );
    t.note("its version is not newer than a list", &(then <= after));
    lab.delete(&lab.path("secrets/a")).await?.expect_ok("delete")?;
    t.note(
        "then",
        &pick(&watch.change("deleted").await?, &["type", "object/metadata/name"]),
    );
    Ok(())
}

async fn initial_events_refused(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for query in [
        "watch=true&sendInitialEvents=true",
        "watch=true&sendInitialEvents=true&resourceVersionMatch=Exact",
        "watch=true&resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=false",
    ] {
        t.note(
            query,
            &lab.get(&format!("{}?{query}&timeoutSeconds=1", lab.path("secrets")))
                .await?,
        );
    }
    Ok(())
}

async fn timeout(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let mut watch = lab.watch(&format!("{}?timeoutSeconds=1", lab.path("secrets"))).await?;
    t.note("ends", &watch.ends(Duration::from_secs(20)).await?);
    Ok(())
}

async fn refused(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for query in [
        "resourceVersion=abc",
        "labelSelector=a%20b",
        "fieldSelector=spec.x%3D1",
        "timeoutSeconds=abc",
    ] {
        let answer = lab.get(&format!("{}?watch=true&{query}", lab.path("secrets"))).await?;
        t.note(query, &verdict(&answer));
    }
    Ok(())
}

async fn silent(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("secrets"), lab.path("secrets/a"));
    let made = lab.make(&all, &mk_secret("a", json!({"x": "1"}))).await?;
    let mut watch = lab.watch(&format!("{all}?resourceVersion={}", made.revision())).await?;
    lab.put(&one, &mk_secret("a", json!({"x": "1"})))
        .await?
        .expect_ok("the same")?;
    lab.post(&format!("{all}?dryRun=All"), &mk_secret("dry", json!({})))
        .await?
        .expect_ok("dry run")?;
    lab.delete(&format!("{one}?dryRun=All"))
        .await?
        .expect_ok("dry delete")?;
    lab.patch(&one, PatchKind::Merge, &json!({"metadata": {"labels": {"x": "1"}}}))
        .await?
        .expect_ok("patch")?;
    lab.put(&one, &mk_secret("a", json!({"x": "2"})))
        .await?
        .expect_ok("change")?;
    t.note("first event", &change(&mut watch, "a change").await?);
    Ok(())
}

async fn finalizer(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("secrets"), lab.path("secrets/a"));
    let mut secret = mk_secret("a", json!({}));
    secret["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let made = lab.make(&all, &secret).await?;
    let mut watch = lab.watch(&format!("{all}?resourceVersion={}", made.revision())).await?;
    let deleted = lab.delete(&one).await?;
    t.note("delete", &deleted);
    t.note("event of the delete", &watch.change("modified").await?);
    let patch = json!({"metadata": {"finalizers": null}});
    t.note("let go", &lab.patch(&one, PatchKind::Merge, &patch).await?);
    t.note("event of the end", &watch.change("deleted").await?);
    Ok(())
}

async fn collection(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    for name in ["a", "b", "c"] {
        lab.make(&all, &mk_secret(name, json!({}))).await?;
    }
    let mut watch = lab
        .watch(&format!("{all}?resourceVersion={}", now(lab, "secrets").await?))
        .await?;
    lab.delete(&all).await?.expect_ok("delete")?;
    let mut seen = Vec::new();
    for what in ["one", "two", "three"] {
        seen.push(pick(&watch.change(what).await?, &["type", "object/metadata/name"]));
    }
    seen.sort_by_key(Value::to_string);
    t.note("events", &seen);
    Ok(())
}

async fn everywhere(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let labels = json!({"case": lab.id});
    let mut watch = lab
        .watch(&format!("/api/v1/secrets?labelSelector=case%3D{}", lab.id))
        .await?;
    lab.make(&lab.path("secrets"), &mk_secret("a", labels)).await?;
    let event = watch.change("added").await?;
    t.note(
        "event",
        &pick(
            &event,
            &[
                "type",
                "object/metadata/namespace",
                "object/metadata/name",
                "object/kind",
                "object/apiVersion",
            ],
        ),
    );
    Ok(())
}
