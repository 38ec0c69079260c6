//! Types as JSON schemas: the mapping of the protobuf JSON format.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::SCHEMAS;
use super::comments::Comments;
use super::usage::Usage;
use crate::behavior::Behavior;

/// Makes schemas.
pub(super) struct Schemas<'a> {
    pub(super) comments: &'a Comments,
    pub(super) usage: &'a Usage,
}

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

fn well_known(full_name: &str) -> Option<Value> {
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

fn nullable(mut schema: Value) -> Value {
    let kind = schema["type"].take();
    schema["type"] = json!([kind, "null"]);
    schema
}

fn scalar(kind: &Kind) -> Value {
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

/// One value of a type.
fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Message(message) => reference(message),
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => json!({"type": "null"}),
        Kind::Enum(descriptor) => json!({"$ref": format!("{SCHEMAS}{}", descriptor.full_name())}),
        other => scalar(other),
    }
}

/// A message where it is used.
pub(super) fn reference(message: &MessageDescriptor) -> Value {
    well_known(message.full_name()).unwrap_or_else(|| json!({"$ref": format!("{SCHEMAS}{}", message.full_name())}))
}

/// A field's value: a list, a map or one value.
pub(super) fn value_of(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let value = value(&entry.map_entry_value_field().kind());
            let mut schema = json!({"type": "object", "additionalProperties": value});
            match entry.map_entry_key_field().kind() {
                Kind::String => {}
                Kind::Bool => schema["propertyNames"] = json!({"enum": ["true", "false"]}),
                _ => schema["propertyNames"] = json!({"pattern": "^-?[0-9]+$"}),
            }
            schema
        }
        kind if field.is_list() => json!({"type": "array", "items": value(&kind)}),
        kind => value(&kind),
    }
}

/// One value of a field as it stands in a path or a query.
pub(super) fn text(field: &FieldDescriptor) -> Value {
    let mut schema = value(&field.kind());
    // There is no text for null.
    if let Some(kind) = schema["type"].as_array().and_then(|kinds| kinds.first()).cloned() {
        schema["type"] = kind;
    }
    schema
}

impl Schemas<'_> {
    /// A field's comment.
    pub(super) fn comment_of_field(&self, field: &FieldDescriptor) -> Option<String> {
        self.comments
            .of(&field.parent_message().parent_file(), field.path())
            .map(str::to_owned)
    }

    /// A field's comment and what else must be known.
    pub(super) fn describe_field(&self, field: &FieldDescriptor) -> Option<String> {
        let mut parts: Vec<String> = self.comment_of_field(field).into_iter().collect();
        if let Some(oneof) = field
            .containing_oneof()
            .filter(|oneof| !oneof.is_synthetic() && oneof.fields().len() > 1)
        {
            let others: Vec<String> = oneof
                .fields()
                .filter(|other| other.number() != field.number())
                .map(|other| format!("`{}`", other.json_name()))
                .collect();
            parts.push(format!("Excludes {}.", others.join(", ")));
        }
        if Behavior::of(field).immutable {
            parts.push("Cannot be changed after creation.".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("\n\n"))
    }

    fn property(&self, field: &FieldDescriptor) -> Value {
        let behavior = Behavior::of(field);
        let mut schema = value_of(field);
        if let Some(text) = self.describe_field(field) {
            schema["description"] = json!(text);
        }
        if behavior.output_only {
            schema["readOnly"] = json!(true);
        }
        if behavior.input_only {
            schema["writeOnly"] = json!(true);
        }
        if is_deprecated(field) {
            schema["deprecated"] = json!(true);
        }
        schema
    }

    /// An object with some of a message's fields.
    pub(super) fn properties(
        &self,
        message: &MessageDescriptor,
        keep: impl Fn(&FieldDescriptor) -> bool,
    ) -> Map<String, Value> {
        let mut schema = Map::new();
        schema.insert("type".into(), json!("object"));
        let mut parts: Vec<String> = self
            .comments
            .of(&message.parent_file(), message.path())
            .map(str::to_owned)
            .into_iter()
            .collect();
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let names: Vec<String> = oneof
                .fields()
                .filter(|field| keep(field))
                .map(|field| format!("`{}`", field.json_name()))
                .collect();
            if names.len() > 1 {
                let comment = self
                    .comments
                    .of(&message.parent_file(), oneof.path())
                    .unwrap_or_default();
                parts.push(
                    format!("At most one of {} may be set. {comment}", names.join(", "))
                        .trim_end()
                        .to_owned(),
                );
            }
        }
        if !parts.is_empty() {
            schema.insert("description".into(), json!(parts.join("\n\n")));
        }
        let fields = declared(message).filter(|field| keep(field));
        let properties: Map<String, Value> = fields
            .map(|field| (field.json_name().to_owned(), self.property(&field)))
            .collect();
        if !properties.is_empty() {
            schema.insert("properties".into(), Value::Object(properties));
        }
        schema
    }

    /// What the component demands wherever it is used. Where only some uses demand a field, they say so themselves:
    /// a body that changes a part need not hold the rest, and a reply leaves out messages that are not set.
    pub(super) fn required(&self, message: &MessageDescriptor) -> Vec<String> {
        let name = message.full_name();
        if !self.usage.requests.contains(name) || self.usage.partial.contains(name) {
            return Vec::new();
        }
        let returned = self.usage.responses.contains(name);
        let always = |field: &FieldDescriptor| field.is_list() || field.is_map() || !field.supports_presence();
        declared(message)
            .filter(|field| Behavior::of(field).wanted() && !self.usage.in_path.contains(field.full_name()))
            .filter(|field| !returned || always(field))
            .map(|field| field.json_name().to_owned())
            .collect()
    }

    /// The component of a message.
    pub(super) fn message(&self, message: &MessageDescriptor) -> Value {
        let mut schema = self.properties(message, |_| true);
        let required = self.required(message);
        if !required.is_empty() {
            schema.insert("required".into(), json!(required));
        }
        // The gateway refuses what it does not know; clients should bear new fields in replies.
        if self.usage.requests.contains(message.full_name()) {
            schema.insert("additionalProperties".into(), json!(false));
        }
        if message
            .descriptor_proto()
            .options
            .as_ref()
            .is_some_and(prost_types::MessageOptions::deprecated)
        {
            schema.insert("deprecated".into(), json!(true));
        }
        Value::Object(schema)
    }

    /// The component of an enum.
    pub(super) fn enumeration(&self, descriptor: &EnumDescriptor) -> Value {
        let file = descriptor.parent_file();
        let declared = &descriptor.enum_descriptor_proto().value;
        let names: Vec<&str> = declared
            .iter()
            .map(prost_types::EnumValueDescriptorProto::name)
            .collect();
        let lines = names.iter().filter_map(|name| {
            let value = descriptor.get_value_by_name(name)?;
            let comment = self.comments.of(&file, value.path())?;
            Some(format!("- `{name}`: {}", comment.replace('\n', " ")))
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        let parts = [self.comments.of(&file, descriptor.path()).unwrap_or_default(), &lines];
        let text = parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n\n");
        let mut schema = json!({"type": "string", "enum": names});
        if !text.is_empty() {
            schema["description"] = json!(text);
        }
        schema
    }
}
