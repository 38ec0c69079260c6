//! OpenAPI: enough for `kubectl apply` and `kubectl explain` to find the schemas that there are.

use serde_json::{Map, Value, json};

use super::{
    ApiServer, builtin_schema,
    exchange::Answer,
    groups::groups,
    resource::{ResourceDef, VersionDef, api_version},
    status::ApiError,
};

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// The empty document of OpenAPI v2.
pub(crate) fn v2(server: &ApiServer) -> Value {
    json!({
        "swagger": "2.0",
        "info": {"title": "simulated Kubernetes", "version": server.config().git_version},
        "paths": {}, "definitions": {},
    })
}

/// Where the document of each group and version is.
pub(crate) fn v3_index(server: &ApiServer) -> Value {
    let mut paths = Map::new();
    for (group, versions) in groups(server) {
        for version in versions {
            let prefix = prefix(&group, &version);
            let hash = server.store().definitions().len();
            paths.insert(
                prefix.clone(),
                json!({"serverRelativeURL": format!("{}/openapi/v3/{prefix}?hash={hash}", server.config().base_path)}),
            );
        }
    }
    json!({"paths": paths})
}

/// The document of one group and version.
pub(crate) fn v3(server: &ApiServer, group: &str, version_name: &str) -> Result<Answer, ApiError> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for def in server
        .store()
        .definitions()
        .into_iter()
        .filter(|def| def.group == group)
    {
        let Some(version) = def.version(version_name) else {
            continue;
        };
        let gvk = json!({"group": group, "version": version_name, "kind": def.kind});
        let name = schema_name(&def, version_name);
        schemas.insert(name.clone(), schema(&def, version, &gvk));
        paths.extend(def_paths(&def, version_name, &gvk, &name));
    }
    if schemas.is_empty() {
        return Err(ApiError::no_such_path());
    }
    Ok(Answer::json(
        200,
        &json!({
            "openapi": "3.0.0",
            "info": {"title": "simulated Kubernetes", "version": server.config().git_version},
            "paths": paths,
            "components": {"schemas": schemas},
        }),
    ))
}

fn schema_name(def: &ResourceDef, version: &str) -> String {
    let mut parts: Vec<&str> = def.group.split('.').filter(|part| !part.is_empty()).collect();
    parts.reverse();
    if parts.is_empty() {
        parts.push("io.k8s.api.core");
    }
    format!("{}.{version}.{}", parts.join("."), def.kind)
}

fn schema(def: &ResourceDef, version: &VersionDef, gvk: &Value) -> Value {
    let known = version.schema.clone().or_else(|| builtin_schema::of(def));
    let mut schema = match known {
        Some(schema) => schema.as_ref().clone(),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    let map = super::dig::object(&mut schema);
    map.insert("x-kubernetes-group-version-kind".to_owned(), json!([gvk]));
    map.entry("description")
        .or_insert_with(|| json!(format!("{} of {}.", def.kind, api_version(&def.group, &version.name))));
    let properties = super::dig::object(map.entry("properties").or_insert_with(|| json!({})));
    properties
        .entry("apiVersion")
        .or_insert_with(|| json!({"type": "string", "description": "Version of the schema that this object follows."}));
    properties
        .entry("kind")
        .or_insert_with(|| json!({"type": "string", "description": "Name of the type."}));
    properties.insert(
        "metadata".to_owned(),
        json!({"type": "object", "description": "Standard metadata.", "x-kubernetes-preserve-unknown-fields": true}),
    );
    schema
}

fn def_paths(def: &ResourceDef, version: &str, gvk: &Value, schema: &str) -> Vec<(String, Value)> {
    let space = if def.namespaced() {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let base = format!("/{}{space}/{}", prefix(&def.group, version), def.plural);
    let query = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let content = json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    let operation = |action: &str, parameters: &[&str]| {
        json!({
            "parameters": parameters.iter().map(|name| query(name)).collect::<Vec<_>>(),
            "responses": {"200": {"description": "OK", "content": content}},
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
        })
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let one = json!({
        "get": operation("get", &[]),
        "put": operation("put", &write),
        "patch": operation("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
        "delete": operation("delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
    });
    let many = json!({"get": operation("list", &["limit", "continue"]), "post": operation("post", &write)});
    vec![(base.clone(), many), (format!("{base}/{{name}}"), one)]
}
