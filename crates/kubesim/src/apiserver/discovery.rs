//! Paths that are no resource: discovery, version, health, OpenAPI.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    ApiServer,
    exchange::Answer,
    groups::groups,
    openapi,
    registry::BareGroup,
    request::RequestInfo,
    resource::{Origin, ResourceDef, VersionDef, api_version},
    status::ApiError,
};

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The same in the order in which custom kinds have them.
const CUSTOM_VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// Answers a path that is no resource.
pub(crate) fn answer(server: &ApiServer, info: &RequestInfo) -> Result<Answer, ApiError> {
    let segments: Vec<&str> = info.path.split('/').filter(|part| !part.is_empty()).collect();
    let aggregated = info.accept.contains("as=APIGroupDiscoveryList") && info.accept.contains("g=apidiscovery.k8s.io");
    match segments.as_slice() {
        [] => Ok(Answer::json(
            200,
            &json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}),
        )),
        ["healthz" | "livez" | "readyz", ..] => Ok(Answer::text("ok")),
        ["version"] => Ok(Answer::json(200, &version(server))),
        ["api"] if aggregated => Ok(aggregated_answer(server, true)),
        ["apis"] if aggregated => Ok(aggregated_answer(server, false)),
        ["api"] => Ok(Answer::json(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        )),
        ["apis"] => Ok(Answer::json(200, &group_list(server))),
        ["apis", group] => {
            let groups = groups(server);
            let versions = groups
                .get(*group)
                .filter(|_| !group.is_empty())
                .ok_or_else(ApiError::no_such_page)?;
            let mut body = group_entry(group, versions);
            super::dig::object(&mut body).extend([
                ("kind".to_owned(), json!("APIGroup")),
                ("apiVersion".to_owned(), json!("v1")),
            ]);
            Ok(Answer::json(200, &body))
        }
        ["api", version] => resource_list(server, "", version),
        ["apis", group, version] => resource_list(server, group, version),
        ["openapi", "v2"] => Ok(Answer::json(200, &openapi::v2(server))),
        ["openapi", "v3"] => Ok(Answer::json(200, &openapi::v3_index(server))),
        ["openapi", "v3", "api", version] => openapi::v3(server, "", version),
        ["openapi", "v3", "apis", group, version] => openapi::v3(server, group, version),
        _ => Err(ApiError::no_such_path()),
    }
}

fn version(server: &ApiServer) -> Value {
    let git = &server.config().git_version;
    let mut numbers = git.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next().unwrap_or("1"), "minor": numbers.next().unwrap_or("36"), "gitVersion": git,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

fn group_entry(group: &str, versions: &[String]) -> Value {
    let entry = |version: &String| json!({"groupVersion": api_version(group, version), "version": version});
    let list: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": list, "preferredVersion": versions.first().map(entry)})
}

fn group_list(server: &ApiServer) -> Value {
    let groups = groups(server);
    let list: Vec<Value> = groups
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_entry(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
}

fn subresources(server: &ApiServer, def: &ResourceDef, version: &VersionDef) -> Vec<(String, Value)> {
    let mut list = Vec::new();
    if version.status {
        list.push((
            "status".to_owned(),
            json!({"kind": def.kind, "verbs": ["get", "patch", "update"]}),
        ));
    }
    if version.scale.is_some() {
        list.push((
            "scale".to_owned(),
            json!({"kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get", "patch", "update"]}),
        ));
    }
    match (def.group.as_str(), def.plural.as_str()) {
        ("", "pods") => {
            list.push((
                "eviction".to_owned(),
                json!({"kind": "Eviction", "group": "policy", "version": "v1", "verbs": ["create"]}),
            ));
            list.push(("binding".to_owned(), json!({"kind": "Binding", "verbs": ["create"]})));
            list.push(("log".to_owned(), json!({"kind": "Pod", "verbs": ["get"]})));
        }
        ("", "namespaces") => list.push(("finalize".to_owned(), json!({"kind": "Namespace", "verbs": ["update"]}))),
        ("", "serviceaccounts") => {
            list.push((
                "token".to_owned(),
                json!({"kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1", "verbs": ["create"]}),
            ));
        }
        _ => {}
    }
    list.extend(
        server
            .admission()
            .subresources_of(&def.group, &def.plural)
            .into_iter()
            .map(|sub| (sub, json!({"kind": def.kind, "verbs": ["update"]}))),
    );
    list
}

fn verbs(def: &ResourceDef) -> &'static [&'static str] {
    match def.origin {
        _ if def.virtual_only => &["create"],
        Origin::BuiltIn => VERBS,
        Origin::Preset | Origin::Custom => CUSTOM_VERBS,
    }
}

