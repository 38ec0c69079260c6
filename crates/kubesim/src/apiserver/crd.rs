//! CustomResourceDefinitions: what they make the server serve.

use serde_json::{Value, json};
use std::sync::Arc;

use super::{
    ApiServer, Verb, builtin_schema, dig,
    exchange::Target,
    kinds,
    resource::{Column, Origin, ResourceDef, ScalePaths, Scope, VersionDef},
    rules::Rules,
    schema,
    status::{ApiError, Cause},
    store::Key,
    validate,
};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

fn is_crd(def: &ResourceDef) -> bool {
    def.group == GROUP && def.plural == PLURAL
}

/// Prunes, defaults and validates by the schema; returns warnings.
///
/// # Errors
///
/// 422 with every cause; 400 for unknown fields when the client asked for strictness.
pub(crate) fn admit_schema(
    target: &Target<'_>,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, ApiError> {
    if is_crd(target.def) {
        check_definition(target.def, object)?;
        establish(target.server, object);
    }
    if target.def.origin == Origin::BuiltIn {
        let warnings = known_fields(target, object)?;
        kinds::check(target.def, old, object)?;
        return Ok(warnings);
    }
    let Some(version) = target.def.stored() else {
        return Ok(Vec::new());
    };
    let Some(schema) = version.schema.as_deref() else {
        return Ok(Vec::new());
    };
    let warnings = without_unknown(target, object, schema)?;
    schema::drop_nulls(object, schema);
    schema::default(object, schema);
    let mut causes = Vec::new();
    validate::validate(object, schema, "", &mut causes);
    if let Some(rules) = version.rules.as_ref() {
        if causes.iter().any(hides_rules) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            causes.push(Cause::new(
                "FieldValueInvalid",
                "<nil>",
                format!("Invalid value: null: {why}"),
            ));
        } else {
            causes.extend(rules.check(object, old));
        }
    }
    if !causes.is_empty() {
        return Err(ApiError::invalid(target.def, dig::meta(object, "name"), causes));
    }
    Ok(warnings)
}

/// Whether an object is so wrong that rules about it make no sense.
fn hides_rules(cause: &Cause) -> bool {
    matches!(
        cause.reason.as_str(),
        "FieldValueNotSupported"
            | "FieldValueRequired"
            | "FieldValueTooLong"
            | "FieldValueTooMany"
            | "FieldValueTypeInvalid"
    )
}

/// The schemas of built-in types only tell what there is; their unknown fields are taken out all the same.
fn known_fields(target: &Target<'_>, object: &mut Value) -> Result<Vec<String>, ApiError> {
    match builtin_schema::of(target.def) {
        Some(schema) => without_unknown(target, object, &schema),
        None => Ok(Vec::new()),
    }
}

/// Takes unknown fields out; refuses them, warns of them or says nothing, as the client asks.
fn without_unknown(target: &Target<'_>, object: &mut Value, schema: &Value) -> Result<Vec<String>, ApiError> {
    let mut unknown = Vec::new();
    schema::prune(object, schema, "", &mut unknown);
    let custom = target.def.origin != Origin::BuiltIn;
    if custom {
        unknown.sort();
    }
    let strict = target.info.query.get("fieldValidation") == Some("Strict");
    match unknown.first() {
        None => return Ok(Vec::new()),
        Some(first) if custom && strict && target.info.content_type == "application/apply-patch+yaml" => {
            return Err(not_mergeable(target, first));
        }
        Some(_) => {}
    }
    let unknown: Vec<String> = unknown
        .into_iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect();
    match target.info.query.get("fieldValidation") {
        Some("Strict") if custom && target.info.verb == Verb::Patch => Err(bad_patch(object, &unknown)),
        Some("Strict") => Err(strictly_refused(target, &unknown)),
        Some("Ignore") => Ok(Vec::new()),
        _ => Ok(unknown),
    }
}

/// 400 for fields that strict decoding does not take.
pub(crate) fn strictly_refused(target: &Target<'_>, faults: &[String]) -> ApiError {
    let kind = &target.def.kind;
    let how = match (target.def.origin, target.info.verb) {
        (origin, Verb::Create | Verb::Update) => {
            let version = match origin {
                Origin::BuiltIn => target.def.api_version(&target.version.name),
                _ => target.version.name.clone(),
            };
            format!("{kind} in version \"{version}\" cannot be handled as a {kind}: ")
        }
        _ => String::new(),
    };
    ApiError::bad_request(format!("{how}strict decoding error: {}", faults.join(", ")))
}

