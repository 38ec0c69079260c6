//! Operations as Operation Objects.

use serde_json::{Map, Value, json};

use super::comments;
use super::operation::Operation;
use super::path::{self, Place};
use super::schemas::Schemas;
use super::services::ServiceNames;
use super::{body, errors, query};

/// The Operation Object.
pub(super) fn operation(
    operation: &Operation,
    place: &Place,
    schemas: &Schemas<'_>,
    names: &ServiceNames,
    id: &str,
) -> Value {
    let method = &operation.method;
    let mut out = Map::new();
    out.insert("tags".into(), json!([names.of(method.parent_service())]));
    let comment = schemas.comments.of(&method.parent_file(), method.path());
    out.insert(
        "summary".into(),
        json!(comment.map_or_else(|| method.name().to_owned(), comments::summary)),
    );
    if let Some(text) = comment {
        out.insert("description".into(), json!(text));
    }
    out.insert("operationId".into(), json!(id));
    if method
        .method_descriptor_proto()
        .options
        .as_ref()
        .is_some_and(prost_types::MethodOptions::deprecated)
    {
        out.insert("deprecated".into(), json!(true));
    }
    let mut parameters = path::parameters(operation, place, schemas);
    parameters.extend(query::parameters(operation, schemas));
    parameters.extend(conditions(operation));
    if !parameters.is_empty() {
        out.insert("parameters".into(), Value::Array(parameters));
    }
    let request = body::request(operation, schemas);
    let has_body = request.is_some();
    if let Some(request) = request {
        out.insert("requestBody".into(), request);
    }
    let mut responses = Map::new();
    responses.insert("200".into(), body::success(operation));
    if is_conditional(operation) {
        responses.insert(
            "304".into(),
            json!({"description": "The resource still has the etag of `If-None-Match`."}),
        );
    }
    errors::add(&mut responses, has_body);
    out.insert("responses".into(), Value::Object(responses));
    Value::Object(out)
}

/// Whether `If-None-Match` means something.
fn is_conditional(operation: &Operation) -> bool {
    operation.rule.method == "GET" && !operation.method.is_server_streaming() && body::has_etag(operation)
}

/// Header parameters.
fn conditions(operation: &Operation) -> Vec<Value> {
    let header = |name: &str, text: &str| json!({"name": name, "in": "header", "description": text, "schema": {"type": "string"}, "examples": {"etag": {"value": "\"5f1c\""}}});
    let mut out = Vec::new();
    if is_conditional(operation) {
        out.push(header(
            "If-None-Match",
            "An etag in quotes; if the resource still has it, the answer is 304 without a body.",
        ));
    }
    if operation.rule.method != "GET" && operation.takes_etag() {
        out.push(header(
            "If-Match",
            "The etag in quotes that the resource must have, in place of the request's `etag`.",
        ));
    }
    out
}