fn resource_list(server: &ApiServer, group: &str, version_name: &str) -> Result<Answer, ApiError> {
    let mut list = Vec::new();
    for def in server
        .store()
        .definitions()
        .into_iter()
        .filter(|def| def.group == group)
    {
        let Some(version) = def.version(version_name) else {
            continue;
        };
        let mut entry = json!({
            "name": def.plural, "singularName": def.singular, "namespaced": def.namespaced(), "kind": def.kind,
            "verbs": verbs(&def),
        });
        for (key, words) in [("shortNames", &def.short_names), ("categories", &def.categories)] {
            if !words.is_empty() {
                super::dig::object(&mut entry).insert(key.to_owned(), json!(words));
            }
        }
        super::dig::object(&mut entry).insert("storageVersionHash".to_owned(), json!(""));
        list.push(entry);
        for (sub, mut entry) in subresources(server, &def, version) {
            let map = super::dig::object(&mut entry);
            map.insert("name".to_owned(), json!(format!("{}/{sub}", def.plural)));
            map.insert("singularName".to_owned(), json!(""));
            map.insert("namespaced".to_owned(), json!(def.namespaced()));
            list.push(entry);
        }
    }
    for bare in server.admission().bare().iter().filter(|bare| bare.name == group) {
        list.extend(
            bare.subresources
                .iter()
                .map(|name| json!({"name": name, "singularName": "", "namespaced": true, "kind": "", "verbs": null})),
        );
    }
    let known = groups(server)
        .get(group)
        .is_some_and(|versions| versions.iter().any(|version| version == version_name));
    if !known {
        return Err(ApiError::no_such_page());
    }
    let mut body = json!({"kind": "APIResourceList"});
    let map = super::dig::object(&mut body);
    if !group.is_empty() {
        map.insert("apiVersion".to_owned(), json!("v1"));
    }
    map.insert("groupVersion".to_owned(), json!(api_version(group, version_name)));
    map.insert("resources".to_owned(), json!(list));
    Ok(Answer::json(200, &body))
}

fn aggregated_answer(server: &ApiServer, core: bool) -> Answer {
    let groups = groups(server);
    let defs = server.store().definitions();
    let items = groups
        .iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions = versions
                .iter()
                .map(|version| aggregated_version(server, &defs, group, version));
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions.collect::<Vec<_>>()})
        });
    let body = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items.collect::<Vec<_>>()});
    let mut answer = Answer::json(200, &body);
    answer.content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    answer
}

fn aggregated_version(
    server: &ApiServer,
    defs: &[std::sync::Arc<ResourceDef>],
    group: &str,
    version_name: &str,
) -> Value {
    let resources = defs.iter().filter(|def| def.group == group).filter_map(|def| {
        let version = def.version(version_name)?;
        let kind = |kind: &str, group: &str, version: &str| json!({"group": group, "version": version, "kind": kind});
        let subs: Vec<Value> = subresources(server, def, version)
            .into_iter()
            .map(|(sub, entry)| {
                let text =
                    |key: &str, otherwise: &str| entry.get(key).and_then(Value::as_str).unwrap_or(otherwise).to_owned();
                json!({
                    "subresource": sub, "verbs": entry.get("verbs"),
                    "responseKind": kind(&text("kind", ""), &text("group", group), &text("version", version_name)),
                })
            })
            .collect();
        let mut entry = json!({
            "resource": def.plural, "responseKind": kind(&def.kind, group, version_name),
            "scope": if def.namespaced() { "Namespaced" } else { "Cluster" },
            "singularResource": def.singular, "verbs": verbs(def),
        });
        let map = super::dig::object(&mut entry);
        for (key, list) in [
            ("shortNames", json!(def.short_names)),
            ("categories", json!(def.categories)),
            ("subresources", json!(subs)),
        ] {
            if !super::dig::is_void(&list) {
                map.insert(key.to_owned(), list);
            }
        }
        Some(entry)
    });
    let bare = server.admission().bare();
    let bare = bare.iter().filter(|bare| bare.name == group).flat_map(bare_resources);
    json!({"version": version_name, "resources": resources.chain(bare).collect::<Vec<_>>(), "freshness": "Current"})
}

/// The subresources of a group without resources, under what they are of.
fn bare_resources(group: &BareGroup) -> Vec<Value> {
    let nothing = json!({"group": "", "version": "", "kind": ""});
    let mut parents: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for name in group.subresources {
        let (parent, sub) = name.split_once('/').unwrap_or((*name, ""));
        let subs = parents.entry(parent).or_default();
        if !sub.is_empty() {
            subs.push(json!({"subresource": sub, "verbs": null, "responseKind": nothing}));
        }
    }
    let entry = |(name, subs): (&str, Vec<Value>)| {
        json!({
            "resource": name, "responseKind": nothing, "scope": "Namespaced", "singularResource": "", "verbs": null,
            "subresources": subs,
        })
    };
    parents.into_iter().map(entry).collect()
}