/// An applied configuration with fields that no schema declares cannot be merged at all.
fn not_mergeable(target: &Target<'_>, path: &str) -> ApiError {
    let message = format!(
        "failed to create typed patch object (/{}; {}, Kind={}): .{path}: field not declared in schema",
        target.info.name.as_deref().unwrap_or_default(),
        target.def.api_version(&target.version.name),
        target.def.kind,
    );
    ApiError::new(500, "", message)
}

/// 422 for a patch after which an object cannot be decoded.
fn bad_patch(object: &Value, faults: &[String]) -> ApiError {
    let shown = json!(object.to_string());
    let message = format!("Invalid value: {shown}: strict decoding error: {}", faults.join(", "));
    let mut error = ApiError::new(422, "Invalid", format!(" \"\" is invalid: patch: {message}"));
    error.details.causes = vec![Cause::new("FieldValueInvalid", "patch", message)];
    error
}

/// Fields of an applied configuration that its type does not have.
pub(crate) fn undeclared(target: &Target<'_>, config: &Value) -> Option<String> {
    let schema = builtin_schema::of(target.def).filter(|_| target.def.origin == Origin::BuiltIn)?;
    let mut unknown = Vec::new();
    schema::prune(&mut config.clone(), &schema, "", &mut unknown);
    unknown.into_iter().next()
}

fn check_definition(def: &ResourceDef, crd: &Value) -> Result<(), ApiError> {
    let name = dig::meta(crd, "name");
    let mut causes = Vec::new();
    let mut required = |field: &str, present: bool| {
        if !present {
            causes.push(Cause::new("FieldValueRequired", field, "Required value"));
        }
    };
    let text = |path: &[&str]| dig::text(crd, path).to_owned();
    let (group, plural) = (text(&["spec", "group"]), text(&["spec", "names", "plural"]));
    required("spec.group", !group.is_empty());
    required("spec.names.plural", !plural.is_empty());
    required("spec.names.kind", !text(&["spec", "names", "kind"]).is_empty());
    let scope = text(&["spec", "scope"]);
    required("spec.scope", !scope.is_empty());
    let versions = dig::items(crd, &["spec", "versions"]);
    required("spec.versions", !versions.is_empty());
    if !matches!(scope.as_str(), "Namespaced" | "Cluster" | "") {
        let message = format!("Unsupported value: {scope:?}: supported values: \"Cluster\", \"Namespaced\"");
        causes.push(Cause::new("FieldValueNotSupported", "spec.scope", message));
    }
    if name != format!("{plural}.{group}") {
        let message = format!("Invalid value: \"{name}\": must be spec.names.plural+\".\"+spec.group");
        causes.push(Cause::new("FieldValueInvalid", "metadata.name", message));
    }
    if versions
        .iter()
        .filter(|version| version.get("storage") == Some(&Value::Bool(true)))
        .count()
        != 1
    {
        causes.push(Cause::new(
            "FieldValueInvalid",
            "spec.versions",
            "Invalid value: must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        let field = format!("spec.versions[{index}].schema.openAPIV3Schema");
        match dig::at(version, &["schema", "openAPIV3Schema"]) {
            None => causes.push(Cause::new("FieldValueRequired", field, "Required value")),
            Some(schema) => {
                let errors = Rules::compile(schema).map(|rules| rules.errors()).unwrap_or_default();
                causes.extend(
                    errors
                        .into_iter()
                        .map(|error| Cause::new("FieldValueInvalid", field.clone(), format!("Invalid value: {error}"))),
                );
            }
        }
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(def, name, causes))
    }
}

/// Conditions and accepted names: this server establishes a definition at once.
fn establish(server: &ApiServer, crd: &mut Value) {
    let kind = dig::text(crd, &["spec", "names", "kind"]).to_owned();
    let names = dig::object_at(crd, &["spec", "names"]);
    names
        .entry("singular")
        .or_insert_with(|| json!(kind.to_ascii_lowercase()));
    names.entry("listKind").or_insert_with(|| json!(format!("{kind}List")));
    let names = Value::Object(names.clone());
    dig::object_at(crd, &["spec"])
        .entry("conversion")
        .or_insert_with(|| json!({"strategy": "None"}));
    let stored: Vec<Value> = dig::items(crd, &["spec", "versions"])
        .iter()
        .filter(|version| version.get("storage") == Some(&Value::Bool(true)))
        .filter_map(|version| version.get("name").cloned())
        .collect();
    let now = server.timestamp();
    let status = dig::object_at(crd, &["status"]);
    status.insert("acceptedNames".to_owned(), names);
    status.insert("storedVersions".to_owned(), Value::Array(stored));
    status.entry("conditions").or_insert_with(|| {
        json!([
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found", "lastTransitionTime": now},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted", "lastTransitionTime": now},
        ])
    });
}

