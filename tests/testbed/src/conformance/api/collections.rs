//! Lists: selectors, pages, the moment that they show, and deleting all of them.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::objects::verdict;
use crate::conformance::{Answer, Area, Lab, Transcript, cases};

cases! { Area::ApiMachinery,
    "label-selectors-know-all-operators" => labels,
    "bad-label-selectors-are-refused" => bad_labels,
    "field-selectors-choose-by-name-and-kind" => fields,
    "bad-field-selectors-are-refused" => bad_fields,
    "pods-are-chosen-by-node-and-phase" => pods,
    "a-list-comes-in-pages-of-one-moment" => pages,
    "pages-of-a-selection-do-not-count-the-rest" => selected_pages,
    "a-bad-page-is-refused" => bad_pages,
    "a-list-is-in-the-order-of-names" => order,
    "a-list-at-a-version-is-at-least-as-new" => not_older,
    "a-list-of-an-exact-version-shows-that-moment" => exact,
    "a-list-with-a-bad-version-is-refused" => bad_versions,
    "a-list-of-all-namespaces-has-them-all" => everywhere,
    "a-collection-is-deleted-by-its-selector" => delete_selected,
    "a-dry-run-of-deleting-a-collection-deletes-nothing" => delete_dry,
    "an-empty-list-has-an-empty-array" => empty,
}

fn mk_secret(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}})
}

async fn fill(lab: &Lab) -> Result<()> {
    let all = lab.path("secrets");
    let samples = [
        ("a", json!({"env": "prod", "tier": "web"})),
        ("b", json!({"env": "prod"})),
        ("c", json!({"env": "test", "tier": "db"})),
        ("d", json!({})),
        ("e", json!({"env": ""})),
    ];
    for (name, labels) in samples {
        lab.make(&all, &mk_secret(name, labels)).await?;
    }
    Ok(())
}

fn names(answer: &Answer) -> Value {
    if answer.ok() {
        json!(answer.names())
    } else {
        answer.only(&[])
    }
}

/// A query's value as it must stand in a URL.
fn escaped(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes()
        .map(|byte| {
            if keep(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

async fn labels(lab: &Lab, t: &mut Transcript) -> Result<()> {
    fill(lab).await?;
    for selector in [
        "env=prod",
        "env==prod",
        "env!=prod",
        "env",
        "!env",
        "env=",
        "env in (prod, test)",
        "env notin (prod)",
        "env=prod,tier",
        "env in (prod),tier notin (db)",
        "env in ()",
        "env in (,prod)",
        "",
        " env = prod ",
    ] {
        let path = format!("{}?labelSelector={}", lab.path("secrets"), escaped(selector));
        t.note(selector, &names(&lab.get(&path).await?));
    }
    Ok(())
}

async fn bad_labels(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for selector in ["a=b c", "a in", "=a", "a,,b", "!a=b", "a/b/c=d", "a=-", "a in (b"] {
        let path = format!("{}?labelSelector={}", lab.path("secrets"), escaped(selector));
        t.note(selector, &verdict(&lab.get(&path).await?));
    }
    Ok(())
}

async fn fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    fill(lab).await?;
    let mut typed = mk_secret("typed", json!({"env": "prod"}));
    typed["type"] = json!("example.com/x");
    lab.make(&lab.path("secrets"), &typed).await?;
    for selector in [
        "metadata.name=a",
        "metadata.name==b",
        "metadata.name!=a",
        "type=Opaque",
        "type!=Opaque",
        "metadata.name=none",
        "metadata.name=a,type=Opaque",
    ] {
        let path = format!("{}?fieldSelector={}", lab.path("secrets"), escaped(selector));
        t.note(selector, &names(&lab.get(&path).await?));
    }
    let path = format!(
        "/api/v1/secrets?fieldSelector={}",
        escaped(&format!("metadata.namespace={}", lab.namespace))
    );
    t.note("metadata.namespace", &names(&lab.get(&path).await?));
    let path = format!(
        "{}?fieldSelector=type%3DOpaque&labelSelector=env%3Dprod",
        lab.path("secrets")
    );
    t.note("with labels", &names(&lab.get(&path).await?));
    Ok(())
}

async fn bad_fields(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for (resource, selector) in [
        ("secrets", "spec.foo=1"),
        ("secrets", "metadata.name"),
        ("configmaps", "data.k=v"),
        ("pods", "spec.containers=1"),
        ("deployments", "spec.replicas=1"),
    ] {
        let path = format!("{}?fieldSelector={}", lab.path(resource), escaped(selector));
        t.note(
            &format!("{resource} {selector}"),
            &lab.get(&path).await?.only(&["items"]),
        );
    }
    Ok(())
}

async fn pods(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("pods");
    for name in ["a", "b"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"schedulerName": "nobody", "restartPolicy": if name == "a" { "Never" } else { "Always" },
                "containers": [{"name": "c", "image": "x"}]}});
        lab.make(&all, &pod).await?;
    }
    for selector in [
        "status.phase=Pending",
        "status.phase!=Pending",
        "spec.nodeName=",
        "spec.nodeName=none",
        "spec.restartPolicy=Never",
        "spec.schedulerName=nobody",
        "status.podIP=",
    ] {
        let path = format!("{all}?fieldSelector={}", escaped(selector));
        t.note(selector, &names(&lab.get(&path).await?));
    }
    Ok(())
}

