//! How the API is spoken: media types, tables, discovery, and requests that make no sense.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::samples::{mk_config_map, mk_pod};
use crate::conformance::{Answer, Area, Lab, Transcript, cases, pick};

cases! { Area::ApiMachinery,
    "a-list-is-shown-as-a-table" => tables,
    "a-table-carries-as-much-of-its-objects-as-asked" => table_objects,
    "a-list-is-given-as-metadata-only" => metadata_only,
    "a-watch-sends-metadata-or-tables" => watched_forms,
    "a-media-type-that-is-not-known-is-refused" => media_types,
    "a-method-that-a-path-does-not-have-is-refused" => methods,
    "a-body-that-is-no-object-is-refused" => bodies,
    "a-body-of-another-kind-or-name-is-refused" => mismatches,
    "a-path-that-is-not-there-is-not-found" => paths,
    "yaml-is-understood" => yaml,
    "groups-and-resources-are-discovered" => discovery,
    "discovery-comes-in-one-piece" => aggregated,
    "versions-and-health-are-told" => versions,
    "the-api-describes-itself" => openapi,
    "who-am-i-is-answered" => whoami,
    "what-may-be-done-is-answered" => access,
    "a-token-that-is-not-known-does-not-authenticate" => tokens,
    "a-dry-run-needs-a-known-value" => dry_run,
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

async fn get_as(lab: &Lab, path: &str, accept: &str) -> Result<Answer> {
    lab.request(Method::GET, path).header("accept", accept).send().await
}

/// Columns and cells without the descriptions and the ages.
fn brief(table: &Value) -> Value {
    let columns: Vec<&Value> = table["columnDefinitions"].as_array().into_iter().flatten().collect();
    let named: Vec<Value> = columns
        .iter()
        .map(|column| pick(column, &["name", "type", "format", "priority"]))
        .collect();
    let cells = |row: &Value| {
        let cells = row["cells"].as_array().into_iter().flatten().zip(&columns);
        cells
            .filter(|(_, column)| column["name"] != "Age")
            .map(|(cell, _)| cell.clone())
            .collect::<Value>()
    };
    let rows: Vec<Value> = table["rows"].as_array().into_iter().flatten().map(cells).collect();
    json!({"kind": table["kind"], "apiVersion": table["apiVersion"], "columns": named, "cells": rows})
}

async fn tables(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("configmaps"), &mk_config_map("a")).await?;
    lab.make(&lab.path("pods"), &mk_pod("a")).await?;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"a": "1", "b": "2"}});
    lab.make(&lab.path("secrets"), &secret).await?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {
        "clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 80, "name": "web"}, {"port": 53, "protocol": "UDP", "name": "dns"}]}});
    lab.make(&lab.path("services"), &service).await?;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}});
    lab.make(&lab.path("leases"), &lease).await?;
    for path in ["configmaps/a", "pods/a", "secrets/a", "services/a", "leases/a"] {
        t.note(path, &brief(&get_as(lab, &lab.path(path), TABLE).await?.body));
    }
    t.note(
        "an empty list",
        &brief(
            &get_as(lab, &lab.path("configmaps?labelSelector=a%3Db"), TABLE)
                .await?
                .body,
        ),
    );
    t.note(
        "what is not there",
        &get_as(lab, &lab.path("configmaps/b"), TABLE).await?,
    );
    Ok(())
}

async fn table_objects(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("configmaps"), &mk_config_map("a")).await?;
    for include in ["None", "Metadata", "Object", "Some"] {
        let table = get_as(lab, &lab.path(&format!("configmaps/a?includeObject={include}")), TABLE).await?;
        t.note(
            include,
            &table.only(&[
                "rows/0/object/kind",
                "rows/0/object/apiVersion",
                "rows/0/object/data",
                "rows/0/object/metadata/name",
            ]),
        );
    }
    Ok(())
}

