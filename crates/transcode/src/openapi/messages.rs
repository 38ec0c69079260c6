//! What single messages and scalars are to the document.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

/// A message's fields in the order of the file.
pub(super) fn declared(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    let numbers: Vec<i32> = message
        .descriptor_proto()
        .field
        .iter()
        .map(prost_types::FieldDescriptorProto::number)
        .collect();
    let message = message.clone();
    numbers
        .into_iter()
        .filter_map(move |number| message.get_field(u32::try_from(number).ok()?))
}

/// Whether the JSON is not that of an ordinary message.
pub(super) fn is_well_known(message: &MessageDescriptor) -> bool {
    well_known(message.full_name()).is_some()
}

/// Whether the JSON has no fixed shape.
pub(super) fn is_free_form(message: &MessageDescriptor) -> bool {
    is_well_known(message) && !takes_text(message)
}

/// Whether paths and queries can hold it.
pub(super) fn takes_text(message: &MessageDescriptor) -> bool {
    let name = message.full_name();
    is_well_known(message)
        && !["Struct", "Value", "ListValue", "Any"]
            .iter()
            .any(|free| name.strip_prefix("google.protobuf.") == Some(free))
}

/// Whether the gateway passes it on as it is.
pub(super) fn is_http_body(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.api.HttpBody"
}

/// Whether it has an etag of its own.
pub(super) fn has_etag(message: &MessageDescriptor) -> bool {
    message
        .get_field_by_name("etag")
        .is_some_and(|field| field.kind() == Kind::String && !field.is_list())
}

/// Whether the field is on its way out.
pub(super) fn is_deprecated(field: &FieldDescriptor) -> bool {
    field
        .field_descriptor_proto()
        .options
        .as_ref()
        .is_some_and(prost_types::FieldOptions::deprecated)
}

pub(super) fn well_known(full_name: &str) -> Option<Value> {
    let schema = match full_name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00Z"]}),
        "Duration" => json!({"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["3.5s"]}),
        "FieldMask" => json!({"type": "string", "format": "field-mask", "examples": ["labels,spec.size"]}),
        "Struct" => json!({"type": "object", "additionalProperties": true}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array", "items": {}}),
        "Any" => json!({
            "type": "object",
            "required": ["@type"],
            "properties": {"@type": {"type": "string", "description": "Type URL of the message.", "examples": ["type.googleapis.com/google.rpc.ErrorInfo"]}},
            "additionalProperties": true,
        }),
        "DoubleValue" => nullable(scalar(&Kind::Double)),
        "FloatValue" => nullable(scalar(&Kind::Float)),
        "Int64Value" => nullable(scalar(&Kind::Int64)),
        "UInt64Value" => nullable(scalar(&Kind::Uint64)),
        "Int32Value" => nullable(scalar(&Kind::Int32)),
        "UInt32Value" => nullable(scalar(&Kind::Uint32)),
        "BoolValue" => nullable(scalar(&Kind::Bool)),
        "StringValue" => nullable(scalar(&Kind::String)),
        "BytesValue" => nullable(scalar(&Kind::Bytes)),
        _ => return None,
    };
    Some(schema)
}

pub(super) fn nullable(mut schema: Value) -> Value {
    let kind = schema["type"].take();
    schema["type"] = json!([kind, "null"]);
    schema
}

pub(super) fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Float => json!({"type": "number", "format": "float"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
        }
        Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Bytes => json!({"type": "string", "format": "byte", "contentEncoding": "base64"}),
        Kind::String | Kind::Message(_) | Kind::Enum(_) => json!({"type": "string"}),
    }
}