async fn pages(lab: &Lab, t: &mut Transcript) -> Result<()> {
    fill(lab).await?;
    let all = lab.path("secrets");
    let seen = |answer: &Answer| {
        let mut seen = answer.only(&["metadata"]);
        seen["names"] = json!(answer.names());
        seen
    };
    let first = lab.get(&format!("{all}?limit=2")).await?;
    t.note("first page", &seen(&first));
    lab.delete(&format!("{all}/d")).await?.expect_ok("delete")?;
    lab.make(&all, &mk_secret("c2", json!({}))).await?;
    let path = |answer: &Answer| format!("{all}?limit=2&continue={}", escaped(&answer.text("metadata/continue")));
    let second = lab.get(&path(&first)).await?;
    t.note("second page", &seen(&second));
    t.note("second page again", &seen(&lab.get(&path(&first)).await?));
    t.note("last page", &seen(&lab.get(&path(&second)).await?));
    t.note("one page", &seen(&lab.get(&format!("{all}?limit=5")).await?));
    t.note("no limit", &lab.get(&format!("{all}?limit=0")).await?.names());
    Ok(())
}

async fn selected_pages(lab: &Lab, t: &mut Transcript) -> Result<()> {
    fill(lab).await?;
    let all = lab.path("secrets");
    let first = lab.get(&format!("{all}?limit=1&labelSelector=env")).await?;
    t.note(
        "first page",
        &first.only(&[
            "metadata/remainingItemCount",
            "metadata/continue",
            "items/0/metadata/name",
        ]),
    );
    let token = escaped(&first.text("metadata/continue"));
    let rest = lab.get(&format!("{all}?labelSelector=env&continue={token}")).await?;
    t.note("rest", &names(&rest));
    t.note("end", &rest.only(&["metadata/continue"]));
    Ok(())
}

async fn bad_pages(lab: &Lab, t: &mut Transcript) -> Result<()> {
    fill(lab).await?;
    let all = lab.path("secrets");
    t.note(
        "rubbish",
        &verdict(&lab.get(&format!("{all}?limit=1&continue=rubbish")).await?),
    );
    let first = lab.get(&format!("{all}?limit=1")).await?;
    let token = escaped(&first.text("metadata/continue"));
    let path = format!("{all}?limit=1&continue={token}&resourceVersion=1");
    t.note("with a version", &lab.get(&path).await?);
    let path = format!("{all}?limit=1&continue={token}&resourceVersionMatch=Exact");
    t.note("with a match", &lab.get(&path).await?);
    t.note(
        "a word as limit",
        &verdict(&lab.get(&format!("{all}?limit=many")).await?),
    );
    Ok(())
}

async fn order(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for name in ["b", "a-1", "a", "a.1", "c", "10", "9"] {
        lab.make(&lab.path("secrets"), &mk_secret(name, json!({}))).await?;
    }
    let list = lab.get(&lab.path("secrets")).await?;
    let names: Vec<Value> = (0..7)
        .map(|place| list.at(&format!("items/{place}/metadata/name")))
        .collect();
    t.note("names", &names);
    t.note("kind", &list.only(&["kind", "apiVersion", "items/0/type"]));
    Ok(())
}