/// After an object was written: serves what a definition says.
pub(crate) fn object_written(server: &ApiServer, def: &ResourceDef, object: &Value) {
    if is_crd(def)
        && let Some(custom) = definition(object)
    {
        server.store().register(custom);
    }
}

/// After an object was removed: a definition takes its objects with it.
pub(crate) fn object_removed(server: &ApiServer, def: &ResourceDef, object: &Value) {
    if !is_crd(def) {
        return;
    }
    let group = dig::text(object, &["spec", "group"]);
    let plural = dig::text(object, &["spec", "names", "plural"]);
    if let Some(collection) = server.store().collection(group, plural) {
        for stored in collection.list("").0 {
            let key = Key::new(dig::meta(&stored.value, "namespace"), dig::meta(&stored.value, "name"));
            let _ = collection.remove(&key, stored.revision, stored.value.clone());
        }
    }
    server.store().unregister(group, plural);
}

/// The resource that a definition describes.
pub(crate) fn definition(crd: &Value) -> Option<ResourceDef> {
    let names = dig::at(crd, &["spec", "names"])?;
    let kind = names.get("kind")?.as_str()?.to_owned();
    let plural = names.get("plural")?.as_str()?.to_owned();
    let texts = |key: &str| {
        dig::items(names, &[key])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let all = dig::items(crd, &["spec", "versions"]);
    let storage = all
        .iter()
        .find(|version| version.get("storage") == Some(&Value::Bool(true)))?;
    let served = all
        .iter()
        .filter(|version| version.get("served") != Some(&Value::Bool(false)));
    let scope = if dig::text(crd, &["spec", "scope"]) == "Cluster" {
        Scope::Cluster
    } else {
        Scope::Namespaced
    };
    Some(ResourceDef {
        group: dig::text(crd, &["spec", "group"]).to_owned(),
        versions: served.map(version).collect(),
        storage: dig::text(storage, &["name"]).to_owned(),
        singular: names
            .get("singular")
            .and_then(Value::as_str)
            .map_or_else(|| kind.to_ascii_lowercase(), str::to_owned),
        list_kind: names
            .get("listKind")
            .and_then(Value::as_str)
            .map_or_else(|| format!("{kind}List"), str::to_owned),
        short_names: texts("shortNames"),
        categories: texts("categories"),
        plural,
        kind,
        scope,
        origin: Origin::Custom,
        virtual_only: false,
    })
}

fn version(version: &Value) -> VersionDef {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let columns = dig::items(version, &["additionalPrinterColumns"])
        .iter()
        .map(|column| Column {
            name: text(column, "name"),
            kind: text(column, "type"),
            path: text(column, "jsonPath"),
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
        });
    VersionDef {
        name: text(version, "name"),
        rules: dig::at(version, &["schema", "openAPIV3Schema"]).and_then(Rules::compile),
        schema: dig::at(version, &["schema", "openAPIV3Schema"]).cloned().map(Arc::new),
        status: dig::at(version, &["subresources", "status"]).is_some(),
        scale: dig::at(version, &["subresources", "scale"]).map(|scale| ScalePaths {
            spec: text(scale, "specReplicasPath"),
            status: text(scale, "statusReplicasPath"),
            selector: text(scale, "labelSelectorPath"),
        }),
        columns: columns.collect(),
        selectable: dig::items(version, &["selectableFields"])
            .iter()
            .map(|field| text(field, "jsonPath"))
            .collect(),
    }
}