async fn metadata_only(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("configmaps"), &mk_config_map("a")).await?;
    t.note("one", &get_as(lab, &lab.path("configmaps/a"), PARTIAL).await?);
    let list = get_as(
        lab,
        &lab.path("configmaps?fieldSelector=metadata.name%3Da"),
        PARTIAL_LIST,
    )
    .await?;
    t.note(
        "list",
        &list.only(&[
            "kind",
            "apiVersion",
            "items/0/kind",
            "items/0/apiVersion",
            "items/0/metadata/name",
            "items/0/data",
        ]),
    );
    let patch = lab
        .request(Method::PATCH, lab.path("configmaps/a"))
        .header("accept", PARTIAL)
        .header("content-type", "application/merge-patch+json")
        .raw(json!({"metadata": {"labels": {"a": "b"}}}).to_string())
        .send()
        .await?;
    t.note("patch", &patch.only(&["kind", "metadata/labels", "data"]));
    let fallback = format!("{TABLE},application/json");
    t.note(
        "what cannot be a table",
        &get_as(lab, "/version", &fallback).await?.code,
    );
    Ok(())
}

async fn watched_forms(lab: &Lab, t: &mut Transcript) -> Result<()> {
    lab.make(&lab.path("configmaps"), &mk_config_map("a")).await?;
    let path = lab.path("configmaps?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Da");
    for (what, accept) in [("metadata", PARTIAL), ("table", TABLE)] {
        let answer = get_as(lab, &path, accept).await?;
        let text = answer
            .body
            .as_str()
            .map_or_else(|| answer.body.to_string(), str::to_owned);
        let first: Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
        let fields = [
            "type",
            "object/kind",
            "object/apiVersion",
            "object/metadata/name",
            "object/rows/0/cells/0",
            "object/rows/0/object/kind",
            "object/columnDefinitions/0/name",
        ];
        t.note(what, &pick(&first, &fields));
    }
    Ok(())
}

async fn media_types(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("configmaps"), lab.path("configmaps/a"));
    lab.make(&all, &mk_config_map("a")).await?;
    let body = mk_config_map("b").to_string();
    let post = |kind: &'static str| {
        lab.request(Method::POST, &all)
            .header("content-type", kind)
            .raw(body.clone())
            .send()
    };
    t.note("create as text", &post("text/plain").await?);
    t.note("create as a patch", &post("application/merge-patch+json").await?);
    let patch = |kind: &'static str| {
        lab.request(Method::PATCH, &one)
            .header("content-type", kind)
            .raw("{}")
            .send()
    };
    t.note("patch as json", &patch("application/json").await?);
    t.note("patch as text", &patch("text/plain").await?);
    t.note("read as text", &get_as(lab, &one, "text/csv").await?);
    t.note(
        "read as text or json",
        &get_as(lab, &one, "text/csv,application/json;q=0.5").await?.code,
    );
    t.note("read as anything", &get_as(lab, &one, "*/*").await?.code);
    t.note(
        "with a character set",
        &lab.request(Method::POST, &all)
            .header("content-type", "application/json; charset=utf-8")
            .raw(body.clone())
            .send()
            .await?
            .code,
    );
    Ok(())
}

async fn methods(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let (all, one) = (lab.path("configmaps"), lab.path("configmaps/a"));
    let body = mk_config_map("a");
    t.note("put a collection", &lab.put(&all, &body).await?);
    t.note("post one", &lab.post(&one, &body).await?);
    t.note("delete all namespaces", &lab.delete("/api/v1/namespaces").await?);
    t.note("delete a status", &lab.delete(&lab.path("pods/a/status")).await?);
    t.note(
        "create in all namespaces",
        &lab.post("/api/v1/configmaps", &body).await?,
    );
    Ok(())
}

async fn bodies(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    for (what, body) in [
        ("broken", "{\"kind\": \"ConfigMap\""),
        ("no object", "[]"),
        ("no json", "nonsense"),
        ("nothing", ""),
        ("no kind", "{\"apiVersion\": \"v1\", \"metadata\": {\"name\": \"a\"}}"),
        (
            "no version",
            "{\"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"b\"}}",
        ),
        ("an empty object", "{}"),
    ] {
        let answer = lab
            .request(Method::POST, &all)
            .header("content-type", "application/json")
            .raw(body)
            .send()
            .await?;
        t.note(what, &json!([answer.code, answer.at("reason")]));
    }
    Ok(())
}