async fn not_older(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    let first = lab.make(&all, &mk_secret("a", json!({}))).await?;
    let second = lab.make(&all, &mk_secret("b", json!({}))).await?;
    let newest = second.revision();
    let at = async |query: String| lab.get(&format!("{all}?{query}")).await;
    t.note("newest", &names(&at(format!("resourceVersion={newest}")).await?));
    t.note(
        "newest, said",
        &names(&at(format!("resourceVersion={newest}&resourceVersionMatch=NotOlderThan")).await?),
    );
    let older = at(format!(
        "resourceVersion={}&resourceVersionMatch=NotOlderThan",
        first.revision()
    ))
    .await?;
    t.note("older", &older.names().contains(&"a".to_owned()));
    Ok(())
}

async fn exact(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("secrets");
    lab.make(&all, &mk_secret("a", json!({}))).await?;
    let then = lab.make(&all, &mk_secret("b", json!({"v": "1"}))).await?;
    lab.delete(&lab.path("secrets/a")).await?.expect_ok("delete")?;
    lab.put(&lab.path("secrets/b"), &mk_secret("b", json!({"v": "2"})))
        .await?
        .expect_ok("update")?;
    let path = format!("{all}?resourceVersion={}&resourceVersionMatch=Exact", then.revision());
    let list = lab.get(&path).await?;
    t.note("names", &names(&list));
    t.note("label", &list.only(&["items/1/metadata/labels"]));
    t.note("its version", &(list.revision() == then.revision()));
    t.note("now", &names(&lab.get(&all).await?));
    Ok(())
}

async fn bad_versions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Other",
        "resourceVersion=abc",
        "sendInitialEvents=true",
    ] {
        t.note(
            query,
            &lab.get(&format!("{}?{query}", lab.path("secrets")))
                .await?
                .only(&["items"]),
        );
    }
    Ok(())
}

async fn everywhere(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let other = format!("case-other-{}", lab.id);
    lab.clean_up(format!("/api/v1/namespaces/{other}")).await;
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}});
    lab.make("/api/v1/namespaces", &body).await?;
    let labels = json!({"case": lab.id});
    lab.make(&lab.path("secrets"), &mk_secret("here", labels.clone()))
        .await?;
    lab.make(
        &format!("/api/v1/namespaces/{other}/secrets"),
        &mk_secret("there", labels),
    )
    .await?;
    let list = lab
        .get(&format!("/api/v1/secrets?labelSelector=case%3D{}", lab.id))
        .await?;
    t.note(
        "list",
        &list.only(&[
            "kind",
            "items/0/metadata/namespace",
            "items/0/metadata/name",
            "items/1/metadata/namespace",
            "items/1/metadata/name",
            "items/2",
        ]),
    );
    t.note(
        "create without a namespace",
        &verdict(&lab.post("/api/v1/secrets", &mk_secret("x", json!({}))).await?),
    );
    Ok(())
}

async fn delete_selected(lab: &Lab, t: &mut Transcript) -> Result<()> {
    fill(lab).await?;
    let all = lab.path("secrets");
    let gone = lab.delete(&format!("{all}?labelSelector=env%3Dprod")).await?;
    t.note("delete by label", &gone.only(&["kind", "apiVersion", "status"]));
    t.note("gone", &gone.names());
    t.note("left", &names(&lab.get(&all).await?));
    lab.delete(&format!("{all}?fieldSelector=metadata.name%3Dc"))
        .await?
        .expect_ok("delete")?;
    t.note("left after the name", &names(&lab.get(&all).await?));
    t.note(
        "bad selector",
        &verdict(&lab.delete(&format!("{all}?labelSelector=a%20b")).await?),
    );
    let none = lab.delete(&format!("{all}?labelSelector=nobody")).await?;
    t.note("nothing chosen", &none.only(&["kind", "items"]));
    lab.delete(&all).await?.expect_ok("delete")?;
    t.note("left at the end", &names(&lab.get(&all).await?));
    Ok(())
}

async fn delete_dry(lab: &Lab, t: &mut Transcript) -> Result<()> {
    fill(lab).await?;
    let all = lab.path("secrets");
    t.note("delete", &names(&lab.delete(&format!("{all}?dryRun=All")).await?));
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]});
    t.note(
        "delete with a body",
        &names(&lab.call(Method::DELETE, &all, Some(&options)).await?),
    );
    t.note("left", &names(&lab.get(&all).await?));
    Ok(())
}

async fn empty(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let list = lab.get(&lab.path("secrets")).await?;
    t.note("core", &list.only(&["kind", "apiVersion", "items"]));
    let list = lab.get(&lab.path("deployments")).await?;
    t.note("apps", &list.only(&["kind", "apiVersion", "items"]));
    t.note("unknown resource", &verdict(&lab.get(&lab.path("nothings")).await?));
    Ok(())
}
