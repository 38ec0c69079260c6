//! Examples of requests: what must be sent, and the plain fields beside it, with values that fit their types.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::messages;
use crate::behavior::Behavior;

/// How deep an example goes: below it only what must be sent.
const DEPTH: usize = 2;
/// How deep anything goes: types that must hold themselves have no example.
const MOST: usize = 8;

/// A message as a client would send it, without the fields that `elsewhere` says are given by the path; `None` where there is no end.
pub(super) fn message(message: &MessageDescriptor, elsewhere: &dyn Fn(&FieldDescriptor) -> bool) -> Option<Value> {
    ordinary(message, elsewhere, 0)
}

/// One field's value.
pub(super) fn field(field: &FieldDescriptor) -> Option<Value> {
    value_of(field, 0)
}

fn ordinary(message: &MessageDescriptor, elsewhere: &dyn Fn(&FieldDescriptor) -> bool, depth: usize) -> Option<Value> {
    if depth > MOST {
        return None;
    }
    let (mut out, mut chosen) = (Map::new(), Vec::new());
    for field in messages::declared(message).filter(|field| !elsewhere(field)) {
        let behavior = Behavior::of(&field);
        let is_plain = depth < DEPTH && !behavior.output_only && !is_bookkeeping(&field) && is_short(&field);
        if !(behavior.wanted() || is_plain) || messages::is_deprecated(&field) {
            continue;
        }
        if let Some(oneof) = field.containing_oneof() {
            if chosen.contains(&oneof.name().to_owned()) {
                continue;
            }
            chosen.push(oneof.name().to_owned());
        }
        match value_of(&field, depth + 1) {
            Some(value) => {
                out.insert(field.json_name().to_owned(), value);
            }
            None if behavior.wanted() => return None,
            None => {}
        }
    }
    Some(Value::Object(out))
}

/// What servers fill in or clients send for themselves: it says nothing about the resource.
fn is_bookkeeping(field: &FieldDescriptor) -> bool {
    matches!(
        field.name(),
        "name" | "etag" | "request_id" | "validate_only" | "update_mask" | "annotations"
    )
}

/// A value that fits on a line.
fn is_short(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) if field.is_map() => {
            let value = message.map_entry_value_field();
            !matches!(value.kind(), Kind::Message(_))
        }
        Kind::Message(message) => messages::is_well_known(&message) && !messages::is_free_form(&message),
        _ => true,
    }
}

fn value_of(field: &FieldDescriptor, depth: usize) -> Option<Value> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            return None;
        };
        let key = match entry.map_entry_key_field().kind() {
            Kind::String => "key",
            Kind::Bool => "true",
            _ => "1",
        };
        return Some(json!({key: one(&entry.map_entry_value_field(), depth)?}));
    }
    let value = one(field, depth)?;
    Some(if field.is_list() { json!([value]) } else { value })
}

fn one(field: &FieldDescriptor, depth: usize) -> Option<Value> {
    let value = match field.kind() {
        Kind::Message(message) if messages::is_well_known(&message) => well_known(&message)?,
        Kind::Message(message) => ordinary(&message, &|_| false, depth)?,
        Kind::Enum(descriptor) => json!(value_name(&descriptor)?),
        Kind::String => json!(field.name().replace('_', " ")),
        Kind::Bytes => json!("Ynl0ZXM="),
        Kind::Bool => json!(true),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => json!("1"),
        Kind::Double | Kind::Float => json!(1.5),
        _ => json!(1),
    };
    Some(value)
}

/// The first value that is not "unspecified".
fn value_name(descriptor: &EnumDescriptor) -> Option<String> {
    let declared = &descriptor.enum_descriptor_proto().value;
    let found = declared.iter().find(|value| value.number() != 0).or(declared.first())?;
    Some(found.name().to_owned())
}

fn well_known(message: &MessageDescriptor) -> Option<Value> {
    Some(match message.name() {
        "Timestamp" => json!("2026-01-31T12:00:00Z"),
        "Duration" => json!("3.5s"),
        "FieldMask" => json!("labels"),
        "Struct" => json!({"key": "value"}),
        "Value" | "StringValue" => json!("value"),
        "ListValue" => json!(["value"]),
        "DoubleValue" | "FloatValue" => json!(1.5),
        "Int64Value" | "UInt64Value" => json!("1"),
        "Int32Value" | "UInt32Value" => json!(1),
        "BoolValue" => json!(true),
        "BytesValue" => json!("Ynl0ZXM="),
        _ => return None,
    })
}