async fn mismatches(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let all = lab.path("configmaps");
    lab.make(&all, &mk_config_map("a")).await?;
    let with = |key: &str, value: &str| {
        let mut body = mk_config_map("b");
        body[key] = json!(value);
        body
    };
    // Which words are said here depends on the types that are compiled in.
    for (what, key, value) in [
        ("another kind", "kind", "Secret"),
        ("an unknown kind", "kind", "Nothing"),
        ("another version", "apiVersion", "v2"),
        ("another group", "apiVersion", "apps/v1"),
    ] {
        let refused = lab.post(&all, &with(key, value)).await?;
        t.note(what, &json!([refused.code, refused.at("reason")]));
    }
    let mut elsewhere = mk_config_map("b");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    t.note("another namespace", &lab.post(&all, &elsewhere).await?);
    t.note(
        "another name",
        &lab.put(&lab.path("configmaps/a"), &mk_config_map("b")).await?,
    );
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    t.note("no name", &lab.post(&all, &nameless).await?);
    t.note(
        "no name at an update",
        &lab.put(&lab.path("configmaps/a"), &nameless).await?,
    );
    let mut other = mk_config_map("a");
    other["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    t.note("another uid", &lab.put(&lab.path("configmaps/a"), &other).await?);
    Ok(())
}

async fn paths(lab: &Lab, t: &mut Transcript) -> Result<()> {
    t.note("a resource", &lab.get(&lab.path("nothings")).await?);
    t.note("a version", &lab.get("/apis/apps/v9/deployments").await?);
    t.note("a group", &lab.get("/apis/nothing.example.com/v1/things").await?);
    t.note("a group's versions", &lab.get("/apis/nothing.example.com").await?);
    t.note("an object", &lab.get(&lab.path("configmaps/nothing")).await?);
    t.note(
        "an object of no namespace",
        &lab.get("/api/v1/namespaces/nothing/configmaps/a").await?,
    );
    t.note(
        "create in no namespace",
        &lab.post("/api/v1/namespaces/nothing/configmaps", &mk_config_map("a"))
            .await?,
    );
    t.note(
        "a list of no namespace",
        &lab.get("/api/v1/namespaces/nothing/configmaps").await?.only(&["items"]),
    );
    t.note("with a namespace where none is", &lab.get(&lab.path("nodes/a")).await?);
    t.note("beyond", &lab.get("/somewhere/else").await?.code);
    Ok(())
}

async fn yaml(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: {a: \"1\"}\ndata:\n  k: |\n    two\n    lines\n";
    let post = lab
        .request(Method::POST, lab.path("configmaps"))
        .header("content-type", "application/yaml")
        .raw(text);
    t.note("create", &post.send().await?);
    let broken = lab
        .request(Method::POST, lab.path("configmaps"))
        .header("content-type", "application/yaml")
        .raw("a: [");
    t.note("broken", &broken.send().await?.code);
    Ok(())
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|one| one["name"] == name)
}

async fn discovery(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let fields = [
        "name",
        "singularName",
        "namespaced",
        "kind",
        "group",
        "version",
        "shortNames",
        "categories",
    ];
    for (path, names) in [
        (
            "/api/v1",
            &[
                "pods",
                "pods/status",
                "pods/eviction",
                "configmaps",
                "namespaces",
                "secrets",
                "services",
            ][..],
        ),
        (
            "/apis/apps/v1",
            &["deployments", "deployments/scale", "deployments/status"][..],
        ),
        ("/apis/coordination.k8s.io/v1", &["leases"][..]),
        ("/apis/policy/v1", &["poddisruptionbudgets"][..]),
    ] {
        let answer = lab.get(path).await?;
        t.note(path, &answer.only(&["kind", "apiVersion", "groupVersion"]));
        let resources = answer.at("resources");
        for name in names {
            let found = named(&resources, name);
            t.note(name, &found.map(|one| pick(one, &fields)));
        }
        let verbs = |name: &str| {
            let mut verbs: Vec<String> = named(&resources, name)?["verbs"]
                .as_array()?
                .iter()
                .map(Value::to_string)
                .collect();
            verbs.sort();
            Some(verbs)
        };
        t.note("verbs of the first", &names.first().and_then(|name| verbs(name)));
    }
    t.note("versions", &lab.get("/api").await?.only(&["kind", "versions"]));
    let groups = lab.get("/apis").await?;
    t.note("groups", &groups.only(&["kind", "apiVersion"]));
    t.note("apps", &named(&groups.at("groups"), "apps").cloned());
    t.note("one group", &lab.get("/apis/apps").await?);
    Ok(())
}

async fn aggregated(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, group, resource) in [("/api", "", "pods"), ("/apis", "apps", "deployments")] {
        let answer = get_as(lab, path, accept).await?;
        t.note(
            path,
            &json!([
                answer.code,
                answer.at("kind"),
                answer.at("apiVersion"),
                answer.content_type
            ]),
        );
        let items = answer.at("items");
        let of_group = items
            .as_array()
            .into_iter()
            .flatten()
            .find(|item| item["metadata"]["name"].as_str().unwrap_or_default() == group);
        let version = of_group.map(|item| item["versions"][0].clone()).unwrap_or_default();
        t.note("version", &pick(&version, &["version", "freshness"]));
        let found = version["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["resource"] == resource)
            .cloned();
        let found = found.unwrap_or_default();
        t.note(
            resource,
            &pick(
                &found,
                &[
                    "resource",
                    "responseKind/kind",
                    "scope",
                    "singularResource",
                    "shortNames",
                    "categories",
                ],
            ),
        );
        let mut parts: Vec<String> = found["subresources"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| one["subresource"].to_string())
            .collect();
        parts.retain(|part| ["\"status\"", "\"scale\"", "\"eviction\"", "\"binding\""].contains(&part.as_str()));
        parts.sort();
        t.note("subresources", &parts);
    }
    Ok(())
}

async fn versions(lab: &Lab, t: &mut Transcript) -> Result<()> {
    t.note("version", &lab.get("/version").await?.only(&["major", "minor"]));
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = lab.get(path).await?;
        t.note(path, &json!([answer.code, answer.body]));
    }
    let answer = lab.get(&lab.path("configmaps")).await?;
    t.note("media type", &answer.content_type);
    t.note("cache", &answer.headers.get("cache-control").cloned());
    Ok(())
}

