//! Bodies of requests and replies.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::example;
use super::messages;
use super::operation::{Body, Operation};
use super::schemas::{self, Schemas};
use crate::behavior::Behavior;

/// What is sent or returned.
enum Content {
    Message(MessageDescriptor),
    Field(FieldDescriptor),
}

impl Content {
    fn is_raw(&self) -> bool {
        match self {
            Self::Message(message) => messages::is_http_body(message),
            Self::Field(field) => match field.kind() {
                Kind::Message(message) => !field.is_list() && messages::is_http_body(&message),
                _ => false,
            },
        }
    }

    fn schema(&self) -> Value {
        match self {
            Self::Message(message) => schemas::reference(message),
            Self::Field(field) => schemas::value_of(field),
        }
    }
}

fn raw() -> Value {
    json!({"*/*": {"schema": {"type": "string", "format": "binary"}}})
}

/// The Request Body Object, if there is a body.
pub(super) fn request(operation: &Operation, schemas: &Schemas<'_>) -> Option<Value> {
    let content = match &operation.body {
        Body::None => return None,
        Body::Whole => Content::Message(operation.method.input()),
        Body::Field(field) => Content::Field(field.clone()),
    };
    let field_wanted = matches!(&content, Content::Field(field) if Behavior::of(field).wanted());
    if content.is_raw() {
        return Some(json!({"required": field_wanted, "content": raw()}));
    }
    let (schema, anything_wanted) = match (&operation.body, &content) {
        (Body::Whole, Content::Message(message)) => whole(operation, message, schemas),
        (Body::Field(field), _) => part(operation, field, schemas),
        _ => (content.schema(), false),
    };
    let mut body = Map::new();
    if let Content::Field(field) = &content
        && let Some(text) = schemas.comment_of_field(field)
    {
        body.insert("description".into(), json!(text));
    }
    body.insert("required".into(), json!(field_wanted || anything_wanted));
    let example = example_of(operation, &content);
    let content = if operation.method.is_client_streaming() {
        requests(&schema)
    } else {
        let mut media = json!({"schema": schema});
        if let Some(example) = example {
            media["example"] = example;
        }
        json!({"application/json": media})
    };
    body.insert("content".into(), content);
    Some(Value::Object(body))
}

/// What a client could send.
fn example_of(operation: &Operation, content: &Content) -> Option<Value> {
    match content {
        Content::Message(message) => example::message(message, &|field| operation.bound(field.name()).is_some()),
        Content::Field(field) => match field.kind() {
            Kind::Message(message) if !field.is_list() && !field.is_map() && !messages::is_well_known(&message) => {
                let in_path =
                    |inner: &FieldDescriptor| operation.bound(&format!("{}.{}", field.name(), inner.name())).is_some();
                example::message(&message, &in_path)
            }
            _ => example::field(field),
        },
    }
}

/// The whole request, without what the path gives; and whether anything must be in it.
fn whole(operation: &Operation, message: &MessageDescriptor, schemas: &Schemas<'_>) -> (Value, bool) {
    let in_path = |field: &FieldDescriptor| operation.bound(field.name()).is_some();
    let wanted: Vec<String> = messages::declared(message)
        .filter(|field| Behavior::of(field).wanted() && !in_path(field))
        .map(|field| field.json_name().to_owned())
        .collect();
    if operation.bound_fields().all(|(path, _)| path.contains('.')) {
        return (with_required(schemas, message, &wanted), !wanted.is_empty());
    }
    let mut schema = schemas.properties(message, |field| !in_path(field));
    if !wanted.is_empty() {
        schema.insert("required".into(), json!(wanted));
    }
    schema.insert("additionalProperties".into(), json!(false));
    (Value::Object(schema), !wanted.is_empty())
}

/// One field of the request; and whether anything must be in it.
fn part(operation: &Operation, field: &FieldDescriptor, schemas: &Schemas<'_>) -> (Value, bool) {
    let schema = schemas::value_of(field);
    let Kind::Message(message) = field.kind() else {
        return (schema, false);
    };
    if field.is_list() || field.is_map() || messages::is_well_known(&message) || operation.is_partial() {
        return (schema, false);
    }
    let in_path = |inner: &FieldDescriptor| operation.bound(&format!("{}.{}", field.name(), inner.name())).is_some();
    let wanted: Vec<String> = messages::declared(&message)
        .filter(|inner| Behavior::of(inner).wanted() && !in_path(inner))
        .map(|inner| inner.json_name().to_owned())
        .collect();
    (with_required(schemas, &message, &wanted), !wanted.is_empty())
}

/// A reference, and what must be there besides what the component itself demands.
fn with_required(schemas: &Schemas<'_>, message: &MessageDescriptor, wanted: &[String]) -> Value {
    let reference = schemas::reference(message);
    let demanded = schemas.required(message);
    let missing: Vec<&String> = wanted.iter().filter(|name| !demanded.contains(name)).collect();
    if missing.is_empty() {
        reference
    } else {
        json!({"allOf": [reference, {"required": missing}]})
    }
}

fn reply(operation: &Operation) -> Content {
    match &operation.response_body {
        Some(field) => Content::Field(field.clone()),
        None => Content::Message(operation.method.output()),
    }
}

/// Whether the reply carries an etag.
pub(super) fn has_etag(operation: &Operation) -> bool {
    match reply(operation) {
        Content::Message(message) => messages::has_etag(&message),
        Content::Field(field) => match field.kind() {
            Kind::Message(message) => !field.is_list() && !field.is_map() && messages::has_etag(&message),
            _ => false,
        },
    }
}

/// The response of status 200.
pub(super) fn success(operation: &Operation) -> Value {
    let reply = reply(operation);
    let streaming = operation.method.is_server_streaming();
    let mut response = json!({"description": if streaming { "A stream of replies." } else { "OK" }});
    if !streaming && has_etag(operation) {
        response["headers"] =
            json!({"ETag": {"description": "The resource's etag, in quotes.", "schema": {"type": "string"}}});
    }
    response["content"] = match (reply.is_raw(), streaming) {
        (true, _) => raw(),
        (false, false) => json!({"application/json": {"schema": reply.schema()}}),
        (false, true) => stream(&reply.schema()),
    };
    response
}

/// The two shapes of a stream of requests.
fn requests(item: &Value) -> Value {
    json!({
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One request a line, as JSON."},
            "x-item-schema": item,
        },
        "application/json": {"schema": {"type": "array", "items": item}},
    })
}

/// The three shapes of a stream. OpenAPI 3.1 has no words for the items of the first two.
fn stream(item: &Value) -> Value {
    let text = |text: &str| json!({"schema": {"type": "string", "description": text}, "x-item-schema": item});
    json!({
        "application/x-ndjson": text("One reply a line, as JSON; after a failure the last line is an error."),
        "text/event-stream": text("Server-sent events, each with one reply as JSON in `data`; a failure is an event `error`."),
        "application/json": {"schema": {"type": "array", "items": item}},
    })
}
