//! Types as JSON schemas: the mapping of the protobuf JSON format.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::Comments;
use super::messages::{declared, is_deprecated, scalar, well_known};
use super::usage::Usage;
use crate::behavior::Behavior;

/// Where component schemas are.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

/// Makes schemas.
pub(super) struct Schemas<'a> {
    pub(super) comments: &'a Comments,
    pub(super) usage: &'a Usage,
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