async fn openapi(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let index = lab.get("/openapi/v3").await?;
    for path in [
        "api/v1",
        "apis/apps/v1",
        "apis/coordination.k8s.io/v1",
        "apis/apiextensions.k8s.io/v1",
    ] {
        let url = index.text(&format!("paths/{}/serverRelativeURL", path.replace('/', "~1")));
        t.note(path, &!url.is_empty());
        if path == "apis/apps/v1" {
            let document = lab.get(&url).await?;
            t.note("document", &document.only(&["openapi"]));
        }
    }
    Ok(())
}

async fn whoami(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = lab
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &body)
        .await?;
    t.note("review", &answer.only(&["kind", "apiVersion"]));
    t.note("has a name", &!answer.text("status/userInfo/username").is_empty());
    let groups = answer.at("status/userInfo/groups");
    t.note(
        "is authenticated",
        &groups
            .as_array()
            .is_some_and(|groups| groups.contains(&json!("system:authenticated"))),
    );
    t.note(
        "read",
        &lab.get("/apis/authentication.k8s.io/v1/selfsubjectreviews").await?,
    );
    Ok(())
}

async fn access(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let attributes = json!({"namespace": lab.namespace, "verb": "create", "resource": "pods"});
    let group = "/apis/authorization.k8s.io/v1";
    let own = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}});
    t.note(
        "own",
        &lab.post(&format!("{group}/selfsubjectaccessreviews"), &own)
            .await?
            .only(&["kind", "spec", "status"]),
    );
    let neither = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}});
    t.note(
        "about nothing",
        &lab.post(&format!("{group}/selfsubjectaccessreviews"), &neither).await?,
    );
    let admin = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "somebody", "groups": ["system:masters"], "resourceAttributes": attributes}});
    t.note(
        "of an admin",
        &lab.post(&format!("{group}/subjectaccessreviews"), &admin)
            .await?
            .only(&["kind", "spec", "status"]),
    );
    Ok(())
}

async fn tokens(lab: &Lab, t: &mut Transcript) -> Result<()> {
    let review = |token: &str| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    t.note(
        "unknown",
        &lab.post(path, &review("unknown"))
            .await?
            .only(&["kind", "status/authenticated", "status/user"]),
    );
    t.note("none", &lab.post(path, &review("")).await?);
    Ok(())
}

async fn dry_run(lab: &Lab, t: &mut Transcript) -> Result<()> {
    t.note(
        "create",
        &lab.post(&lab.path("configmaps?dryRun=Some"), &mk_config_map("a"))
            .await?,
    );
    t.note("delete", &lab.delete(&lab.path("configmaps/a?dryRun=Some")).await?);
    t.note(
        "field validation",
        &lab.post(&lab.path("configmaps?fieldValidation=Some"), &mk_config_map("a"))
            .await?,
    );
    Ok(())
}
